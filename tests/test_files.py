"""Runs and files: nothing overwritten, nothing half written, nothing left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panda_rl import agents, files, tracking
from panda_rl.errors import UsageError, WorkerDied
from panda_rl.interrupts import Stopped
from panda_rl.recording import Recording
from tests.conftest import RUN, SHIPPED, Run, assert_one_line, eventually, linux_only

import numpy as np
import psutil
import pytest
from stable_baselines3 import PPO


def test_runs_count_up_and_overwrite_nothing(folders: Path) -> None:
    (files.AGENTS / "arm_1.zip").write_bytes(b"mine")
    (files.RUNS / "arm_2").mkdir()
    for name in ("arm_3", "arm_4"):
        with files.run(None, "arm") as (agent, curves):
            assert (agent.stem, curves.name) == (name, name)
            agent.write_bytes(b"trained")
    assert sorted(path.name for path in files.RUNS.iterdir()) == ["arm_2", "arm_3", "arm_4"]
    assert (files.AGENTS / "arm_1.zip").read_bytes() == b"mine"


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: as on a full disk, a write fails."""
    import resource  # Windows has none

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def model() -> PPO:
    return PPO("MlpPolicy", "Pendulum-v1", n_steps=64, device="cpu")


@linux_only
def test_a_full_disk_leaves_the_agent_that_was_there(tmp_path: Path, model: PPO) -> None:
    agent = tmp_path / "agent.zip"
    agent.write_bytes(b"whole")
    with files_up_to(10_000), pytest.raises(UsageError, match="File too large"):
        agents.save(model, agent, {})
    assert agent.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [agent]


@linux_only
@pytest.mark.slow
def test_no_room_for_the_curves_is_reported_and_the_agent_saved(run: Run, clone: Path) -> None:
    """Files of up to 190,000 bytes: enough for the agent, too little for the film strips."""
    result = run(
        *("panda_reach_train_agent.py", "--total-timesteps", 10_000),
        preexec_fn=files_up_to(190_000).__enter__,
    )
    assert_one_line(result, "cannot write")
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    assert agents.read(agent).num_timesteps >= 2048


