"""Check the installation: print the spaces, then take random actions.

python panda_reach_random_agent.py --control-type joints --no-render
python panda_reach_random_agent.py --help
"""

import contextlib
import dataclasses
import time

import gymnasium as gym
import tyro

from panda_rl import cli
from panda_rl.env import ControlType, RewardType
from panda_rl.window import has_display


@dataclasses.dataclass
class Options:
    """Take random actions in PandaReach-v2, to check the installation."""

    control_type: ControlType = "ee"  # what an action moves: the hand (ee) or the seven joints
    reward_type: RewardType = "sparse"  # minus the distance (dense), or -1 beyond 5 cm (sparse)
    render: bool = has_display()  # play in a window, in real time
    episodes: int = 10  # of 50 steps each
    seed: int | None = None  # of the goals and the actions; by default different every time


def random_agent() -> None:
    options = tyro.cli(Options)
    env = gym.make(
        "PandaReach-v2",
        render_mode="human" if options.render else None,
        control_type=options.control_type,
        reward_type=options.reward_type,
    )
    print("Action space:", env.action_space)
    print("Observation space:", env.observation_space)
    print("Taking random actions", flush=True)

    env.action_space.seed(options.seed)
    env.reset(seed=options.seed)
    steps, start = 0, time.perf_counter()
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C, or the window was closed
        for _ in range(options.episodes):
            terminated = truncated = False
            while not (terminated or truncated):
                action = env.action_space.sample()
                observation, reward, terminated, truncated, info = env.step(action)
                steps += 1
            env.reset()
    rate = steps / (time.perf_counter() - start)
    print(f"The installation works: {steps:,} steps, {rate:,.0f} a second.")


if __name__ == "__main__":
    cli.run(random_agent)
