"""How much a second core speeds up the default run, and how much more cores would.

Writes its figures to benchmarks/README.md. Use an idle machine.

    python -m benchmarks.cores
"""

import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import panda_reach_train_agent as ours
from benchmarks import report
from panda_rl import cli, workers
from panda_rl.files import ROOT

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecMonitor


class SleepingReach(gym.Env):
    """An environment with PandaReach-v2's spaces that sleeps for as long as its steps take."""

    def __init__(self, seconds: float) -> None:
        with_spaces = gym.make("PandaReach-v2", control_type="ee")
        self.observation_space = with_spaces.observation_space
        self.action_space = with_spaces.action_space
        with_spaces.close()
        self.seconds = seconds

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.steps += 1
        time.sleep(self.seconds)
        return self._observation(), -1.0, False, self.steps == 50, {}

    def _observation(self) -> dict[str, np.ndarray]:
        return {
            name: self.np_random.normal(size=space.shape).astype(np.float32)
            for name, space in self.observation_space.items()  # type: ignore[attr-defined]
        }


def step_seconds(steps: int = 2000) -> float:
    """Seconds that a step of PandaReach-v2 takes."""
    env = gym.make("PandaReach-v2", control_type="ee", reward_type="dense")
    env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    seconds = (time.perf_counter() - start) / steps
    env.close()
    return seconds


def learning_rate(env: Any) -> float:
    """Steps per second of training with the recipe of ee dense."""
    config = dataclasses.replace(ours.RECIPES["ee", "dense"], total_timesteps=4096)
    model = ours.make_model(config, env)
    start = time.perf_counter()
    model.learn(config.total_timesteps)
    seconds = time.perf_counter() - start
    env.close()
    return config.total_timesteps / seconds


def default_run(n_workers: int) -> float:
    """Seconds that the default run takes as a user sees it, from the start to the table."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        script = Path(folder) / "panda_reach_train_agent.py"
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, script, f"--n-workers={n_workers}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


def cores(pairs: int = 3) -> None:
    """Measure the default run in one process and with a worker on each further core, in turn.

    Args:
        pairs: number of pairs of default runs.
    """
    cli.check_range(1, 100, pairs=pairs)
    here = workers.available_cores() - 1
    timed = [(default_run(0), default_run(here)) for _ in range(pairs)]
    one, all_cores = (statistics.median(side) for side in zip(*timed, strict=True))
    ratio = statistics.median(alone / together for alone, together in timed)
    config = ours.RECIPES["ee", "dense"]
    rows = []
    for n in (0, here):
        env = ours.make_env(dataclasses.replace(config, n_workers=n))
        rows.append([f"{n + 1}", f"{learning_rate(env):,.0f}", ""])
    seconds = step_seconds()
    for n in (1, 3, 7):
        sleepers = workers.WorkersVecEnv([partial(SleepingReach, seconds)] * config.n_envs, n)
        rows.append([f"{n + 1}", "", f"{learning_rate(VecMonitor(sleepers)):,.0f}"])
    text = (
        f"The default run, from its start to the table, takes {one:.1f} s in one process and "
        f"{all_cores:.1f} s on {here + 1} cores: {ratio:.2f} times as fast "
        f"(medians of {pairs} pairs).\n\n"
        + report.table(["cores", "steps a second, learning", "projected"], rows)
        + f"\n\nProjected: with environments that sleep for the {seconds * 1000:.2f} ms of a step "
        "instead of simulating. That is what a machine with that many free cores would reach, "
        "if its cores are as fast as these; it was not measured on one."
    )
    report.insert(ROOT / "benchmarks" / "README.md", "cores", text)
    print(text)


if __name__ == "__main__":
    cli.run(cores)
