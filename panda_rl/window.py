"""PyBullet's window, in a process of its own, which mirrors each pose.

In the same process, closing the window would end training (Xlib calls ``exit(1)``), and each
physics step would wait for the drawing.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from typing import Any

from panda_rl import cli, simulator

DISPLAY_SECONDS = 5  # a display may take this long to answer; one that is gone never does


class WindowClosed(KeyboardInterrupt):
    """The window was closed while something was playing in it: the user wants it to stop."""


def has_display() -> bool:
    """Whether a window can probably be opened."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY"))


class Window:
    """Shows a simulation of ``task``, such as ``"Reach"``.

    Raises UsageError if it can't be opened.
    """

    def __init__(self, task: str) -> None:
        path = os.pathsep.join((str(cli.ROOT), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "panda_rl.window", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Xlib's message when the window is closed
            bufsize=0,  # so that nothing is left to write when the window is closed
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # a terminal's Ctrl-C is for the script alone
        )
        assert self._process.stdin and self._process.stdout
        self._input = self._process.stdin
        if not self._process.stdout.readline():  # it writes a line once the window is open
            self.close()
            raise cli.UsageError(
                f"PyBullet can't open a window on DISPLAY={os.environ.get('DISPLAY')}: "
                "use --no-render, or another render_mode"
            )

    def show(self, panda: Any) -> None:
        """Draw the arm, the cubes and the goal. Raises WindowClosed if it has been closed."""
        engine, bodies = panda.sim.physics_client, simulator.bodies(panda)
        poses: dict[str, Any] = {
            name: engine.getBasePositionAndOrientation(bodies[name])
            for name in simulator.movable(panda, "object") + simulator.movable(panda, "target")
        }
        poses["panda"] = [[panda.robot.get_joint_angle(i)] for i in panda.robot.joint_indices]
        try:
            self._input.write(f"{json.dumps(poses)}\n".encode())
        except OSError:
            raise WindowClosed from None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def main(task: str) -> None:
    """The window's process: draws the newest pose that it can read, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what PyBullet's threads print
    if sys.platform == "linux":
        signal.alarm(DISPLAY_SECONDS)  # ends this process if the display does not answer
        ctypes.CDLL("libX11.so.6").XOpenDisplay(None)
        signal.alarm(0)
    panda = simulator.make(task, render=True)
    engine, bodies = panda.sim.physics_client, simulator.bodies(panda)
    if task == "Reach":  # the ball is too transparent
        engine.changeVisualShape(bodies["target"], -1, rgbaColor=(0.1, 0.9, 0.1, 1.0))
    print("open", file=answers, flush=True)
    shown: dict[str, Any] = {}
    # All whole lines that came while the last pose was drawn: each was written at once.
    while written := os.read(0, 2**16):
        newest = json.loads(written.splitlines()[-1])
        # PyBullet draws a frame for each command, so move only what has moved.
        for name in (name for name in newest if newest[name] != shown.get(name)):
            if name == "panda":
                joints = panda.robot.joint_indices.tolist()
                engine.resetJointStatesMultiDof(bodies[name], joints, newest[name])
            else:
                engine.resetBasePositionAndOrientation(bodies[name], *newest[name])
        shown = newest


if __name__ == "__main__":
    main(sys.argv[1])
