"""What training adds to the task's reward."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np


class EffortPenalty(gym.Wrapper):
    """Subtracts ``coef`` times the squared length of each action from the reward.

    The Panda has seven joints, and three are enough to reach a point. Moving the other four
    costs nothing and the observation does not show it, so without a penalty they drift. An arm
    that pays for every movement keeps idle joints still, as a real robot should.

    Only training has this wrapper. The task, its reward and every evaluation are unchanged.
    """

    def __init__(self, env: gym.Env, coef: float) -> None:
        super().__init__(env)
        self.coef = coef

    def step(self, action: np.ndarray) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        effort = float(np.square(np.clip(action, -1, 1)).sum())
        return observation, float(reward) - self.coef * effort, terminated, truncated, info
