"""PyBullet's real window on a virtual screen."""

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
import Xlib.display
from gymnasium.utils.env_checker import check_env

import panda_reach_train_agent as training
from panda_rl import agents, callbacks, recipes
from panda_rl.cli import UsageError
from tests import screens
from tests.conftest import (
    RUN,
    SHIPPED,
    Run,
    assert_one_line,
    eventually,
    is_alive,
    linux_only,
    row,
)

pytestmark = pytest.mark.slow
SCRIPTS: dict[str, list[Any]] = {
    "random": ["--episodes", "1000"],
    "test": [SHIPPED, "--episodes", "1000"],
    "train": ["--render", "--total-timesteps", "100000", "--n-envs", "2", "--no-subprocesses"],
}


@pytest.fixture
def x(display: str) -> Iterator[Xlib.display.Display]:
    connection = Xlib.display.Display(display)
    yield connection
    connection.close()


def windows(x: Xlib.display.Display) -> list:
    return [w for w in x.screen().root.query_tree().children if "Bullet" in (w.get_wm_name() or "")]


def screenshot(x: Xlib.display.Display) -> np.ndarray:
    return np.asarray(screens.screenshot(x.screen().root)).astype(int)


def shows_robot_and_target(picture: np.ndarray) -> bool:
    """Panda-gym's red backdrop, the white arm before it, the green target."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    backdrop = (red > 180) & (green < 90) & (blue < 90)
    rows, columns = np.nonzero(backdrop)
    if len(rows) < 10_000:
        return False
    sky = np.s_[: rows.max() // 2, columns.min() : columns.max()]
    arm = (np.abs(red - blue) < 40) & (red > 100) & (green > 100)
    target = (green > 1.5 * red) & (green > 1.5 * blue) & (green > 80)
    return bool(arm[sky].sum() > 1000 and target.sum() > 20)


def test_human_mode_passes_gymnasiums_checker(display: str) -> None:
    env = gym.make("PandaReach-v2", render_mode="human").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    env.close()


def test_the_window_shows_the_arm_move_in_real_time(x: Xlib.display.Display) -> None:
    env = gym.make("PandaReach-v2", render_mode="human")
    env.reset(seed=1)
    start = time.perf_counter()
    for _ in range(25):
        env.step(np.array([0.2, 0.0, 0.0], np.float32))
    assert time.perf_counter() - start > 24 / 25  # never faster than life
    time.sleep(1)
    before = screenshot(x)
    assert shows_robot_and_target(before)
    for _ in range(10):
        env.step(np.array([-1.0, 1.0, 1.0], np.float32))
    time.sleep(1)
    after = screenshot(x)
    assert shows_robot_and_target(after)
    assert (np.abs(before - after).sum(-1) > 60).sum() > 2000
    env.close()
    eventually(lambda: not windows(x), "the window is still there")


@pytest.mark.parametrize("task", ["Push", "Stack", "Flip"])
def test_the_window_shows_the_cubes_where_they_are(x: Xlib.display.Display, task: str) -> None:
    env: Any = gym.make(f"Panda{task}-v2", render_mode="human")
    env.reset(seed=1)
    time.sleep(1)
    before = screenshot(x)
    sim = env.unwrapped.panda.sim
    (name, *_) = (name for name in sim._bodies_idx if name.startswith("object"))
    sim.set_base_pose(name, np.array([0.2, 0.0, 0.3]), np.array([0, 0, 0, 1]))
    env.unwrapped.observe()  # nothing else moves
    time.sleep(1)
    assert (np.abs(before - screenshot(x)).sum(-1) > 60).sum() > 300
    env.close()


@pytest.mark.usefixtures("display")
def test_while_training_the_window_shows_one_episode_after_another() -> None:
    config = replace(recipes.RECIPES["ee", "dense"], render=True, subprocesses=False)
    watch: Any = callbacks.Watch(config)
    watch.init_callback(training.make_model(config, training.make_env(config)))
    panda = watch.env.unwrapped.panda
    first = panda.task.goal.copy()

    def another_goal() -> bool:
        watch.on_step()
        return bool(np.any(panda.task.goal != first))

    eventually(another_goal)
    watch.env.close()


@pytest.mark.parametrize(
    ("script", "end"), [*((script, "close") for script in SCRIPTS), ("train", "ctrl-c")]
)
def test_scripts_open_a_window_and_end_with_it(
    x: Xlib.display.Display, clone: Path, script: str, end: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", clone / f"panda_reach_{script}_agent.py", *SCRIPTS[script]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    said = ""
    while not any(words in said for words in ("random actions", "Playing", "0/100,000")):
        line = process.stdout.readline()
        assert line, said
        said += line
    (opened,) = eventually(lambda: windows(x), "no window")
    eventually(
        lambda: process.poll() is not None or shows_robot_and_target(screenshot(x)),
        "the window does not show the robot",
    )
    assert process.poll() is None
    if script == "train":  # it moves there while it learns
        before = screenshot(x)
        eventually(lambda: (np.abs(before - screenshot(x)).sum(-1) > 60).sum() > 500)
    else:
        time.sleep(3)  # an episode of two seconds
    family = psutil.Process(process.pid).children(recursive=True)
    if end == "close":
        opened.kill_client()  # what a window manager does for PyBullet's window
        x.sync()
    else:
        os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    output = said + output
    assert errors == "" and "thread" not in output.lower()  # PyBullet's chatter
    if script == "train":
        assert process.returncode == 130
        assert "Stopped at" in output and "--resume" in output
        agents.read(clone / "rl-trained-agents" / f"{RUN}.zip")
    elif script == "test":
        assert process.returncode == 0
        assert int(row(output, "episodes").split()[0]) >= 1
    else:
        assert process.returncode == 0
        assert "The installation works" in output
    eventually(lambda: not windows(x), "the window is still there")
    eventually(lambda: not any(map(is_alive, family)), "a process was left behind")


# ------------------------------------------------------------------ no window


@pytest.fixture
def mute() -> Iterator[str]:
    """A display that accepts a connection and never answers."""
    folder = Path("/tmp/.X11-unix")
    folder.mkdir(exist_ok=True)
    number = 1000 + os.getpid()
    path = folder / f"X{number}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield f":{number}"
    path.unlink()


@linux_only
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_window_that_can_not_open_is_one_line(
    script: str, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    result = call(f"panda_reach_{script}_agent.py", *SCRIPTS[script], "--render")
    assert_one_line(result, "window", ":99", "--no-render")


@linux_only
@pytest.mark.parametrize("display", [None, "nonsense", "mute"])
def test_an_environment_without_a_window_is_one_clear_error(
    display: str | None, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if display:
        monkeypatch.setenv("DISPLAY", mute if display == "mute" else display)
    with pytest.raises(UsageError, match="can't open a window"):
        gym.make("PandaReach-v2", render_mode="human")
    children = filter(is_alive, psutil.Process().children())
    assert not [child for child in children if "panda_rl.window" in child.cmdline()]
