"""The effort penalty: in training's reward, and nowhere else."""

import dataclasses
from typing import Any

import panda_reach_train_agent as script
from panda_rl import evaluation
from panda_rl.rewards import EffortPenalty

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor


def test_an_action_costs_its_squared_length_as_the_robot_clips_it() -> None:
    plain = gym.make("PandaReach-v2", reward_type="dense")
    penalized = EffortPenalty(gym.make("PandaReach-v2", reward_type="dense"), coef=0.5)
    for env in (plain, penalized):
        env.reset(seed=0)
    for action in ([0.5, -1.0, 0.0], [3.0, 0.0, 0.0]):
        expected = plain.step(np.array(action, np.float32))
        observation, reward, *rest = penalized.step(np.array(action, np.float32))
        effort = sum(min(abs(a), 1.0) ** 2 for a in action)
        assert float(reward) == pytest.approx(float(expected[1]) - 0.5 * effort, abs=1e-9)
        assert observation["achieved_goal"].tolist() == expected[0]["achieved_goal"].tolist()
        assert rest == list(expected[2:])
    plain.close()
    penalized.close()


def test_training_pays_for_effort_but_its_curve_and_every_evaluation_do_not() -> None:
    rewards: dict[float, Any] = {}
    curves: dict[float, Any] = {}
    for coef in (0.0, 0.5):
        recipe = script.RECIPES["joints", "dense"]
        env = script.make_env(dataclasses.replace(recipe, n_envs=2, n_workers=0, effort_coef=coef))
        env.reset()
        action = np.ones((2, 7), np.float32)
        steps = [env.step(action) for _ in range(50)]
        rewards[coef] = np.sum([reward for _, reward, _, _ in steps], axis=0)
        curves[coef] = [info["episode"]["r"] for info in steps[-1][3]]
        assert env.env_is_wrapped(Monitor) == [True, True]
        env.close()
    assert rewards[0.5] == pytest.approx(rewards[0.0] - 50 * 0.5 * 7, abs=1e-3)
    assert curves[0.5] == curves[0.0]  # SB3's Monitor: the task's own reward
    held_out = evaluation.make_env("joints", n_workers=0, n_envs=1)
    assert held_out.env_is_wrapped(EffortPenalty) == [False]
    held_out.close()
