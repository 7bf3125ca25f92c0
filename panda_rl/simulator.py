"""panda-gym 2 and PyBullet: imported and started without a word, and the same for each seed."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_LOCK = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2 to the null device.

    PyBullet's C code prints its build time, panda-gym's options and messages from its threads.
    Python's ``redirect_stdout`` does not reach those. File descriptors belong to the whole
    process, so only one thread at a time may redirect them.
    """
    flush_c = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).fflush
    with _LOCK, open(os.devnull, "w") as devnull:  # noqa: PTH123
        print(end="", flush=True)  # what was printed until now is the caller's
        flush_c(None)
        saved = {fd: os.dup(fd) for fd in (1, 2)}
        try:
            for fd in saved:
                os.dup2(devnull.fileno(), fd)
            yield
        finally:
            flush_c(None)  # C buffers its output: drop it before stdout is back
            for fd, copy in saved.items():
                os.dup2(copy, fd)
                os.close(copy)


with quiet():  # pybullet prints its build time when it is imported
    import panda_gym.assets
    import panda_gym.envs
    from panda_gym.envs.tasks import flip

# The panda-gym on PyPI lacks the texture of Flip's cube. Here it finds ours.
panda_gym.assets.get_data_path = lambda: str(Path(__file__).parent)
# Flip draws its goals from NumPy's global generator, and compares only one pair of them.
flip.Flip._sample_goal = lambda task: flip.R.random(None, task.np_random).as_quat()
flip.angle_distance = lambda a, b: 1 - np.vecdot(a, b) ** 2


def make(task: str, **kwargs: Any) -> Any:
    """panda-gym's environment for ``task``, such as ``"Reach"``."""
    with quiet():
        panda = getattr(panda_gym.envs, f"Panda{task}Env")(**kwargs)
    engine = panda.sim.physics_client
    # By default Bullet handles contacts in an order that can depend on memory addresses, and
    # with it the last digits of every position. This sorts them.
    engine.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
    if task == "Flip":  # its cube is transparent
        engine.changeVisualShape(bodies(panda)["object"], -1, rgbaColor=(1, 1, 1, 1))
    return panda


def bodies(panda: Any) -> dict[str, int]:
    """PyBullet's number of each body, by its name."""
    return panda.sim._bodies_idx  # panda-gym has no public name for it


def movable(panda: Any, kind: str) -> list[str]:
    """Names of the cubes, ``kind="object"``, or of their goals, ``"target"``."""
    return [name for name in bodies(panda) if name.startswith(kind)]


def reset(panda: Any, seed: int) -> None:
    """panda-gym's own reset, made to depend on nothing but ``seed``."""
    # Bullet remembers what touched what, which changes the next contacts a little. It forgets
    # the contacts of a cube that is far away.
    panda.robot.reset()
    for height, name in enumerate(movable(panda, "object"), start=10):
        panda.sim.set_base_pose(name, np.array([0, 0, height]), np.array([0, 0, 0, 1]))
    panda.sim.physics_client.performCollisionDetection()
    panda.reset(seed=seed)


def set_goal(panda: Any, goal: np.ndarray) -> None:
    """Make ``goal``, of the task's shape, the task's, and show it there."""
    panda.task.goal = goal.astype(float)
    targets = movable(panda, "target")
    for target, pose in zip(targets, np.split(panda.task.goal, len(targets)), strict=True):
        if len(pose) == 3:
            panda.sim.set_base_pose(target, pose, np.array([0, 0, 0, 1]))
        else:  # Flip's is a quaternion
            panda.sim.set_base_pose(target, panda.sim.get_base_position(target), pose)
