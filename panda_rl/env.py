"""The bridge: panda-gym 2's tasks, written for the retired ``gym``, as Gymnasium environments.

import gymnasium, panda_rl
env = gymnasium.make("PandaReach-v2", reward_type="dense", control_type="ee")
"""

import time
from typing import Any, Literal, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle
from numpy.typing import ArrayLike

from panda_rl import simulator
from panda_rl.window import Window

ControlType = Literal["ee", "joints"]
RewardType = Literal["sparse", "dense"]
Observation = dict[str, Any]  # of arrays


class PandaEnv(gymnasium.Env[Observation, np.ndarray], EzPickle):
    """One of panda-gym 2's tasks for the Panda: its simulation, goals and rewards, unchanged.

    Observation, float32: ``observation`` (n,) starts with the hand's position (m) and velocity
    (m/s); in Reach, that is all. ``achieved_goal`` (3,) is where the hand (Reach) or the cube is
    (m), ``desired_goal`` where it should be; (6,) for Stack's two cubes, a quaternion (4,) in Flip.

    Action, float32 in [-1, 1]: with ``control_type="ee"`` (3,) a displacement of the hand by up
    to 5 cm an axis; with ``"joints"`` (7,) of each joint by up to 0.05 rad. In PickAndPlace, Stack
    and Flip, one more number opens or closes the gripper. 25 actions a second.

    Reward: ``"sparse"`` 0 within 5 cm of the goal (Stack: 10), else -1; ``"dense"`` minus the
    distance in m. Flip's distance is 1 - (q1 . q2)^2, and near is 0.2. Success,
    ``info["is_success"]``, does not end an episode; it is truncated after 50 steps (Stack: 100).

    A copy (deepcopy, pickle) is another simulation, and must be reset. To look ahead from a
    state, use ``env.unwrapped.panda.save_state()`` and ``restore_state``.

    Args:
        render_mode: None, ``"human"`` (PyBullet's window, in real time) or ``"rgb_array"``.
        reward_type: ``"sparse"`` or ``"dense"``.
        control_type: ``"ee"`` or ``"joints"``.
        task: ``"Reach"``, ``"Push"``, ``"Slide"``, ``"PickAndPlace"``, ``"Stack"`` or ``"Flip"``.

    Raises:
        UsageError: ``render_mode="human"``, but no window can be opened.
        ValueError: ``reward_type`` or ``control_type`` is none of the above.
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
        # panda-gym itself would take any other word for "dense" or "joints".
        for word, known in ((reward_type, ("sparse", "dense")), (control_type, ("ee", "joints"))):
            if word not in known:
                raise ValueError(f"{word!r} must be one of {known}")
        self.task = task
        self.render_mode = render_mode
        self._window = Window(task) if render_mode == "human" else None
        self._next_frame = 0.0
        # panda-gym's environment. Its robot, task and sim are yours to use; None once it is closed.
        self.panda: Any = simulator.make(task, reward_type=reward_type, control_type=control_type)
        # Without a goal, panda-gym refuses to go on. So a copy, too, must be reset.
        self.panda.task.goal = None
        self.action_space = _to_gymnasium(self.panda.action_space)
        self.observation_space = gymnasium.spaces.Dict(
            {name: _to_gymnasium(box) for name, box in self.panda.observation_space.items()}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start from the neutral pose with a new goal. ``seed`` fixes all later goals, too.

        ``options={"goal": goal}`` sets this episode's goal. Raises ValueError unless it is finite
        and of ``desired_goal``'s shape, and KeyError for options without it.
        """
        if options:  # checked first: after an error, the episode is as it was
            goal = _finite(options["goal"], self.panda.observation_space["desired_goal"].shape)
        super().reset(seed=seed)
        # panda-gym makes a new generator at each reset, and without a seed the operating
        # system would seed it.
        simulator.reset(self.panda, seed=int(self.np_random.integers(2**31)))
        if options:
            simulator.set_goal(self.panda, goal)
        return self.observe()

    def step(
        self, action: ArrayLike
    ) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one action: 1/25 s of simulated time. Never terminates.

        Raises RuntimeError before the first ``reset``, and ValueError for another shape or a number
        that is not finite, which would break the simulator for good.
        """
        panda = self.panda
        # panda-gym's own step, but for its observation and reward: see below.
        panda.robot.set_action(_finite(action, self.action_space.shape))
        panda.sim.step()
        observation, info = self.observe()
        # Computed from what the agent sees, so that HER computes exactly the same rewards.
        reward = self.compute_reward(
            observation["achieved_goal"], observation["desired_goal"], info
        )
        return observation, float(reward), False, False, info

    def observe(self) -> tuple[Observation, dict[str, Any]]:
        """The observation and the info, also after a change through ``panda``. Draws the window."""
        robot, task = self.panda.robot, self.panda.task
        observation = {
            "observation": np.concatenate((robot.get_obs(), task.get_obs()), dtype=np.float32),
            "achieved_goal": task.get_achieved_goal().astype(np.float32),
            "desired_goal": task.get_goal().astype(np.float32),
        }
        success = task.is_success(observation["achieved_goal"], observation["desired_goal"])
        if self._window:
            now = time.perf_counter()
            # After a pause, continue at the same speed instead of rushing to catch up.
            self._next_frame = max(self._next_frame + 1 / self.metadata["render_fps"], now)
            time.sleep(self._next_frame - now)
            self._window.show(self.panda)
        return observation, {"is_success": bool(success)}

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Rewards (...,) for goals (..., n). HER calls this."""
        return self.panda.task.compute_reward(achieved_goal, desired_goal, info)

    def render(self) -> np.ndarray | None:
        """A picture, (480, 720, 3) uint8; None unless ``render_mode`` is ``"rgb_array"``."""
        return self.picture() if self.render_mode == "rgb_array" else None

    def picture(self, width: int = 720, height: int = 480, closeup: bool = False) -> np.ndarray:
        """What ``render`` returns, in any render mode: (height, width, 3) uint8.

        PyBullet's software renderer draws it in about 0.2 s and needs no display. ``closeup`` shows
        where the goals are instead of the whole arm.
        """
        camera, bodies = self.panda.sim.physics_client, simulator.bodies(self.panda)
        center, fov = ((0.0, 0.0, 0.15), 26) if closeup else ((-0.2, 0.0, 0.26), 40)
        view = camera.computeViewMatrixFromYawPitchRoll(
            center, distance=1.35, yaw=-20, pitch=-22, roll=0, upAxisIndex=2
        )
        projection = camera.computeProjectionMatrixFOV(fov, width / height, nearVal=0.1, farVal=10)
        light = {"shadow": True, "lightDirection": (1.0, -1.0, 2.0), "lightDistance": 10}
        _, _, rgba, _, drawn = camera.getCameraImage(
            width, height, view, projection, renderer=camera.ER_TINY_RENDERER, **light
        )
        # PyBullet returns arrays, or tuples if it was built without NumPy.
        picture = np.reshape(np.asarray(rgba, np.uint8), (height, width, 4))[..., :3].copy()
        drawn = np.reshape(drawn, (height, width))
        # One colour behind the white arm: floor and sky (-1) are a distraction.
        picture[(drawn == -1) | (drawn == bodies["plane"])] = (44, 62, 80)
        for name in simulator.movable(self.panda, "target"):
            if self.task != "Reach":  # paler than the cube
                picture[drawn == bodies[name]] = picture[drawn == bodies[name]] // 3 + 170
        return picture

    def close(self) -> None:
        if self.panda is not None:
            if self._window:
                self._window.close()
            self.panda.close()
            self.panda = None


def _finite(numbers: ArrayLike, shape: tuple[int, ...] | None) -> np.ndarray:
    array: np.ndarray = np.asarray(numbers, np.float32)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers of shape {shape}, not {numbers!r}")
    return array


def _to_gymnasium(space: Any) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(space.low, space.high, space.shape, space.dtype.type)
