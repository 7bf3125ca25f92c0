"""PyBullet's real window on a virtual screen."""

import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import screens
import Xlib.display
from conftest import Run, call, eventually
from gymnasium.utils.env_checker import check_env

import panda_reach_env
import panda_reach_test_agent
import panda_reach_utils as utils

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
    time.sleep(0.5)
    assert not windows(x)


def test_what_a_window_shows_can_be_recorded(display: str, run: Run, tmp_path: Path) -> None:
    gif = tmp_path / "window.gif"
    result = run("panda_reach_test_agent.py", "--render", "--episodes", 1, "--record", gif)
    assert (result.returncode, result.stderr) == (0, "")
    with PIL.Image.open(gif) as picture:
        assert len(list(PIL.ImageSequence.Iterator(picture))) > 10
        assert picture.size == (480, 320)


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
    (window,) = eventually(lambda: windows(x), "no window")
    eventually(
        lambda: process.poll() is not None or shows_robot_and_target(screenshot(x)),
        "the window does not show the robot",
    )
    assert process.poll() is None
    agent = clone / "rl-trained-agents" / "PandaReach_PPO_v2_ee_dense_1.zip"
    if script == "train":  # let it come to train
        eventually(agent.exists)
        time.sleep(1)
    if end == "close":
        window.kill_client()  # what a window manager does for PyBullet's window
        x.sync()
    else:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    output = said + output
    assert errors == ""
    assert "Traceback" not in output
    assert "thread" not in output.lower()  # PyBullet's chatter
    assert process.returncode == (130 if script == "train" else 0), output
    if script == "train":
        assert "Stopped at" in output
        assert agent.exists()
    assert not windows(x)
    assert panda_reach_env.has_display()


def test_a_recording_whose_window_is_closed_before_its_first_frame(
    x: Xlib.display.Display, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_agent = utils.load_agent

    def load_and_close_the_window(*args: Any, **kwargs: Any) -> tuple:
        policy, env = load_agent(*args, **kwargs)
        eventually(lambda: windows(x))[0].kill_client()
        x.sync()
        env.get_wrapper_attr("_window")._process.wait(60)
        return policy, env

    monkeypatch.setattr(utils, "load_agent", load_and_close_the_window)
    film = tmp_path / "film.gif"
    result = call(panda_reach_test_agent.test_agent, "--render", "--record", film)
    assert (result.returncode, result.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
