"""``import panda_rl`` registers panda-gym 2's 24 environments with Gymnasium, and that is all.

They keep their names: PandaReach-v2, PandaReachDense-v2, PandaReachJoints-v2,
PandaReachJointsDense-v2, and the same for Push, Slide, PickAndPlace, Stack and Flip.
"""

import gymnasium

for task in ("Reach", "Push", "Slide", "PickAndPlace", "Stack", "Flip"):
    for joints, control_type in (("", "ee"), ("Joints", "joints")):
        for dense, reward_type in (("", "sparse"), ("Dense", "dense")):
            gymnasium.register(
                f"Panda{task}{joints}{dense}-v2",
                entry_point="panda_rl.env:PandaEnv",
                max_episode_steps=100 if task == "Stack" else 50,  # panda-gym's own
                disable_env_checker=True,  # cubes spin faster than panda-gym's spaces say
                kwargs={"task": task, "control_type": control_type, "reward_type": reward_type},
            )
