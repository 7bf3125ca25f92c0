"""Reinforcement learning with the Franka Panda: ``import panda_rl`` registers PandaReach-v2."""

import panda_rl.interrupts  # noqa: F401  first, to cover the slow imports below

import gymnasium

gymnasium.register(
    id="PandaReach-v2",
    entry_point="panda_rl.env:PandaReachEnv",
    max_episode_steps=50,  # panda-gym's own
)
