"""What the scripts share: their folders, a new run's name, files written whole, exit codes."""

import contextlib
import itertools
import os
import shlex
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
AGENTS = ROOT / "rl-trained-agents"
RUNS = ROOT / "runs"
# Windows has no SIGHUP.
STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class UsageError(ValueError):
    """Something that the user can fix. The message says what is wrong and what to do."""


def run(script: Callable[[], None]) -> None:
    """Run ``script``. A UsageError becomes one line and exit code 2, Ctrl-C exit code 130.

    A cluster's SIGTERM counts as Ctrl-C, and so does the SIGHUP of a terminal that is closed. A bug
    keeps its traceback.
    """
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
    try:
        script()
    except UsageError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def new_run(stem: str, name: str | None) -> tuple[Path, Path]:
    """Reserve a run's ``name``; without one it is ``<stem>_<n>``, with the first free n.

    Returns the path of its agent, and its folder of curves, which is made. Raises UsageError if
    there is a run of that name already.
    """
    AGENTS.mkdir(exist_ok=True)
    for run in [name] if name else (f"{stem}_{n}" for n in itertools.count(1)):
        path, curves = AGENTS / f"{run}.zip", RUNS / run
        # If several runs start at once, mkdir gives the name to one of them.
        with contextlib.suppress(FileExistsError):
            if not path.exists():
                curves.mkdir(parents=True)
                return path, curves
    raise UsageError(f"there is a run {name} already: choose another --name")


def log_to_wandb(name: str, config: dict[str, Any]) -> None:
    """Send to Weights & Biases what TensorBoard gets; offline unless the user has logged in."""
    import wandb  # not in requirements.txt

    mode = None if wandb.login(prompt=False) else "offline"  # None: as WANDB_MODE says
    wandb.init(name=name, config=config, sync_tensorboard=True, mode=mode)


def command(*words: str | Path) -> str:
    """A command to paste into a shell in the current folder."""
    here = Path.cwd()
    paths = [Path(word) for word in words]
    short = [path.relative_to(here) if path.is_relative_to(here) else path for path in paths]
    return shlex.join(path.as_posix() for path in short)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces ``path`` if the block succeeds."""
    temporary = path.with_name(f".unfinished-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave an empty file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
