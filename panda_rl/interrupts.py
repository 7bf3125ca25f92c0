"""Ctrl-C and SIGTERM: one line, the right exit code, nothing lost.

A terminal sends Ctrl-C to every process of a program, and a cluster's time limit often sends
SIGTERM to all of them. Only the script answers; its helper processes ignore both signals
and end when the script does.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

received: list[int] = []
"""The signal that stopped a script, once there is one."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work early. Everything that needed saving has been saved.

    Args:
        signum: the signal. The exit code is 128 + ``signum``: 130 for Ctrl-C, 143 for SIGTERM.
        message: a line for the user; "Stopped." by default.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message or "Stopped.")
        self.signum = signum
        self.message = message


def end_script_on_signal() -> None:
    """For scripts: the first Ctrl-C or SIGTERM raises Stopped; later ones are ignored.

    Pressing Ctrl-C twice must not interrupt the saving that the first one started.
    """
    received.clear()
    _set(_raise_stopped)


@contextlib.contextmanager
def handled_by(handler: Callable[[int], None]) -> Iterator[None]:
    """Call ``handler`` with the first signal that arrives before the block ends.

    Later ones are ignored: for good in a script, elsewhere until the block ends. Does nothing
    outside the main thread, where Python allows no signal handlers.
    """
    before = [signal.getsignal(signum) for signum in SIGNALS]
    handled = []

    def receive(signum: int, _frame: object) -> None:
        ignore()
        handled.append(signum)
        handler(signum)

    _set(receive)
    try:
        yield
    finally:
        if not (handled and before[0] is _raise_stopped):
            _set(*before)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Answer signals only when the block ends.

    ``blocked`` would not do: another thread, such as one of PyTorch's, would receive them, and
    Python would still answer here.
    """
    before = [signal.getsignal(signum) for signum in SIGNALS]
    if signal.SIG_IGN in before or None in before:  # None: not Python's, and can't be put back
        yield
        return
    caught = []
    _set(lambda signum, _frame: caught.append(signum))
    try:
        yield
    finally:
        _set(*before)
        for signum in caught:
            signal.raise_signal(signum)


def ignore() -> None:
    """Ignore both signals, if Python allows it."""
    _set(signal.SIG_IGN)


def _set(*actions: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        for signum, action in zip(SIGNALS, actions * len(SIGNALS), strict=False):
            signal.signal(signum, action)


def _raise_stopped(signum: int, _frame: object) -> None:
    ignore()
    received.append(signum)
    raise Stopped(signum)


def _exit_at_once(signum: int, _frame: object) -> None:
    os.write(2, b"Stopped.\n")
    os._exit(128 + signum)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block signals in this thread, and in what it starts, until the block ends. Windows can't."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# The scripts' imports take seconds, and Ctrl-C meanwhile would print pages of traceback.
# Programs that import panda_rl as a library keep their own handlers.
if Path(sys.argv[0]).name.startswith("panda_reach_"):
    _set(_exit_at_once)
