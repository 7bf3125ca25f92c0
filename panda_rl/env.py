"""The bridge: panda-gym 2's PandaReach-v2 as a Gymnasium environment.

panda-gym 2 uses the API of the retired ``gym`` package. The task is panda-gym's own; nothing
of it is reimplemented here.

    import gymnasium, panda_rl
    env = gymnasium.make("PandaReach-v2", reward_type="dense", control_type="ee")
"""

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, SupportsFloat

from panda_rl import interrupts
from panda_rl.window import Window, require_display

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError
from gymnasium.utils import EzPickle

ControlType = Literal["ee", "joints"]
RewardType = Literal["sparse", "dense"]
Observation = dict[str, Any]  # of arrays

_QUIET = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2 to the null device.

    PyBullet's C code prints its build time, panda-gym's options and messages from its threads.
    Python's ``redirect_stdout`` does not reach those. File descriptors belong to the whole
    process, so only one thread at a time may redirect them. Ctrl-C and SIGTERM wait until the
    block ends: what they print would be lost, and a client of PyBullet that is half made
    would print a traceback.
    """
    flush_c = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None).fflush
    with _QUIET, interrupts.held_back():
        saved: dict[int, int] = {}
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None if it was closed
            with contextlib.suppress(OSError):  # a full disk is the caller's to report
                stream.flush()
        flush_c(None)  # what C code has printed so far is the caller's too
        with Path(os.devnull).open("w") as devnull:
            for fd in (1, 2):
                with contextlib.suppress(OSError):  # fd may be closed
                    saved[fd] = os.dup(fd)
                    os.dup2(devnull.fileno(), fd)
        try:
            yield
        finally:
            flush_c(None)  # C buffers its output: drop the noise before restoring stdout
            for fd, copy in saved.items():
                os.dup2(copy, fd)
                os.close(copy)


with quiet():  # pybullet prints its build time when imported
    import gym
    import panda_gym  # noqa: F401  registers PandaReach-v2 with old gym
    import pybullet  # noqa: F401


def _to_gymnasium(space: gym.spaces.Box) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(space.low, space.high, space.shape, space.dtype.type)


class PandaReachEnv(gymnasium.Env[Observation, np.ndarray], EzPickle):
    """Move the Panda's hand to a goal in a 30 cm cube above the table.

    Observation, float32: ``observation`` (6,) holds the hand's position (m) and velocity
    (m/s); ``achieved_goal`` (3,) its position again; ``desired_goal`` (3,) the goal's.

    Action, float32 in [-1, 1]: with ``control_type="ee"`` (3,) a displacement of the hand by
    up to 5 cm an axis; with ``"joints"`` (7,) of each joint by up to 0.05 rad.
    25 actions a second, each 20 physics steps of 1/500 s.

    Reward: ``"sparse"`` 0 within 5 cm of the goal, else -1; ``"dense"`` minus the
    distance in m. Success (``info["is_success"]``) does not end an episode; it is
    truncated after 50 steps.

    Args:
        render_mode: None, ``"human"`` (PyBullet's window, in real time) or
            ``"rgb_array"`` (``render()`` returns (480, 720, 3) uint8; needs no display).
        reward_type: ``"sparse"`` or ``"dense"``.
        control_type: ``"ee"`` or ``"joints"``.

    Raises:
        ClosedEnvironmentError: any method but ``close`` was called after ``close``.
        DisplayError: ``render_mode="human"``, but no display answers.
        ValueError: an argument is none of the above.
        WindowClosed: ``reset`` or ``step`` was called after the window was closed.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 25}  # noqa: RUF012

    def __init__(
        self,
        render_mode: Literal["human", "rgb_array"] | None = None,
        reward_type: RewardType = "sparse",
        control_type: ControlType = "ee",
    ) -> None:
        # A copy gets its own simulator: deleting the copy must not close this one's
        # connection.
        EzPickle.__init__(self, render_mode, reward_type, control_type)
        self._simulation: Any = None  # close() needs it if what follows fails
        self._window: Window | None = None
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
        with quiet():
            # unwrapped: Gymnasium counts the 50 steps, see __init__.py
            self._simulation = gym.make(
                "PandaReach-v2", reward_type=reward_type, control_type=control_type
            ).unwrapped
        # By default Bullet handles contacts in an order that can depend on memory addresses, and
        # with it the last digits of the hand's position. This sorts them.
        engine = self._simulation.sim.physics_client
        engine.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
        if render_mode == "human":
            self._window = Window()
        self.action_space = _to_gymnasium(self._panda.action_space)
        self.observation_space = gymnasium.spaces.Dict(
            {key: _to_gymnasium(box) for key, box in self._panda.observation_space.items()}
        )
        self._next_frame = 0.0

    @property
    def _panda(self) -> Any:
        """panda-gym's environment."""
        if self._simulation is None:
            raise ClosedEnvironmentError("the environment is closed: make a new one")
        return self._simulation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start from the neutral pose with a new goal. ``seed`` fixes all later goals too."""
        super().reset(seed=seed)
        # panda-gym makes a new generator at each reset, and without a seed the operating
        # system would seed it.
        observation = self._float32(self._panda.reset(seed=int(self.np_random.integers(2**31))))
        self._show()
        return observation, {"is_success": self._is_success(observation)}

    def step(
        self, action: np.ndarray
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one action: 1/25 s of simulated time. Never terminates.

        Raises:
            ValueError: ``action`` has another shape, or a number that is not finite, which
                would break the simulator for good.
        """
        panda = self._panda
        if np.shape(action) != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(
                f"the action must be finite and of shape {self.action_space.shape}, not {action}"
            )
        observation = self._float32(panda.step(action)[0])
        info = {"is_success": self._is_success(observation)}
        # Computed from what the agent sees, so that HER computes exactly the same rewards.
        reward = self.compute_reward(
            observation["achieved_goal"], observation["desired_goal"], info
        )
        self._show()
        return observation, float(reward), False, False, info

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Rewards (...,) for positions (..., 3) in m. HER calls this."""
        return self._panda.compute_reward(achieved_goal, desired_goal, info)

    def render(self) -> np.ndarray | None:
        """A picture, (480, 720, 3) uint8; None unless ``render_mode`` is ``"rgb_array"``."""
        return self.picture() if self.render_mode == "rgb_array" else None

    def picture(self, width: int = 720, height: int = 480) -> np.ndarray:
        """What ``render`` returns, in any render mode and size: (height, width, 3) uint8.

        PyBullet's software renderer draws it in about 0.2 s and needs no display.
        """
        sim = self._panda.sim
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
        # PyBullet returns arrays, or tuples if it was built without NumPy.
        picture = np.reshape(np.asarray(rgba, np.uint8), (height, width, 4))[..., :3].copy()
        bodies = np.reshape(bodies, (height, width))
        # One colour behind the white arm: floor and sky (body -1) are a distraction.
        picture[(bodies == -1) | (bodies == sim._bodies_idx["plane"])] = (44, 62, 80)
        return picture

    def close(self) -> None:
        if self._simulation is not None:
            with quiet():
                self._simulation.close()
            self._simulation = None
        if self._window is not None:
            self._window.close()
            self._window = None

    def _is_success(self, observation: Observation) -> bool:
        task = self._panda.task
        return bool(task.is_success(observation["achieved_goal"], observation["desired_goal"]))

    @staticmethod
    def _float32(observation: Observation) -> Observation:
        return {key: value.astype(np.float32) for key, value in observation.items()}

    def _show(self) -> None:
        """Update the window, in real time: 25 frames a second."""
        if self._window is None:
            return
        now = time.perf_counter()
        # After a pause, continue at the same speed instead of rushing to catch up.
        self._next_frame = max(self._next_frame + 1 / self.metadata["render_fps"], now)
        time.sleep(self._next_frame - now)
        robot = self._panda.robot
        angles = [robot.get_joint_angle(joint) for joint in robot.joint_indices]
        self._window.show(np.array(angles), self._panda.task.get_goal())
