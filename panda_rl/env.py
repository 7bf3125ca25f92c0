"""The bridge: panda-gym 2's tasks as Gymnasium environments.

panda-gym 2 uses the API of the retired ``gym`` package. The tasks are panda-gym's own; nothing
of them is reimplemented here.

    import gymnasium, panda_rl
    env = gymnasium.make("PandaReach-v2", reward_type="dense", control_type="ee")
"""

import time
from typing import Any, Literal, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import EzPickle
from numpy.typing import ArrayLike

from panda_rl import simulator
from panda_rl.window import Window

ControlType = Literal["ee", "joints"]
RewardType = Literal["sparse", "dense"]
Observation = dict[str, Any]  # of arrays

BACKGROUND = (44, 62, 80)
"""Red, green and blue behind the white arm in pictures."""


class PandaEnv(gymnasium.Env[Observation, np.ndarray], EzPickle):
    """A task of panda-gym 2 for the Panda: reach a goal, or move a cube to one.

    Observation, float32: ``observation`` (n,) starts with the hand's position (m) and velocity
    (m/s), and this is all in Reach (n = 6); ``achieved_goal`` is where the hand (Reach) or the cube
    is; ``desired_goal`` is where it should be. Both are (3,) in m, except in Stack, (6,) for two
    cubes, and in Flip, (4,) for a quaternion.

    Action, float32 in [-1, 1]: with ``control_type="ee"`` (3,) a displacement of the hand by up to
    5 cm an axis; with ``"joints"`` (7,) of each joint by up to 0.05 rad. PickAndPlace, Stack and
    Flip have one more number, which opens or closes the gripper. 25 actions a second, each 20
    physics steps of 1/500 s.

    Reward: ``"sparse"`` 0 within 5 cm of the goal, else -1; ``"dense"`` minus the distance in m.
    (Stack: within 10 cm. Flip: 1 minus the squared product of the quaternions, within 0.2.)
    Success (``info["is_success"]``) does not end an episode. Gymnasium truncates it after 50
    steps (Stack: 100).

    A copy, by ``copy.deepcopy`` or ``pickle``, is a fresh simulation that must be reset. To look
    ahead from a state, use ``panda.save_state()`` and ``panda.restore_state(...)``.

    Args:
        render_mode: None, ``"human"`` (PyBullet's window, in real time) or
            ``"rgb_array"`` (``render()`` returns (480, 720, 3) uint8; needs no display).
        reward_type: ``"sparse"`` or ``"dense"``.
        control_type: ``"ee"`` or ``"joints"``.
        task: ``"Reach"``, ``"Push"``, ``"Slide"``, ``"PickAndPlace"``, ``"Stack"`` or ``"Flip"``.

    Raises:
        ClosedEnvironmentError: any method but ``close`` was called after ``close``.
        DisplayError: ``render_mode="human"``, but no window can be opened.
        ValueError: an argument is none of the above.
        WindowClosed: ``reset`` or ``step`` was called after the window was closed.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 25}  # noqa: RUF012

    def __init__(
        self,
        render_mode: Literal["human", "rgb_array"] | None = None,
        reward_type: RewardType = "sparse",
        control_type: ControlType = "ee",
        task: str = "Reach",
    ) -> None:
        # A copy gets its own simulator: deleting the copy must not close this one's connection.
        EzPickle.__init__(self, render_mode, reward_type, control_type, task)
        self._panda: Any = None  # close() needs these if what follows fails
        self._window: Window | None = None
        for name, value, known in (
            ("render_mode", render_mode, (None, *self.metadata["render_modes"])),
            ("reward_type", reward_type, ("sparse", "dense")),
            ("control_type", control_type, ("ee", "joints")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, but must be one of {known}")
        self.render_mode = render_mode
        self.task = task
        self._needs_reset = True
        self._next_frame = 0.0
        if render_mode == "human":
            self._window = Window(task)
        self._panda = simulator.make(task, reward_type=reward_type, control_type=control_type)
        self.action_space = self._to_gymnasium(self.panda.action_space)
        self.observation_space = gymnasium.spaces.Dict(
            {key: self._to_gymnasium(box) for key, box in self.panda.observation_space.items()}
        )

    @property
    def panda(self) -> Any:
        """panda-gym's environment: its ``robot``, ``task`` and ``sim`` are yours to use."""
        if self._panda is None:
            raise ClosedEnvironmentError("the environment is closed: make a new one")
        return self._panda

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start from the neutral pose with a new goal.

        Args:
            seed: fixes this goal and all later ones.
            options: ``{"goal": goal}`` sets this episode's goal, of ``desired_goal``'s shape.

        Raises:
            ValueError: another option, or a goal of another shape or that is not finite.
        """
        super().reset(seed=seed)
        goal = self._checked_goal(options or {})
        # panda-gym makes a new generator at each reset, and without a seed the operating
        # system would seed it. Flip draws from NumPy's global generator, whatever the seed.
        new_seed = int(self.np_random.integers(2**31))
        global_state = np.random.get_state()
        np.random.seed(new_seed)
        observation = self._float32(self.panda.reset(seed=new_seed))
        np.random.set_state(global_state)
        if goal is not None:
            self._place(goal)
            observation["desired_goal"] = goal.astype(np.float32)
        self._needs_reset = False
        self._show()
        return observation, {"is_success": self._is_success(observation)}

    def step(
        self, action: ArrayLike
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one action: 1/25 s of simulated time. Never terminates.

        Raises:
            ResetNeeded: ``reset`` has not been called yet.
            ValueError: ``action`` has another shape, or a number that is not finite, which
                would break the simulator for good.
        """
        if self._needs_reset and self._panda is not None:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")
        numbers = np.asarray(action, np.float32)
        if numbers.shape != self.action_space.shape or not np.isfinite(numbers).all():
            raise ValueError(
                f"the action must be finite and of shape {self.action_space.shape}, not {action}"
            )
        observation = self._float32(self.panda.step(numbers)[0])
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
        """Rewards (...,) for goals (..., n). HER calls this."""
        if self.task == "Flip" and achieved_goal.ndim > 1:  # panda-gym compares one pair at a time
            pairs = zip(achieved_goal, desired_goal, strict=True)
            return np.array([self.compute_reward(*pair, info) for pair in pairs])
        return self.panda.task.compute_reward(achieved_goal, desired_goal, info)

    def render(self) -> np.ndarray | None:
        """A picture, (480, 720, 3) uint8; None unless ``render_mode`` is ``"rgb_array"``."""
        return self.picture() if self.render_mode == "rgb_array" else None

    def picture(self, width: int = 720, height: int = 480, fov: float = 40) -> np.ndarray:
        """What ``render`` returns, in any render mode and size: (height, width, 3) uint8.

        PyBullet's software renderer draws it in about 0.2 s and needs no display.

        Args:
            width: pixels.
            height: pixels.
            fov: the vertical field of view in degrees; a smaller one shows the hand larger.
        """
        camera = self.panda.sim.physics_client
        _, _, rgba, _, drawn = camera.getCameraImage(
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
                fov=fov, aspect=width / height, nearVal=0.1, farVal=10
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
        drawn = np.reshape(drawn, (height, width))
        # One colour behind the white arm: floor and sky (-1) are a distraction.
        picture[(drawn == -1) | (drawn == simulator.bodies(self.panda)["plane"])] = BACKGROUND
        return picture

    def close(self) -> None:
        if self._panda is not None:
            with simulator.quiet():
                self._panda.close()
            self._panda = None
        if self._window is not None:
            self._window.close()
            self._window = None

    def _checked_goal(self, options: dict[str, Any]) -> np.ndarray | None:
        if unknown := options.keys() - {"goal"}:
            raise ValueError(f"unknown options {sorted(unknown)}: there is only 'goal'")
        if "goal" not in options:
            return None
        shape = self.observation_space["desired_goal"].shape
        goal = np.asarray(options["goal"], np.float64)
        if goal.shape != shape or not np.isfinite(goal).all():
            raise ValueError(f"the goal must be finite and of shape {shape}, not {options['goal']}")
        return goal

    def _place(self, goal: np.ndarray) -> None:
        """Make ``goal`` the task's, and show it there."""
        self.panda.task.goal = goal
        sim = self.panda.sim
        targets = [name for name in simulator.bodies(self.panda) if name.startswith("target")]
        for target, pose in zip(targets, np.split(goal, len(targets)), strict=True):
            if self.task == "Flip":
                sim.set_base_pose(target, sim.get_base_position(target), pose)
            else:
                sim.set_base_pose(target, pose, np.array([0, 0, 0, 1]))

    def _is_success(self, observation: Observation) -> bool:
        task = self.panda.task
        return bool(task.is_success(observation["achieved_goal"], observation["desired_goal"]))

    def _show(self) -> None:
        """Update the window, in real time: 25 frames a second."""
        if self._window is None:
            return
        now = time.perf_counter()
        # After a pause, continue at the same speed instead of rushing to catch up.
        self._next_frame = max(self._next_frame + 1 / self.metadata["render_fps"], now)
        time.sleep(self._next_frame - now)
        self._window.show(self.panda)

    @staticmethod
    def _float32(observation: Observation) -> Observation:
        return {key: value.astype(np.float32) for key, value in observation.items()}

    @staticmethod
    def _to_gymnasium(space: Any) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(space.low, space.high, space.shape, space.dtype.type)
