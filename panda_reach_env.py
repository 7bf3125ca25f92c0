"""Registers PandaReach-v2 with Gymnasium: ``import panda_reach_env`` is enough.

The simulation is panda-gym 2's own ``PandaReach-v2``. It speaks the API of the
retired ``gym`` package; this module is the bridge, and the only place where old
``gym`` is imported. Nothing of the task is written again here.

    env = gymnasium.make("PandaReach-v2", render_mode="human",
                         reward_type="dense", control_type="ee")
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle

ControlType = Literal["ee", "joints"]
RewardType = Literal["sparse", "dense"]
Observation = dict[str, Any]  # of arrays


class DisplayError(RuntimeError):
    """A window was asked for and there is no display to open it on."""


class WindowClosed(RuntimeError):
    """The window was closed while an episode was played in it."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2 to /dev/null.

    PyBullet's C code prints its build time, panda-gym's option string and its
    threads' coming and going; Python's ``redirect_stdout`` does not reach those.
    """
    flush_c = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).fflush
    saved: dict[int, int] = {}
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: fd closed
        stream.flush()
    flush_c(None)  # what C printed before belongs to the caller
    with Path(os.devnull).open("w") as devnull:
        for fd in (1, 2):
            with contextlib.suppress(OSError):  # a program may run with fd closed
                saved[fd] = os.dup(fd)
                os.dup2(devnull.fileno(), fd)
    try:
        yield
    finally:
        flush_c(None)  # C buffers a pipe: let the noise go before stdout is back
        for fd, copy in saved.items():
            os.dup2(copy, fd)
            os.close(copy)


with _quiet():  # pybullet prints its build time when imported
    import gym
    import panda_gym  # noqa: F401  registers PandaReach-v2 with old gym
    import pybullet


def has_display() -> bool:
    """Whether a window can be opened.

    On Linux an X server is really asked: DISPLAY may name one that is gone, and
    PyBullet would then end the process or hang for ever.
    """
    if not sys.platform.startswith("linux"):
        return True
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(display)
    return bool(display)


def require_display() -> None:
    """Raises DisplayError where no window can be opened."""
    if not has_display():
        raise DisplayError(
            f"no display answers (DISPLAY={os.environ.get('DISPLAY', '')!r}): "
            'a window can\'t be opened; leave out --render or render_mode="human"'
        )


def _to_gymnasium(space: gym.spaces.Box) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(space.low, space.high, space.shape, space.dtype.type)


class PandaReachEnv(gymnasium.Env[Observation, np.ndarray], EzPickle):
    """Move the Panda's hand to a goal drawn in a 30 cm cube above the table.

    Observation, float32: ``observation`` (6,) the hand's position (m) and velocity
    (m/s); ``achieved_goal`` (3,) its position; ``desired_goal`` (3,) the goal's.

    Action, float32 in [-1, 1]: with ``control_type="ee"`` (3,) a displacement of the
    hand of up to 5 cm an axis; with ``"joints"`` (7,) of each joint by up to 0.05 rad.
    25 actions a second, each 20 physics steps of 1/500 s.

    Reward: ``"sparse"`` 0 within 5 cm of the goal, else -1; ``"dense"`` minus the
    distance in m. Success (``info["is_success"]``) does not end an episode; it is
    truncated at 50 steps.

    Args:
        render_mode: None, ``"human"`` (PyBullet's window, in real time) or
            ``"rgb_array"`` (``render()`` gives (480, 720, 3) uint8; no display needed).
        reward_type: ``"sparse"`` or ``"dense"``.
        control_type: ``"ee"`` or ``"joints"``.

    Raises:
        DisplayError: ``render_mode="human"`` without a display that answers.
        ValueError: an argument that is none of the above.
        WindowClosed: by ``reset`` and ``step``, once the window has been closed.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 25}  # noqa: RUF012

    def __init__(
        self,
        render_mode: Literal["human", "rgb_array"] | None = None,
        reward_type: RewardType = "sparse",
        control_type: ControlType = "ee",
    ) -> None:
        # A copy is a simulator of its own: one that shared this one's connection would
        # close it when it goes.
        EzPickle.__init__(self, render_mode, reward_type, control_type)
        self._env: Any = None  # for close(), should what follows fail
        self._window: _Window | None = None
        for name, value, known in (
            ("render_mode", render_mode, (None, *self.metadata["render_modes"])),
            ("reward_type", reward_type, ("sparse", "dense")),
            ("control_type", control_type, ("ee", "joints")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, but must be one of {known}")
        if render_mode == "human":
            require_display()
        self.render_mode = render_mode
        with _quiet():
            # unwrapped: Gymnasium counts the 50 steps, see register() below
            self._env = gym.make(
                "PandaReach-v2", reward_type=reward_type, control_type=control_type
            ).unwrapped
        if render_mode == "human":
            self._window = _Window()
        self.action_space = _to_gymnasium(self._env.action_space)
        self.observation_space = gymnasium.spaces.Dict(
            {key: _to_gymnasium(box) for key, box in self._env.observation_space.items()}
        )
        self.compute_reward = self._env.compute_reward  # HER relabels with it
        self._next_frame = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Neutral pose, new goal. One ``seed`` fixes the goals of all later resets too."""
        super().reset(seed=seed)
        # panda-gym makes a new generator at every reset: without a seed from ours,
        # that one would be drawn from the operating system.
        observation = self._float32(self._env.reset(seed=int(self.np_random.integers(2**31))))
        self._show()
        return observation, {"is_success": self._is_success(observation)}

    def step(
        self, action: np.ndarray
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One action, 1/25 s of simulated time. Never terminated."""
        observation = self._float32(self._env.step(action)[0])
        info = {"is_success": self._is_success(observation)}
        # From what the agent sees, so that HER computes the very same rewards.
        reward = self.compute_reward(
            observation["achieved_goal"], observation["desired_goal"], info
        )
        self._show()
        return observation, float(reward), False, False, info

    def render(self) -> np.ndarray | None:
        """The camera's picture, (480, 720, 3) uint8; None unless ``"rgb_array"``."""
        return self.picture() if self.render_mode == "rgb_array" else None

    def picture(self, width: int = 720, height: int = 480) -> np.ndarray:
        """What ``render()`` gives, in any render mode and size: (height, width, 3) uint8.

        By PyBullet's software renderer, about 0.2 s a picture: no display needed.
        """
        sim = self._env.sim
        camera = sim.physics_client
        _, _, rgba, _, bodies = camera.getCameraImage(
            width,
            height,
            viewMatrix=camera.computeViewMatrixFromYawPitchRoll(
                cameraTargetPosition=(-0.2, 0.0, 0.26),
                distance=1.35,
                yaw=-20,
                pitch=-22,
                roll=0,
                upAxisIndex=2,
            ),
            projectionMatrix=camera.computeProjectionMatrixFOV(
                fov=40, aspect=width / height, nearVal=0.1, farVal=10
            ),
            shadow=True,
            lightDirection=(1.0, -1.0, 2.0),
            lightDistance=10,
            lightAmbientCoeff=0.5,
            lightDiffuseCoeff=0.45,
            lightSpecularCoeff=0.05,
            renderer=camera.ER_TINY_RENDERER,
        )
        picture = np.reshape(rgba, (height, width, 4)).astype(np.uint8)[..., :3]
        # One colour behind the white arm: floor and sky (body -1) only distract.
        bodies = np.reshape(bodies, (height, width))
        picture[(bodies == -1) | (bodies == sim._bodies_idx["plane"])] = (44, 62, 80)
        return picture

    def close(self) -> None:
        if self._env is not None:
            with _quiet():
                self._env.close()
            self._env = None
        if self._window is not None:
            self._window.close()
            self._window = None

    def _is_success(self, observation: Observation) -> bool:
        task = self._env.task
        return bool(task.is_success(observation["achieved_goal"], observation["desired_goal"]))

    @staticmethod
    def _float32(observation: Observation) -> Observation:
        return {key: value.astype(np.float32) for key, value in observation.items()}

    def _show(self) -> None:
        """Bring the window up to date, in real time: 25 frames a second."""
        if self._window is None:
            return
        now = time.perf_counter()
        # A viewer who fell behind is not made to catch up.
        self._next_frame = max(self._next_frame + 1 / self.metadata["render_fps"], now)
        time.sleep(self._next_frame - now)
        robot = self._env.robot
        angles = [robot.get_joint_angle(joint) for joint in robot.joint_indices]
        self._window.show(np.concatenate((angles, self._env.task.get_goal())))


class _Window:
    """PyBullet's own window, in a process of its own that mirrors each pose.

    Opened in this process, it would take this process along when it is closed
    (Xlib then calls ``exit(1)``: an agent in training would be lost), and each
    physics step would wait for the drawing.
    """

    POSE = np.dtype((np.float64, 12))  # nine joint angles (rad), the goal (m)

    def __init__(self) -> None:
        self._process: Any = subprocess.Popen(  # Any: its pipes are there
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the script, which then closes us
        )
        assert self._process.stdout
        if not self._process.stdout.read(1):
            self.close()
            raise DisplayError("PyBullet could not open its window (OpenGL 3 is needed)")

    def show(self, pose: np.ndarray) -> None:
        try:
            self._process.stdin.write(pose.astype(self.POSE.base).tobytes())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WindowClosed("the window was closed") from None

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    @classmethod
    def run(cls) -> None:
        """The window's process: open it, say so on stdout, draw what stdin says."""
        opened = os.dup(1)
        # Escape closes the window too: the simulation in it is gone then.
        with _quiet(), contextlib.suppress(pybullet.error):
            env = gym.make("PandaReach-v2", render=True).unwrapped
            env.sim.physics_client.changeVisualShape(  # its own green is hard to see
                env.sim._bodies_idx["target"], -1, rgbaColor=(0.1, 0.9, 0.1, 1.0)
            )
            os.write(opened, b"!")
            # A pipe's write of one pose is atomic; of a backlog the last one counts.
            while poses := os.read(0, 512 * cls.POSE.itemsize):
                pose = np.frombuffer(poses[-cls.POSE.itemsize :])
                env.robot.set_joint_angles(pose[:9])
                env.sim.set_base_pose("target", pose[9:], np.array([0, 0, 0, 1]))
            env.close()


gymnasium.register(
    id="PandaReach-v2",
    entry_point="panda_reach_env:PandaReachEnv",
    max_episode_steps=gym.spec("PandaReach-v2").max_episode_steps,
)

if __name__ == "__main__":
    _Window.run()
