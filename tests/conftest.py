"""The real scripts: in a copy of the repository, run from another folder, or in this process."""

import contextlib
import functools
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import panda_reach_random_agent
import panda_reach_test_agent
import panda_reach_train_agent
from docs.run_notebook import copy_tracked
from panda_rl import agents, cli, configs, evaluation, files
from tests import screens

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
    folder.mkdir()
    for script in ROOT.glob("*.py"):
        shutil.copy(script, folder)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "panda_rl", folder / "panda_rl", ignore=caches)
    copy_tracked(folder, "rl-trained-agents", "runs")
    return folder


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


def call(
    function: Callable[..., Any],
    *words: object,
    parse: Callable[[list[str]], Any] | None = None,
) -> subprocess.CompletedProcess[str]:
    """What a script does with its command line, in this process: seconds sooner than ``run``."""
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "12")
    with _undone():
        sys.argv = [f"{function.__name__}.py", *map(str, words)]
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                cli.run(function, parse)
        except SystemExit as stop:
            for file in (output, errors):
                file.seek(0)
            code = int(stop.code or 0)
            return subprocess.CompletedProcess(sys.argv, code, output.read(), errors.read())


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    """Undo what a script changes in its process, because this process goes on."""
    argv, hook = sys.argv, threading.excepthook
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        sys.argv, threading.excepthook = argv, hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def call_random(*words: object) -> subprocess.CompletedProcess[str]:
    return call(panda_reach_random_agent.random_agent, *words)


def call_train(*words: object) -> subprocess.CompletedProcess[str]:
    parse = functools.partial(configs.parse, panda_reach_train_agent.RECIPES)
    return call(panda_reach_train_agent.train, *words, parse=parse)


def call_test(*words: object) -> subprocess.CompletedProcess[str]:
    return call(panda_reach_test_agent.test_agent, *words)


@pytest.fixture
def few_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations in this process play four goals instead of 20 or 100, to save time."""
    evaluate = evaluation.evaluate

    def evaluate_few(policy: Any, env: Any, seeds: range, *more: Any) -> Any:
        return evaluate(policy, env, seeds[:4], *more)

    monkeypatch.setattr(evaluation, "evaluate", evaluate_few)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_goals: None) -> Path:
    """Where runs and agents go that are made in this process."""
    for name in ("RUNS", "AGENTS"):
        monkeypatch.setattr(files, name, tmp_path / name)
        (tmp_path / name).mkdir()
    return tmp_path


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
    every: float = 0.1,
) -> Any:
    """What ``condition`` returns, once that is true; fails with ``what`` if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(every)
    return value


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """A user error: exit code 2 and one clear line on stderr, without a terminal's codes."""
    assert result.returncode == code, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "\x1b" not in result.stderr
    for word in words:
        assert word in result.stderr


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
