"""Where training episodes start, for what random actions would never find."""

from typing import Any

import gymnasium as gym
import numpy as np

DOWN = np.array([1.0, 0.0, 0.0, 0.0])  # the hand points at the table, as panda-gym holds it
HALF_CUBE, WIDE_OPEN = 0.021, 0.04  # m: positions of each finger, the first with 1 mm to spare


class GraspStarts(gym.Wrapper):
    """Starts some episodes with the cube in the hand, and some with the open hand around it.

    Random actions hardly ever grasp a cube, so an agent that picks and places would learn only to
    push. HER's authors did the same (Andrychowicz et al., 2017). Only training has this wrapper;
    every evaluation starts as panda-gym does.

    Args:
        env: PandaPickAndPlace-v2.
        held: the share of episodes that start with the cube between the fingers.
        around: the share that starts with the open hand around the cube, or up to 12 cm above.
    """

    def __init__(self, env: gym.Env, held: float, around: float) -> None:
        super().__init__(env)
        self.held = held
        self.around = around

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**kwargs)
        env: Any = self.unwrapped
        draw, panda = env.np_random.random(), env.panda
        if draw < self.held:
            hand = env.np_random.uniform((-0.15, -0.15, 0.02), (0.15, 0.15, 0.22))
            self._place_hand(panda.robot, hand, HALF_CUBE)
            cube = panda.robot.get_ee_position()
            panda.sim.set_base_pose("object", cube, np.array([0, 0, 0, 1]))
        elif draw < self.held + self.around:
            offset = env.np_random.uniform((-0.01, -0.01, 0.0), (0.01, 0.01, 0.12))
            self._place_hand(panda.robot, panda.task.get_achieved_goal() + offset, WIDE_OPEN)
        return env.observe()

    @staticmethod
    def _place_hand(robot: Any, position: np.ndarray, finger: float) -> None:
        for _ in range(3):  # inverse kinematics starts from the current pose, and is inexact
            arm = robot.inverse_kinematics(robot.ee_link, position, DOWN)[:7]
            robot.set_joint_angles(np.append(arm, (finger, finger)))
