"""The effort penalty."""

from panda_rl.rewards import EffortPenalty

import gymnasium as gym
import numpy as np
import pytest


def test_an_action_costs_its_squared_length_as_the_robot_clips_it() -> None:
    plain = gym.make("PandaReach-v2", reward_type="dense")
    penalized = EffortPenalty(gym.make("PandaReach-v2", reward_type="dense"), coef=0.5)
    for env in (plain, penalized):
        env.reset(seed=0)
    for action in ([0.5, -1.0, 0.0], [3.0, -2.0, 0.0]):
        expected = plain.step(np.array(action, np.float32))
        observation, reward, *rest = penalized.step(np.array(action, np.float32))
        effort = sum(min(abs(a), 1.0) ** 2 for a in action)
        assert float(reward) == pytest.approx(float(expected[1]) - 0.5 * effort, abs=1e-9)
        assert observation["achieved_goal"].tolist() == expected[0]["achieved_goal"].tolist()
        assert rest == list(expected[2:])
    plain.close()
    penalized.close()
