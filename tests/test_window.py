"""PyBullet's real window on a virtual screen."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panda_rl import agents, window
from panda_rl.errors import WindowClosed
from panda_rl.window import has_display
from tests import screens
from tests.conftest import Run, call_test, eventually

import gymnasium as gym
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import Xlib.display
from gymnasium.utils.env_checker import check_env

pytestmark = pytest.mark.slow
SCRIPTS = ["random", "train", "test"]


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
    env = gym.make("PandaReach-v2", render_mode="human", control_type="ee")
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


def test_what_a_window_shows_can_be_recorded(display: str, run: Run, tmp_path: Path) -> None:
    gif = tmp_path / "window.gif"
    result = run("panda_reach_test_agent.py", "--render", "--episodes", 1, "--record", gif)
    assert (result.returncode, result.stderr) == (0, "")
    with PIL.Image.open(gif) as picture:
        assert len(list(PIL.ImageSequence.Iterator(picture))) > 10
        assert picture.size == (480, 320)


def test_a_window_that_no_longer_answers_counts_as_closed(
    display: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "ANSWER_SECONDS", 2)
    env = gym.make("PandaReach-v2", render_mode="human").unwrapped
    env.reset(seed=0)
    (process,) = multiprocessing.active_children()
    assert process.pid
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(WindowClosed, match="no longer answers"):
        for _ in range(500):  # as many as would fill the pipe
            env.step(np.zeros(3, np.float32))
    env.close()
    assert not multiprocessing.active_children()


def start(script: str, clone: Path) -> subprocess.Popen:
    more = ["--episodes", "1000"] if script == "test" else []
    if script == "train":
        more = ["--render", "--total-timesteps", "100000"]
    return subprocess.Popen(
        [sys.executable, "-u", clone / f"panda_reach_{script}_agent.py", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("end", ["close", "ctrl-c"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_open_a_window_and_end_with_it(
    x: Xlib.display.Display, clone: Path, script: str, end: str
) -> None:
    process = start(script, clone)
    assert process.stdout
    said = ""
    while script != "train" and not ("Random actions" in said or "Playing" in said):
        line = process.stdout.readline()  # those words come right before it plays
        assert line, "it ended before it played"
        said += line
    (opened,) = eventually(lambda: windows(x), "no window")
    eventually(
        lambda: process.poll() is not None or shows_robot_and_target(screenshot(x)),
        "the window does not show the robot",
    )
    assert process.poll() is None
    agent = clone / "rl-trained-agents" / "PandaReach_PPO_v2_ee_dense_1.zip"
    if script == "train":  # let it start to train
        eventually(agent.exists)
        time.sleep(1)
    if end == "close":
        opened.kill_client()  # what a window manager does for PyBullet's window
        x.sync()
    else:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    output = said + output
    assert "thread" not in (output + errors).lower()  # PyBullet's chatter
    if script == "train":
        assert process.returncode == 130, output + errors
        stopped, command = errors.splitlines()
        assert "Stopped at" in stopped
        assert "--resume" in command
        assert agent.exists()
    else:
        assert (process.returncode, errors) == (0, ""), output
    assert not windows(x)
    assert has_display()


def test_a_recording_whose_window_is_closed_before_its_first_frame(
    x: Xlib.display.Display, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy_of = agents.SavedAgent.policy

    def policy_of_and_close_the_window(*args: Any) -> Any:
        policy = policy_of(*args)
        eventually(lambda: windows(x))[0].kill_client()
        x.sync()
        eventually(lambda: not multiprocessing.active_children())
        return policy

    monkeypatch.setattr(agents.SavedAgent, "policy", policy_of_and_close_the_window)
    result = call_test("--render", "--record", tmp_path / "film.gif")
    assert (result.returncode, result.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