def test_errors_of_other_threads_are_still_reported(
    tmp_path: Path, model: PPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    before = threading.excepthook

    def fail() -> None:
        raise OSError

    with tracking.tensorboard(model, tmp_path / "curves"):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert [error.exc_type for error in reported] == [OSError]
    assert threading.excepthook == before


@pytest.fixture
def recording(tmp_path: Path, request: pytest.FixtureRequest) -> Recording:
    recording = Recording(tmp_path / f"film.{request.param}")
    rng = np.random.default_rng(0)
    for _ in range(30):
        picture = rng.integers(0, 256, (480, 720, 3), np.uint8)
        recording.add(picture, "caption", reached=True)
    return recording


@linux_only
@pytest.mark.parametrize("recording", ["gif", "mp4"], indirect=True)
def test_a_film_that_finds_no_room_leaves_nothing_behind(
    recording: Recording, capfd: pytest.CaptureFixture[str]
) -> None:
    with files_up_to(10_000), pytest.raises(UsageError, match="cannot write"):
        recording.save()
    assert not list(recording.path.parent.iterdir())
    assert capfd.readouterr() == ("", "")  # ffmpeg's words


@linux_only
@pytest.mark.parametrize("recording", ["gif", "mp4"], indirect=True)
def test_a_film_that_is_interrupted_leaves_nothing_behind(recording: Recording) -> None:
    folder = recording.path.parent

    def started() -> bool:
        ffmpeg = psutil.Process().children() or recording.path.suffix == ".gif"
        return any(folder.iterdir()) and bool(ffmpeg)

    def interrupt() -> None:
        eventually(started, every=0.01)
        time.sleep(0.05)  # Python loses an exception that a signal raises while it forks
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            recording.save()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("folder", ["runs", "rl-trained-agents"])
def test_no_room_to_write_is_reported_before_training(run: Run, clone: Path, folder: str) -> None:
    """A file where the folder should be: that stops root, too."""
    for path in sorted((clone / folder).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    if (clone / folder).exists():
        (clone / folder).rmdir()
    (clone / folder).write_text("in the way")
    result = run("panda_reach_train_agent.py", "--total-timesteps", 10**9, timeout=60)
    assert_one_line(result, "cannot write", folder)


@linux_only
@pytest.mark.slow
def test_without_the_right_to_read_or_write(clone: Path) -> None:
    """Also for root, who here gives up reading and writing whatever he likes."""
    unread = clone / "unread.zip"
    unread.touch(0)
    own = clone / "rl-trained-agents" / SHIPPED.name
    for path in (clone, *clone.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = sorted(clone.rglob("*"))
    lines = {
        ("test", unread): "cannot read",
        ("test", "--record", clone / "film.gif"): "cannot write",
        ("train", "--resume", unread): "cannot read",
        ("train", "--resume", own, "--total-timesteps", 10**6): "cannot write",
        ("train",): "cannot write",
        ("random", "--episodes", 1): None,
        ("test", "--episodes", 1): None,
    }
    give_up = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    for (script, *arguments), words in lines.items():
        program: list[Any] = [
            sys.executable,
            clone / f"panda_reach_{script}_agent.py",
            *map(str, arguments),
        ]
        result = subprocess.run(
            [*(give_up if os.geteuid() == 0 else []), *program],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if words:
            assert_one_line(result, words, "Permission denied")
        else:
            assert (result.returncode, result.stderr) == (0, "")
    assert sorted(clone.rglob("*")) == before


@linux_only
def test_a_run_goes_on_where_its_own_agent_is_and_nowhere_else(folders: Path) -> None:
    own, shipped = files.AGENTS / "arm_1.zip", files.AGENTS / SHIPPED.name
    elsewhere, dots = folders / "arm_1.zip", files.AGENTS / "...zip"
    for path in (own, shipped, elsewhere, dots):
        path.write_bytes(b"trained")
    link, link_to_shipped = folders / "link.zip", folders / "mine.zip"
    link.symlink_to(own)
    link_to_shipped.symlink_to(shipped)
    for resume, name, goes_on_as in (
        (own, None, "arm_1"),
        (shipped, None, "arm_2"),
        (elsewhere, None, "arm_3"),
        (own, "leg", "leg"),
        (shipped, "leg 2", "leg 2"),
        (link, None, "arm_1"),
        (link_to_shipped, None, "arm_4"),
        (dots, None, "arm_5"),
    ):
        with files.run(name, "arm", resume) as (agent, curves):
            assert (agent.parent, curves.parent) == (files.AGENTS, files.RUNS)
            assert (agent.stem, curves.name) == (goes_on_as, goes_on_as)
            agent.write_bytes(b"trained further")
    assert shipped.read_bytes() == elsewhere.read_bytes() == dots.read_bytes() == b"trained"


def test_a_start_that_fails_leaves_its_name_free(folders: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), files.run("arm", "") as (agent, curves):
            assert curves.is_dir() and not agent.exists()
            raise ZeroDivisionError
    assert not list(folders.glob("*/*"))


def test_what_stops_a_run_says_where_its_agent_is(folders: Path) -> None:
    for stop, expected in (
        (Stopped(signal.SIGTERM), "Stopped. The agent is saved in {agent}."),
        (Stopped(signal.SIGTERM, "To continue: ..."), "To continue: ..."),
        (WorkerDied("a process died"), "a process died; the agent is saved in {agent}"),
    ):
        for is_saved in (False, True):
            with pytest.raises(type(stop)) as error, files.run(None, "arm") as (agent, _):
                if is_saved:
                    agent.write_bytes(b"trained")
                raise stop
            message = expected.format(agent=agent) if is_saved else str(stop)
            assert str(error.value) == message
            assert getattr(error.value, "signum", None) == getattr(stop, "signum", None)


def test_the_advice_is_to_resume_only_where_there_is_an_agent(folders: Path) -> None:
    (files.RUNS / "leg").mkdir()
    (files.AGENTS / "arm.zip").write_bytes(b"trained")
    for name, resumable in (("leg", False), ("arm", True)):
        with pytest.raises(UsageError, match=f"a run {name} already") as error:
            files.run(name, "").__enter__()
        assert ("--resume" in str(error.value)) == resumable


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_a_recording_leaves_the_users_files_alone(tmp_path: Path, suffix: str) -> None:
    names = (f".x.tmp.{suffix}", f"x.tmp.{suffix}", f".x.{suffix}.tmp", f".x.{suffix}")
    for name in names:
        (tmp_path / name).write_text("mine")
    film = tmp_path / f"x.{suffix}"
    recording = Recording(film)
    assert not film.exists()
    recording.add(np.zeros((480, 720, 3), np.uint8), "caption", reached=False)
    recording.save()
    assert film.stat().st_size > 0
    assert [(tmp_path / name).read_text() for name in names] == ["mine"] * 4
    assert len(list(tmp_path.iterdir())) == 5


@linux_only
@pytest.mark.slow
def test_a_read_only_file_system_is_named_as_the_reason(clone: Path) -> None:
    """As in a container that may write nothing."""
    read_only = "mount --bind . . && mount -o remount,ro,bind . && cd . && exec"
    unshare = ["unshare", "--mount", "sh", "-c", f'cd "{clone}" && {read_only} "$@"', "sh"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    before = sorted(clone.rglob("*"))
    for script, arguments, reason in (
        ("train", [], "Read-only file system"),
        ("train", ["--resume", f"rl-trained-agents/{SHIPPED.name}"], "already has"),
        ("test", ["--record", clone / "film.gif"], "Read-only file system"),
        ("test", ["--episodes", "1"], None),
    ):
        program = [sys.executable, clone / f"panda_reach_{script}_agent.py", *arguments]
        result = subprocess.run([*unshare, *map(str, program)], capture_output=True, text=True)
        if reason:
            assert_one_line(result, reason)
        else:
            assert (result.returncode, result.stderr) == (0, "")
    assert sorted(clone.rglob("*")) == before
