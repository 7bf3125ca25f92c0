"""Check the installation: print the spaces, then take random actions."""

import itertools
import time

from panda_rl import cli
from panda_rl.env import ControlType, RewardType
from panda_rl.errors import WindowClosed
from panda_rl.window import wanted

import gymnasium as gym


def random_agent(
    control_type: ControlType = "ee",
    reward_type: RewardType = "sparse",
    render: cli.Flag = False,
    no_render: cli.Flag = False,
    episodes: cli.OptionalInt = None,
    seed: cli.OptionalInt = None,
) -> None:
    """Take random actions in PandaReach-v2, to check the installation.

    Args:
        control_type: what an action moves: the hand (ee) or the seven joints.
        reward_type: minus the distance (dense), or -1 beyond 5 cm (sparse).
        render: play in a window, in real time. The default if there is a display.
        no_render: play without a window.
        episodes: number of episodes of 50 steps; by default 10, or until the window is closed.
        seed: random seed for the goals and the actions; by default different every time.

    Raises:
        UsageError: fewer than one episode, a negative seed, or no display to render on.
    """
    cli.check_range(1, 10**9, episodes=episodes)
    cli.check_range(0, 2**32 - 1, seed=seed)
    render = wanted(render, no_render)
    env = gym.make(
        "PandaReach-v2",
        render_mode="human" if render else None,
        control_type=control_type,
        reward_type=reward_type,
    )
    print("Action space:", env.action_space)
    print("Observation space:")
    assert isinstance(env.observation_space, gym.spaces.Dict)
    for name, space in env.observation_space.items():
        print(f"  {name}: {space}")
    if render:
        cli.say("Random actions in a window, in real time. Close it or press Ctrl-C to stop.")
    else:
        cli.say("Random actions without a window" + ("." if no_render else " (no display)."))

    if episodes is None and not render:
        episodes = 10
    numbers = itertools.count() if episodes is None else range(episodes)
    env.action_space.seed(seed)
    steps, start = 0, time.perf_counter()
    try:
        for episode in numbers:
            env.reset(seed=seed if episode == 0 else None)
            terminated = truncated = False
            while not (terminated or truncated):
                action = env.action_space.sample()
                observation, reward, terminated, truncated, info = env.step(action)
                steps += 1
    except (WindowClosed, KeyboardInterrupt):
        pass
    rate = steps / (time.perf_counter() - start)
    env.close()
    print(f"The installation works: {steps:,} steps, {rate:,.0f} a second.")


if __name__ == "__main__":
    cli.run(random_agent)
