"""PyBullet's window, in a process of its own, which mirrors each pose.

In the same process, closing the window would end training (Xlib calls ``exit(1)``), and each
physics step would wait for the drawing.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from panda_rl import simulator

OPENING_SECONDS = 8
"""How long PyBullet may take to open its window. A display that is gone never answers."""


class WindowClosed(Exception):
    """The window was closed while something was playing in it."""


class DisplayError(ValueError):
    """A window was requested, and PyBullet can't open one."""


def has_display() -> bool:
    """Whether it makes sense to try to open a window."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY"))


class Window:
    """A window that shows what happens in a simulation.

    Args:
        task: panda-gym's name for it, such as ``"Reach"``.

    Raises:
        DisplayError: PyBullet can't open it.
    """

    def __init__(self, task: str) -> None:
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "panda_rl.window", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Xlib's last words when the window is closed
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # a terminal's Ctrl-C is for the script alone
        )
        assert self._process.stdout
        self._process.stdout.readline()  # its imports are done
        give_up = threading.Timer(OPENING_SECONDS, self._process.kill)
        give_up.start()
        is_open = self._process.stdout.readline()
        give_up.cancel()
        if not is_open:
            self.close()
            display = os.environ.get("DISPLAY", "")
            raise DisplayError(
                f"PyBullet can't open a window (DISPLAY={display!r}): play without one "
                "(--no-render, or another render_mode)"
            )

    def show(self, panda: Any) -> None:
        """Draw the arm and everything that moves in ``panda``, panda-gym's environment.

        Raises:
            WindowClosed: somebody has closed it.
        """
        poses: dict[str, Any] = {
            name: (
                panda.sim.get_base_position(name).tolist(),
                panda.sim.get_base_orientation(name).tolist(),
            )
            for name in simulator.bodies(panda)
            if name.startswith(("object", "target"))
        }
        poses["panda"] = [panda.robot.get_joint_angle(i) for i in panda.robot.joint_indices]
        assert self._process.stdin
        try:
            print(json.dumps(poses), file=self._process.stdin, flush=True)
        except OSError:
            raise WindowClosed from None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def main(task: str) -> None:
    """The window's process: draws each pose that it reads, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what PyBullet's threads print
    print("imported", file=answers, flush=True)
    panda = simulator.make(task, render=True)
    if task == "Reach":  # its ball is too transparent
        ball = simulator.bodies(panda)["target"]
        panda.sim.physics_client.changeVisualShape(ball, -1, rgbaColor=(0.1, 0.9, 0.1, 1.0))
    print("open", file=answers, flush=True)
    shown: dict[str, Any] = {}
    while written := os.read(0, 2**16):  # all that came while the last pose was drawn
        newest = json.loads(written.splitlines()[-1])
        # PyBullet draws a frame for each command, so move only what has moved.
        for name in (name for name in newest if newest[name] != shown.get(name)):
            if name == "panda":
                _turn_joints(panda, newest[name])
            else:
                panda.sim.set_base_pose(name, *newest[name])
        shown = newest


def _turn_joints(panda: Any, angles: list[float]) -> None:
    """``robot.set_joint_angles`` in one command instead of nine."""
    panda.sim.physics_client.resetJointStatesMultiDof(
        simulator.bodies(panda)["panda"],
        panda.robot.joint_indices.tolist(),
        [[angle] for angle in angles],
    )


if __name__ == "__main__":
    main(sys.argv[1])
