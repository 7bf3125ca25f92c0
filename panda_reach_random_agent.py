"""See that the installation works: the spaces, then random actions."""

import itertools
import time

import gymnasium as gym

import panda_reach_utils as utils
from panda_reach_env import ControlType, RewardType, WindowClosed, has_display


def random_agent(
    control_type: ControlType = "ee",
    reward_type: RewardType = "sparse",
    render: bool = has_display(),
    episodes: utils.OptionalInt = None,
    seed: utils.OptionalInt = None,
) -> None:
    """Take random actions in PandaReach-v2, to see that the installation works.

    Args:
        control_type: what an action moves: the hand (ee) or the seven joints.
        reward_type: minus the distance (dense), or -1 away from the goal (sparse).
        render: play in a window, in real time. The default: where there is a display.
        episodes: of 50 steps; 10 if not given, in a window until it is closed.
        seed: of the goals and the actions; new ones each time if not given.

    Raises:
        UsageError: fewer than one episode, or a negative seed.
        DisplayError: ``render`` without a display.
    """
    utils.check_range(1, 10**9, episodes=episodes)
    utils.check_range(0, 2**32 - 1, seed=seed)
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
        print("Random actions in a window, in real time; close it or press Ctrl-C to end.")
    else:
        print("Random actions without a window" + ("." if has_display() else " (no display)."))

    env.action_space.seed(seed)
    steps, start = 0, time.perf_counter()
    try:
        for episode in range(episodes or 10) if episodes or not render else itertools.count():
            env.reset(seed=seed if episode == 0 else None)
            truncated = False
            while not truncated:
                _, _, _, truncated, _ = env.step(env.action_space.sample())
                steps += 1
    except (WindowClosed, KeyboardInterrupt):
        pass
    rate = steps / (time.perf_counter() - start)
    env.close()
    print(f"The installation works: {steps:,} steps, {rate:,.0f} a second.")


if __name__ == "__main__":
    utils.cli(random_agent)
