"""A helper process at the other end of a pipe."""

import atexit
import contextlib
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from panda_rl import files, interrupts

ANSWER_SECONDS = 30
"""How long to wait for an answer. A step of four environments takes about 5 ms."""
START_SECONDS = 300
"""How long to wait for the first answer: imports take a while on a busy machine."""

_LOCK = threading.Lock()


class Process:
    """Runs ``target(connection, *args)`` in a process of its own.

    It leaves Ctrl-C and SIGTERM to the script, and ends when ``connection`` closes: after
    ``close``, or when this process ends in any way.

    Args:
        start_method: ``"spawn"``, or ``"forkserver"`` to share imports between processes.
        target: a function of a module.
        args: its other arguments; they must be picklable.
    """

    def __init__(self, start_method: str, target: Callable[..., None], *args: Any) -> None:
        context: Any = multiprocessing.get_context(start_method)
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, target, args), daemon=True)
        with _starting():
            self._process.start()
        theirs.close()
        # This runs before multiprocessing's own clean-up, which would wait for ever.
        atexit.register(self.close)

    def send(self, message: object) -> None:
        """Raises OSError if the process is gone."""
        # Not send(): if that fails, Python 3.13 prints a BufferError when it exits.
        self.connection.send_bytes(pickle.dumps(message))

    def receive(self, seconds: float) -> Any:
        """The next message.

        Raises:
            EOFError, OSError: the process is gone.
            TimeoutError: no answer came in time.
        """
        # Wait twice: after the whole program was suspended (Ctrl-Z), the first wait ends at
        # once, before the process has had time to answer.
        if not (self.connection.poll(seconds / 2) or self.connection.poll(seconds / 2)):
            raise TimeoutError
        return self.connection.recv()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        atexit.unregister(self.close)
        self.connection.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()


def preload(*modules: str) -> None:
    """Start the server that "forkserver" forks from, with ``modules`` imported once for all."""
    from multiprocessing import forkserver  # Windows has none

    multiprocessing.set_forkserver_preload(list(modules))
    before = os.environ.get("PYTHONPATH")
    # The server's own path has only the current folder.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(files.ROOT), *filter(None, [before])])
    try:
        with _starting():
            forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _run(connection: Connection, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    interrupts.ignore()
    with contextlib.suppress(EOFError, ConnectionError):  # the script has ended
        target(connection, *args)


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """A new process inherits blocked signals, and does not run the caller's script again.

    Our helpers need nothing from that script, and one without a main guard, or one read from
    standard input, can't be run a second time.
    """
    if sys.platform != "win32":  # if started in the block, it would unblock the signals
        resource_tracker.ensure_running()
    with _LOCK, interrupts.blocked():
        main = vars(sys.modules["__main__"])
        hidden = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
        main["__spec__"] = None
        try:
            yield
        finally:
            main.update({"__spec__": None} | hidden)
