"""PyBullet's window, in its own process, which mirrors each pose.

In the same process, closing the window would end training (Xlib calls ``exit(1)``), and each
physics step would wait for the drawing.
"""

import contextlib
import ctypes
import os
import sys
import threading
import time
from multiprocessing.connection import Connection

from panda_rl.errors import DisplayError, UsageError, WindowClosed
from panda_rl.processes import ANSWER_SECONDS, Process

import numpy as np

DISPLAY_SECONDS = 5
"""How long a display may take to answer."""


def has_display() -> bool:
    """Whether a window can be opened.

    On Linux this asks the X server. If DISPLAY names one that is gone, PyBullet would end the
    process or hang for ever. A server that doesn't answer in time counts as no display.
    """
    if not sys.platform.startswith("linux"):
        return True
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    answered = threading.Event()

    def ask() -> None:
        if display := x11.XOpenDisplay(None):
            x11.XCloseDisplay(display)
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(DISPLAY_SECONDS)
    return answered.is_set()


def require_display() -> None:
    """Raises DisplayError if no window can be opened."""
    if not has_display():
        raise DisplayError(
            f"no display answers (DISPLAY={os.environ.get('DISPLAY', '')!r}), so no window can "
            'open: leave out --render or render_mode="human"'
        )


def wanted(render: bool, no_render: bool) -> bool:
    """Whether to play in a window: as the flags say, or else if there is a display.

    Raises:
        UsageError: both flags are given, or ``render`` without a display.
    """
    if render and no_render:
        raise UsageError("--render and --no-render can't both be given")
    if render:
        require_display()
    return render or (not no_render and has_display())


class Window:
    """A window that shows the arm and the goal.

    Raises:
        DisplayError: PyBullet can't open it.
    """

    def __init__(self) -> None:
        self._drawing_since: float | None = None
        self._process = Process("spawn", _draw)
        try:
            self._process.receive(60)  # "ready"
        except (EOFError, OSError):  # a TimeoutError is an OSError
            self._process.close()
            raise DisplayError("PyBullet could not open its window: it needs OpenGL 3") from None

    def show(self, joint_angles: np.ndarray, goal: np.ndarray) -> None:
        """Draw a pose: nine ``joint_angles`` (rad) and the ``goal`` (3,) (m).

        Does nothing while the window still draws the last one.

        Raises:
            WindowClosed: the user has closed it, or it no longer answers.
        """
        try:
            if self._drawing_since is not None:
                self._process.receive(0)
            self._process.send((joint_angles, goal))
            self._drawing_since = time.monotonic()
        except TimeoutError:
            assert self._drawing_since is not None
            if time.monotonic() - self._drawing_since > ANSWER_SECONDS:
                raise WindowClosed("the window no longer answers") from None
        except (EOFError, OSError):
            raise WindowClosed("the window was closed") from None

    def close(self) -> None:
        self._process.close()


def _draw(connection: Connection) -> None:
    """The window's process."""
    from panda_rl.env import gym, pybullet, quiet

    with quiet():  # PyBullet's threads also print when they end
        env = gym.make("PandaReach-v2", render=True).unwrapped
        # pybullet.error: Escape closes the window, and the simulation with it.
        with contextlib.suppress(EOFError, ConnectionError, pybullet.error):
            env.sim.physics_client.changeVisualShape(  # the ball is too transparent
                env.sim._bodies_idx["target"], -1, rgbaColor=(0.1, 0.9, 0.1, 1.0)
            )
            while True:
                connection.send("ready")
                joint_angles, goal = connection.recv()
                env.robot.set_joint_angles(joint_angles)
                env.sim.set_base_pose("target", goal, np.array([0, 0, 0, 1]))
        env.close()
