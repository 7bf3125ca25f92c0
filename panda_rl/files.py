"""Where runs and agents go, and how a file is written whole or not at all."""

import contextlib
import errno
import itertools
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from panda_rl import interrupts
from panda_rl.errors import UsageError, WorkerDied

ROOT = Path(__file__).resolve().parent.parent
AGENTS = ROOT / "rl-trained-agents"
RUNS = ROOT / "runs"
SHIPPED = tuple(f"PandaReach_PPO_v2_{c}_{r}" for c in ("ee", "joints") for r in ("dense", "sparse"))


@contextlib.contextmanager
def run(name: str | None, stem: str, resume: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Reserve a run: yields its agent's file and its folder of curves.

    If the block fails before it has saved an agent, nothing is left and the name stays free. If
    it is stopped later, the error says where the agent is.

    Args:
        name: the run's name; None for ``<stem>_<n>`` with the first free n.
        stem: see ``name``.
        resume: an agent to continue. If it is in AGENTS, is not a shipped one, and no ``name``
            is given, its own run continues. Otherwise a new run starts from it.

    Raises:
        UsageError: the name is taken or can't be a file name, or a folder can't be written.
    """
    agent = resume.resolve() if resume else None
    continues = (
        agent is not None
        and name is None
        and agent.parent == AGENTS.resolve()
        and agent.stem not in SHIPPED
        and _is_plain(agent.stem)
    )
    if agent is None or not continues:
        name = _reserve(name, stem)
        agent = AGENTS / f"{name}.zip"
    curves = RUNS / agent.stem
    try:
        with contextlib.suppress(OSError):  # check_writable reports what is wrong
            AGENTS.mkdir(exist_ok=True)
        check_writable(agent)
        yield agent, curves
    except interrupts.Stopped as stop:
        if stop.message or not agent.exists():
            raise
        message = f"Stopped. The agent is saved in {agent}."
        raise interrupts.Stopped(stop.signum, message) from None
    except WorkerDied as error:
        if not agent.exists():
            raise
        raise WorkerDied(f"{error}; the agent is saved in {agent}") from None
    finally:
        if not agent.exists():
            shutil.rmtree(curves, ignore_errors=True)


def _is_plain(name: str) -> bool:
    """Whether ``name`` is a file's own name: "..", which "...zip" has for a stem, is a folder's."""
    return Path(name).name == name and not name.startswith(".") and name.isprintable()


def _reserve(name: str | None, stem: str) -> str:
    """Make ``runs/<name>/``. If several runs start at once, mkdir gives the name to one."""
    if name is not None and not (name and _is_plain(name)):
        raise UsageError(f"--name {name!r} must be a plain name, without a folder")
    for run in [name] if name else (f"{stem}_{n}" for n in itertools.count(1)):
        try:
            if not (AGENTS / f"{run}.zip").exists():
                (RUNS / run).mkdir(parents=True)
                return run
        except FileExistsError:
            if not RUNS.is_dir():
                raise UsageError(f"cannot write {RUNS / run}: {RUNS} is not a folder") from None
        except (OSError, ValueError) as error:  # ValueError: it is not UTF-8
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot write {RUNS / run}: {reason}") from None
    hint = "choose another --name"
    if (AGENTS / f"{name}.zip").exists():
        hint += f", or --resume {AGENTS / f'{name}.zip'}"
    raise UsageError(f"there is a run {name} already: {hint}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that replaces it if the block succeeds.

    Each writer gets its own temporary file. A link stays a link, and a file keeps its mode.

    Raises:
        UsageError: ``path`` can't be written. A file that was there is left as it was.
    """
    with _temporary(path) as temporary:
        yield temporary
        temporary.replace(path.resolve())


def check_writable(path: Path) -> None:
    """Raises UsageError if ``path`` can't be written: before minutes of work, not after them."""
    with _temporary(path):
        pass


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    temporary = None
    try:
        target = path.resolve()
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary = target.with_name(f".unfinished-{uuid.uuid4().hex}{target.suffix}")
        temporary.touch(exist_ok=False)
        if target.exists():
            temporary.chmod(target.stat().st_mode)
        yield temporary
    except OSError as error:
        reason = error.strerror or "is the disk full?"  # not ffmpeg's pages of output
        raise UsageError(f"cannot write {path}: {reason}") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):  # it has been renamed
                temporary.unlink()
