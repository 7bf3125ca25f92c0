"""Ctrl-C, SIGTERM and kill: exit codes, what is said, and what is left."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from panda_rl import agents
from tests.conftest import ROOT, RUN, eventually, linux_only, row, scalars

import psutil
import pytest

LONG = ("--total-timesteps", "100000", "--seed", "3", "--n-workers", "2")


def start(clone: Path, *arguments: str, script: str = "train") -> subprocess.Popen[str]:
    """In a process group of its own, as a terminal or a cluster starts it."""
    return subprocess.Popen(
        [sys.executable, "-u", clone / f"panda_reach_{script}_agent.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def group(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for_events(clone: Path, updates: int = 3) -> None:
    """Until the run has made some updates."""
    folder = clone / "runs" / RUN
    eventually(folder.exists, seconds=120)
    eventually(lambda: len(scalars(folder).get("train/loss", [])) >= updates, seconds=120)


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_saved_and_goes_on(clone: Path, number: signal.Signals) -> None:
    process = start(clone, *LONG)
    wait_for_events(clone)
    os.killpg(process.pid, number)  # as a terminal and a cluster do: to all of its processes
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output + errors
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    saved = agents.read(agent)
    stopped, command = errors.splitlines()
    assert f"Stopped at {saved.num_timesteps:,} of 100,000 steps" in stopped
    assert 0 < saved.num_timesteps < 100_000

    goal = saved.num_timesteps + 1024
    pasted = f"{command} --total-timesteps {goal}"
    result = subprocess.run(pasted, shell=True, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stderr) == (0, "")
    resumed = agents.read(agent)
    assert resumed.num_timesteps >= goal
    assert resumed.config["seed"] == saved.config["seed"] == 3
    steps = [step for step, _ in scalars(clone / "runs" / RUN)["train/loss"]]
    assert steps == sorted(steps)
    assert steps[0] < saved.num_timesteps < steps[-1]
    assert not (clone / "runs" / f"{RUN[:-1]}2").exists()


@linux_only
@pytest.mark.slow
def test_a_killed_run_leaves_a_whole_agent_and_no_process(clone: Path) -> None:
    process = start(clone, *LONG)
    wait_for_events(clone)
    children = group(process)
    assert len(children) >= 4  # those that simulate, for training and for evaluation
    process.kill()
    process.communicate(timeout=60)
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    assert agents.read(agent).config["seed"] == 3
    assert_gone(children)


def assert_gone(processes: list[psutil.Process]) -> None:
    eventually(
        lambda: all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes),
        "a process was left behind",
        seconds=30,
    )


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_playing_with_the_table_of_what_was_played(
    clone: Path, number: signal.Signals, code: int
) -> None:
    playing = start(clone, "--episodes=100000", script="test")
    wait_for_line(playing, "Playing")
    time.sleep(2)
    os.killpg(playing.pid, number)
    output, errors = playing.communicate(timeout=60)
    assert (playing.returncode, errors) == (code, "")
    (played,) = re.findall(r"Stopped after (.*) of 100,000 episodes", output)
    assert row(output, "episodes").split()[0] == played


# ------------------------------------------------------------------ the whole process group


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"it never said {words!r}: {process.communicate()[1]}")


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_during_the_evaluation(
    clone: Path, number: signal.Signals
) -> None:
    process = start(clone, "--total-timesteps", "256", "--n-workers", "2")
    wait_for_line(process, "256/256 steps")
    children = group(process)
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    eventually(lambda: agents.read(agent).num_timesteps == 256)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, len(errors.splitlines())) == (128 + number, 1), output + errors
    assert f"saved in {agent}" in errors
    assert agents.read(agent).num_timesteps == 256
    assert_gone(children)


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_long_last_update_is_answered_and_the_run_can_go_on(
    clone: Path, number: signal.Signals
) -> None:
    """The update would take minutes."""
    long = ("--n-epochs", "1000", "--batch-size", "2", "--n-workers", "2")
    process = start(clone, "--total-timesteps", "256", *long)
    wait_for_line(process, "0/256 steps")
    time.sleep(4)  # the rollout takes less
    children = group(process)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output + errors
    stopped, command = errors.splitlines()
    assert "Stopped at 0 of 256 steps" in stopped
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    assert agents.read(agent).num_timesteps == 0  # and not 256, which would have no way to go on
    assert "--resume" in command and agent.name in command
    assert_gone(children)


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.02, 0.3])
def test_ctrl_c_twice_is_as_once(clone: Path, pause: float) -> None:
    process = start(clone, "--total-timesteps", "100000", "--n-workers", "2")
    wait_for_line(process, "0/100,000 steps")
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(pause)
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, len(errors.splitlines())) == (130, 2), output + errors
    agents.read(clone / "rl-trained-agents" / f"{RUN}.zip")


@linux_only
@pytest.mark.slow
def test_on_a_narrow_terminal_the_command_to_continue_is_one_line(clone: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    script = clone / "panda_reach_train_agent.py"
    process = subprocess.Popen(
        [sys.executable, script, "--total-timesteps", "100000", "--n-workers", "0"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"COLUMNS": "50", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the terminal is closed
        while more := os.read(ours, 10_000):
            output += more
            if b"0/100,000 steps" in output:
                os.killpg(process.pid, signal.SIGINT)
    os.close(ours)
    assert process.wait(60) == 130
    *_, stopped, command = output.decode().splitlines()
    assert "Stopped at" in stopped
    assert f"{RUN}.zip" in command and "--resume" in command


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 0.5, 1.5, 3])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports(clone: Path, number: signal.Signals, pause: float) -> None:
    process = start(clone, "--total-timesteps", "100000")
    eventually(lambda: answers(process.pid, signal.SIGTERM), "it never answers signals")
    time.sleep(pause)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output + errors
    assert errors.startswith("Stopped")
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 2


@linux_only
def test_a_signal_while_a_simulator_starts() -> None:
    """It arrives inside PyBullet's connect: the client would not know its own connection."""
    program = """
import os, signal, sys
from panda_rl import interrupts
from panda_rl.env import PandaReachEnv, pybullet

def strike(frame, event, function):
    if event == "c_return" and function is pybullet.connect:
        os.kill(os.getpid(), signal.SIGINT)

interrupts.end_script_on_signal()
sys.setprofile(strike)
try:
    PandaReachEnv()
except interrupts.Stopped as stopped:
    print(stopped)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "Stopped.\n", "")


def answers(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> (number - 1) & 1)


# ------------------------------------------------------------------ called from elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("how", ["standard input", "a script", "a thread"])
def test_training_can_be_called_from_a_program(clone: Path, how: str) -> None:
    """One without a main guard, which the processes that simulate must not run again."""
    program = f"""
import threading
from panda_reach_train_agent import Config, train
from panda_rl import evaluation
print("started")
def run():
    train(Config(total_timesteps=256, n_workers=2, name="mine"))
if {how == "a thread"}:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
print("ended")
"""
    command = [sys.executable, "-"]
    if how != "standard input":
        (clone / "program.py").write_text(program)
        command = [sys.executable, "program.py"]
    result = subprocess.run(
        command, input=program, cwd=clone, capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (result.stdout.count("started"), result.stdout.count("ended")) == (1, 1)
    assert agents.read(clone / "rl-trained-agents" / "mine.zip").num_timesteps == 256
