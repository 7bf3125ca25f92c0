"""Reinforcement learning with the Franka Panda.

``import panda_rl`` registers panda-gym 2's 24 environments with Gymnasium, under their own names:
``PandaReach-v2``, ``PandaReachDense-v2``, ``PandaReachJoints-v2``, ``PandaReachJointsDense-v2``, and
the same for Push, Slide, PickAndPlace, Stack and Flip. It changes nothing else.
"""

import itertools

import gymnasium

for _task, _control_type, _reward_type in itertools.product(
    ("Reach", "Push", "Slide", "PickAndPlace", "Stack", "Flip"),
    ("ee", "joints"),
    ("sparse", "dense"),
):
    _suffix = ("Joints" if _control_type == "joints" else "") + _reward_type.title()
    gymnasium.register(
        id=f"Panda{_task}{_suffix.removesuffix('Sparse')}-v2",
        entry_point="panda_rl.env:PandaEnv",
        max_episode_steps=100 if _task == "Stack" else 50,  # panda-gym's own
        kwargs={"task": _task, "control_type": _control_type, "reward_type": _reward_type},
    )
