"""Check the installation: print the spaces, then take random actions.

python panda_reach_random_agent.py
python panda_reach_random_agent.py --control-type joints --no-render
"""

import itertools
import time

import gymnasium as gym
import tyro

from panda_rl import cli
from panda_rl.env import ControlType, RewardType
from panda_rl.window import WindowClosed, has_display


def random_agent(
    control_type: ControlType = "ee",
    reward_type: RewardType = "sparse",
    render: bool = has_display(),
    episodes: int | None = None,
    seed: int | None = None,
) -> None:
    """Take random actions in PandaReach-v2, to check the installation.

    Args:
        control_type: what an action moves: the hand (ee) or the seven joints.
        reward_type: minus the distance (dense), or -1 beyond 5 cm (sparse).
        render: play in a window, in real time. The default if there is a display.
        episodes: number of episodes of 50 steps; by default 10, or until the window is closed.
        seed: random seed for the goals and the actions; by default different every time.
    """
    env = gym.make(
        "PandaReach-v2",
        render_mode="human" if render else None,
        control_type=control_type,
        reward_type=reward_type,
    )
    print("Action space:", env.action_space)
    print("Observation space:")
    for name, space in env.observation_space.items():
        print(f"  {name}: {space}")
    where = "in a window, in real time: close it to stop" if render else "without a window"
    print(f"Taking random actions {where}", flush=True)

    env.action_space.seed(seed)
    if episodes is None and not render:
        episodes = 10
    steps, start = 0, time.perf_counter()
    try:
        for episode in itertools.count() if episodes is None else range(episodes):
            env.reset(seed=seed if episode == 0 else None)
            terminated = truncated = False
            while not (terminated or truncated):
                action = env.action_space.sample()
                observation, reward, terminated, truncated, info = env.step(action)
                steps += 1
    except (WindowClosed, KeyboardInterrupt):
        pass
    rate = steps / (time.perf_counter() - start)
    print(f"The installation works: {steps:,} steps, {rate:,.0f} a second.")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(random_agent))
