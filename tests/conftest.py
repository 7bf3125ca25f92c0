"""The real scripts, in a copy of the repository, run from another folder."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import screens

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = [(control, reward) for control in ("ee", "joints") for reward in ("dense", "sparse")]

sys.path.insert(0, str(ROOT))
os.environ.pop("DISPLAY", None)  # a test that wants a window takes the display fixture

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The scripts and the shipped agents and curves, as in a fresh clone."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for script in ROOT.glob("*.py"):
        shutil.copy(script, folder)
    for shipped in ("rl-trained-agents", "runs"):
        tracked = subprocess.run(
            ["git", "ls-files", "-z", shipped], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\0")
        for file in filter(None, tracked):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
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


def call(function: Callable[..., Any], *words: object) -> subprocess.CompletedProcess[str]:
    """What a script does with its command line, in this process: seconds sooner than ``run``."""
    import panda_reach_utils as utils

    argv, sys.argv = sys.argv, [f"{function.__name__}.py", *map(str, words)]
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "12")
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            utils.cli(function)
    except SystemExit as stop:
        for file in (output, errors):
            file.seek(0)
        code = int(stop.code or 0)
        return subprocess.CompletedProcess(sys.argv, code, output.read(), errors.read())
    finally:
        sys.argv = argv


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
    """Skip for want of a Debian package: never in CI, where it is installed."""
    if shutil.which(program) is None:
        message = f"{program} is missing: apt install {screens.PACKAGES[program]}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def eventually(
    condition: Callable[[], Any], what: str = "it has not come to be true", seconds: float = 60
) -> Any:
    """What ``condition`` gives, once that is true; fails with ``what`` if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return value


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """A person's mistake: exit code 2 and one clear line on stderr."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr
