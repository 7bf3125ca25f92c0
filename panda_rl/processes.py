"""A helper process at the other end of a pipe."""

import atexit
import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from panda_rl import interrupts

ANSWER_SECONDS = 30
"""How long to wait for an answer. A step of four environments takes 5 ms."""
START_SECONDS = 300
"""How long to wait for the first one, which comes after imports, on a busy machine too."""


class Process:
    """Runs ``target(connection, *args)`` in a process of its own.

    It ignores Ctrl-C and SIGTERM, which are the script's to answer, and ends when
    ``connection`` does: with ``close``, or with this process, however this one ends.

    Args:
        start_method: ``"spawn"``, or ``"forkserver"`` to start from what was imported once.
        target: a module's function.
        args: picklable.
    """

    def __init__(self, start_method: str, target: Callable[..., None], *args: Any) -> None:
        context: Any = multiprocessing.get_context(start_method)
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, target, args), daemon=True)
        with _without_main(), interrupts.blocked():  # the new process inherits that
            self._process.start()
        theirs.close()
        # Before multiprocessing's own clean-up, which would wait for the process for ever.
        atexit.register(self.close)

    def send(self, message: object) -> None:
        """Raises OSError if the process is gone."""
        self.connection.send(message)

    def receive(self, seconds: float) -> Any:
        """The next message.

        Raises:
            EOFError, OSError: the process is gone.
            TimeoutError: no answer came in time.
        """
        # Twice: when the whole program was suspended (Ctrl-Z), the first wait is over at
        # once, though the process had no time to answer.
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


def _run(connection: Connection, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    interrupts.ignore()
    with contextlib.suppress(EOFError, ConnectionError):  # the script has ended
        target(connection, *args)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from running the caller's script again in the new process.

    Our helpers need nothing from it, and a script without a main guard, or one read from
    standard input, could not be run a second time.
    """
    main = vars(sys.modules["__main__"])
    hidden = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update({"__spec__": None} | hidden)
