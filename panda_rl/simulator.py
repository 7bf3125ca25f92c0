"""panda-gym 2 and PyBullet, imported and started without a word."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2 to the null device.

    PyBullet's C code prints its build time, panda-gym's options and messages from its threads.
    Python's ``redirect_stdout`` does not reach those. File descriptors belong to the whole
    process, so only one thread at a time may redirect them.
    """
    flush_c = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).fflush
    with _ONE_AT_A_TIME, open(os.devnull, "w") as devnull:  # noqa: PTH123
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None if it was closed
            stream.flush()
        flush_c(None)  # what was printed until now is the caller's
        saved = [(fd, os.dup(fd)) for fd in (1, 2)]
        for fd, _ in saved:
            os.dup2(devnull.fileno(), fd)
        try:
            yield
        finally:
            flush_c(None)  # C buffers its output: drop it before stdout is back
            for fd, copy in saved:
                os.dup2(copy, fd)
                os.close(copy)


with quiet():  # pybullet prints its build time when it is imported
    import gym
    import panda_gym  # noqa: F401  registers its environments with old gym
    import pybullet  # noqa: F401


def make(task: str, **kwargs: Any) -> Any:
    """panda-gym's environment for ``task``, such as ``"Reach"``, without old gym's wrappers."""
    with quiet():
        panda = gym.make(f"Panda{task}-v2", **kwargs).unwrapped
    # By default Bullet handles contacts in an order that can depend on memory addresses, and
    # with it the last digits of every position. This sorts them.
    panda.sim.physics_client.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
    return panda


def bodies(panda: Any) -> dict[str, int]:
    """PyBullet's number of each body by its name, such as ``"object"`` and ``"target"``."""
    return panda.sim._bodies_idx  # panda-gym has no public name for it
