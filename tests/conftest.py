"""The real scripts: in a copy of the repository, run from another folder, or in this process."""

import contextlib
import io
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from docs.run_notebook import copy_tracked
from panda_rl import agents, cli, evaluation
from tests import screens

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = [(control, reward) for control in ("ee", "joints") for reward in ("dense", "sparse")]
SHIPPED = ROOT / "rl-trained-agents" / "PandaReach_PPO_v2_ee_dense.zip"
RUN = "PandaReach_PPO_v2_ee_dense_1"
"""The name of the first run in a fresh clone."""

os.environ.pop("DISPLAY", None)  # a test that wants a window takes the display fixture

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux: its signals, terminals, devices or limits"
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The scripts and the shipped agents and curves, as in a fresh clone."""
    folder = tmp_path / "a clone"
    copy_tracked(folder, ":(glob)*.py", "panda_rl", "rl-trained-agents", "runs")
    return folder


@pytest.fixture
def hasty(clone: Path) -> None:
    """The clone's scripts judge on four goals, which saves five seconds each."""
    evaluation = clone / "panda_rl" / "evaluation.py"
    before, after = evaluation.read_text().split("JUDGING_SEED + 100")
    evaluation.write_text(f"{before}JUDGING_SEED + 4{after}")


@pytest.fixture
def run(clone: Path, tmp_path: Path) -> Run:
    """Run one of the clone's scripts from a folder that is not the clone."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(script: str, *arguments: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        defaults: dict[str, Any] = {
            "cwd": elsewhere,
            "capture_output": True,
            "text": True,
            "timeout": 600,
        }
        return subprocess.run(
            [sys.executable, str(clone / script), *map(str, arguments)], **defaults | kwargs
        )

    return run


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a script in this process, with evaluations on four goals: seconds sooner than ``run``.

    Agents and curves go to ``tmp_path / "agents"`` and ``tmp_path / "runs"``.
    """
    monkeypatch.setattr(cli, "AGENTS", tmp_path / "agents")
    monkeypatch.setattr(cli, "RUNS", tmp_path / "runs")
    for name in ("CHOOSING_GOALS", "JUDGING_GOALS"):
        monkeypatch.setattr(evaluation, name, getattr(evaluation, name)[:4])

    def call(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(ROOT / script), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        handlers = {number: signal.getsignal(number) for number in cli.STOPS}
        output, errors, code = io.StringIO(), io.StringIO(), 0
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                runpy.run_path(words[0], run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())

    return call


@pytest.fixture(scope="session")
def screen() -> Iterator[str]:
    """A virtual screen's DISPLAY; PyBullet's real window opens on it."""
    need("Xvfb")
    with screens.virtual_screen() as display:
        yield display


@pytest.fixture
def display(screen: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DISPLAY", screen)
    return screen


def need(program: str) -> None:
    """Skip without a Debian package: never in CI, where it is installed."""
    if shutil.which(program) is None:
        message = f"{program} is missing: apt install {screens.PACKAGES[program]}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def eventually(
    condition: Callable[[], Any],
    what: str = "it has not become true",
    seconds: float = 60,
) -> Any:
    """What ``condition`` returns, once that is true; fails with ``what`` if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return value


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """A user error: exit code 2 and one clear line on stderr, without a terminal's codes."""
    assert result.returncode == code, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "\x1b" not in result.stderr
    for word in words:
        assert word in result.stderr


def assert_fine(result: subprocess.CompletedProcess[str]) -> None:
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


def row(output: str, name: str) -> str:
    """A value in the table that a script prints."""
    return re.findall(rf"^ *{re.escape(name)} +(.*?) *$", output, re.M)[0]


def weights(agent: Path) -> dict[str, list]:
    return {name: tensor.tolist() for name, tensor in agents.read(agent).weights.items()}


def curves(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Of each curve the steps and the values; those that tell the time are left out."""
    events = curves(folder)
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/")
    }
