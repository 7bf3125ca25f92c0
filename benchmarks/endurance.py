"""A million steps with resets: does memory grow, does physics drift, do handles leak?

Writes its figures to benchmarks/README.md.
"""

import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import report  # noqa: E402

import panda_reach_utils as utils  # noqa: E402


def endurance(steps: int = 1_000_000) -> None:
    """Step one environment for a long time, and compare its end with its start.

    Args:
        steps: to take, in episodes of 50.
    """
    utils.check_range(1000, 10**12, steps=steps)
    env = gym.make("PandaReach-v2", control_type="joints", reward_type="dense")
    process = psutil.Process()
    first = rewards(env)
    for _ in range(20):  # let caches fill before the first reading
        rewards(env)
    memory, files, start = process.memory_info().rss, process.num_fds(), time.perf_counter()
    env.reset(seed=1)
    for _ in range(steps):
        if env.step(env.action_space.sample())[3]:
            env.reset()
    seconds = time.perf_counter() - start
    grown = (process.memory_info().rss - memory) / 1e6
    more_files = process.num_fds() - files
    same = rewards(env) == first
    env.close()
    text = (
        f"After {steps:,} steps in {steps // 50:,} episodes ({seconds / 60:.0f} minutes): memory "
        f"{grown:+.1f} MB, open files {more_files:+d}, and the episode of the start gives "
        f"{'the same rewards to the bit' if same else 'OTHER REWARDS'}."
    )
    report.insert(HERE / "README.md", "endurance", text)
    print(text)


def rewards(env: gym.Env) -> list[float]:
    """One episode's, always with the same goal and actions."""
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    return [
        float(env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))[1])
        for _ in range(50)
    ]


if __name__ == "__main__":
    utils.cli(endurance)
