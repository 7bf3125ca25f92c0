"""Ctrl-C, SIGTERM and kill, to all processes as a terminal and a cluster do: what is left."""

import contextlib
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from panda_rl import agents
from tests.conftest import RUN, assert_fine, eventually, is_alive, linux_only, row

pytestmark = [linux_only, pytest.mark.slow]
SHORT = ("--n-envs", "2", "--batch-size", "32", "--seed", "3")
LONG = ("--total-timesteps", "100000", *SHORT)


def start(
    clone: Path, *words: str, script: str = "reach_train", **kwargs: Any
) -> subprocess.Popen[str]:
    """In a process group of its own, as a terminal or a cluster starts it."""
    defaults: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-u", clone / f"panda_{script}_agent.py", *words],
        text=True,
        start_new_session=True,
        **defaults | kwargs,
    )


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"it never said {words!r}: {process.communicate()[1]}")


def wait_until_it_trains(process: subprocess.Popen[str]) -> None:
    wait_for_line(process, "2,048/100,000 steps")


@pytest.fixture
def agent(clone: Path) -> Iterator[Path]:
    yield clone / "rl-trained-agents" / f"{RUN}.zip"
    for process in psutil.Process().children():
        process.kill()  # only if a test failed


@contextlib.contextmanager
def all_end(process: subprocess.Popen[str]) -> Iterator[list[psutil.Process]]:
    """No process of it is left behind."""
    family = psutil.Process(process.pid).children(recursive=True)
    yield family
    eventually(
        lambda: not any(map(is_alive, family)),
        f"left behind: {family}",
        seconds=30,
    )


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("number", "processes"),
    [(signal.SIGINT, "--no-subprocesses"), (signal.SIGTERM, "--subprocesses")],
)
def test_a_stopped_run_is_saved_and_goes_on_by_the_command_it_prints(
    clone: Path, agent: Path, number: signal.Signals, processes: str
) -> None:
    process = start(clone, *LONG, processes)
    wait_until_it_trains(process)
    time.sleep(0.5)  # somewhere between two evaluations
    with all_end(process) as family:
        assert bool(family) == (processes == "--subprocesses")
        os.killpg(process.pid, number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, ""), output
    saved = agents.read(agent)
    *_, stopped, command = output.splitlines()
    assert f"Stopped at {saved.num_timesteps:,} steps" in stopped
    assert 2048 < saved.num_timesteps < 100_000
    before = agent.read_bytes()

    # As pasted, from another folder; the path has a space.
    bin = str(Path(sys.executable).parent)
    result = subprocess.run(
        f"{command} --total-timesteps {saved.num_timesteps + 64} {processes}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"},
    )
    assert_fine(result)
    resumed = agents.read(agent.with_name(f"{RUN[:-1]}2.zip"))
    assert resumed.num_timesteps == saved.num_timesteps + 64
    assert resumed.config | {"total_timesteps": 100_000} == saved.config
    assert agent.read_bytes() == before


def test_a_terminal_that_is_closed_saves_a_cubes_agent_too(clone: Path) -> None:
    process = start(clone, script="push_train")
    wait_for_line(process, " 2,048/")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGHUP)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, ""), output
    saved = agents.read(clone / "rl-trained-agents" / "PandaPush_SAC_v2_1.zip")
    assert f"Stopped at {saved.num_timesteps:,} steps" in output
    assert saved.num_timesteps >= 2_048


def test_a_killed_run_leaves_a_whole_agent_and_no_process(clone: Path, agent: Path) -> None:
    process = start(clone, *LONG, "--subprocesses")
    wait_until_it_trains(process)
    with all_end(process) as family:
        assert family
        process.kill()
        process.communicate(timeout=60)
    assert agents.read(agent).num_timesteps == 2048


def test_a_run_whose_worker_is_killed_fails_and_leaves_a_whole_agent(
    clone: Path, agent: Path
) -> None:
    process = start(clone, *LONG, "--subprocesses")
    wait_until_it_trains(process)
    with all_end(process) as family:
        # The newest is one that simulates.
        max(family, key=psutil.Process.create_time).kill()
        process.communicate(timeout=60)
    assert process.returncode not in (0, 130)
    assert 2048 <= agents.read(agent).num_timesteps < 100_000


def test_a_second_ctrl_c_costs_nothing_that_was_saved(clone: Path, agent: Path) -> None:
    process = start(clone, *LONG)
    wait_until_it_trains(process)
    with all_end(process):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert agents.read(agent).num_timesteps >= 2048


def test_a_signal_while_it_is_judged_costs_nothing(clone: Path, agent: Path) -> None:
    process = start(clone, "--total-timesteps", "64", *SHORT)
    wait_for_line(process, "Judging")
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert agents.read(agent).num_timesteps == 64


def test_ctrl_c_ends_playing_with_the_table_of_what_was_played(clone: Path) -> None:
    playing = start(clone, "--episodes=100000", script="reach_test")
    wait_for_line(playing, "Playing")
    time.sleep(2)
    os.killpg(playing.pid, signal.SIGINT)
    output, errors = playing.communicate(timeout=60)
    assert errors == ""
    (played,) = re.findall(r"Stopped after (\S+) ", output)
    assert row(output, "episodes").split()[0] == played


def test_on_a_terminal_with_its_progress_bar_the_command_is_a_line_of_its_own(
    clone: Path, agent: Path
) -> None:
    import fcntl  # Windows has none of these
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 50, 0, 0))  # rows and columns
    kwargs: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = start(clone, *LONG, **kwargs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    output, stopped = b"", False
    with contextlib.suppress(OSError):  # Linux's way to say that the terminal is closed
        while more := os.read(ours, 10_000):
            output += more
            if b"2,048/100,000 steps" in output and not stopped:
                os.killpg(process.pid, signal.SIGINT)
                stopped = True
    os.close(ours)
    assert process.wait(60) == 130
    assert "2048/100000 [" in output.decode()  # the bar
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode()).split("\n")
    assert any("Stopped at" in line for line in lines)
    # After a carriage return, a terminal goes on at the start of the line.
    (command,) = (line.rstrip().split("\r")[-1] for line in lines if "--resume" in line)
    assert shlex.split(command)[0::3] == ["python", str(agent)]
    assert "Traceback" not in output.decode()
    agents.read(agent)
