"""What the default run costs beyond its simulation, and what more cores would bring.

python -m benchmarks.overhead            # on an idle machine
python -m benchmarks.overhead --cores    # with environments that sleep instead of simulating
"""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import tyro
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import panda_reach_train_agent as ours
from panda_rl import cli, simulator
from panda_rl.recipes import RECIPES

RECIPE = RECIPES["ee", "dense"]
SCRIPT = [sys.executable, f"{cli.ROOT}/panda_reach_train_agent.py", "--no-subprocesses"]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def simulation() -> None:
    """The default run's steps in panda-gym's own environment, with its resets."""
    panda = simulator.make("Reach", reward_type="dense", control_type="ee")
    for step in range(RECIPE.total_timesteps):
        if step % 50 == 0:
            panda.reset(seed=step)
        panda.step(panda.action_space.sample())


def asleep(env: gym.Env, step_seconds: float) -> gym.Env:
    """``env`` with steps that sleep instead of simulating, and resets that take no time."""
    task: Any = env.unwrapped
    observation, info = task.reset()

    def step(action: object) -> tuple:
        time.sleep(step_seconds)
        return observation, 0.0, False, False, dict(info)

    task.step = step
    task.reset = lambda **kwargs: (observation, dict(info))
    return env


def learning(kind: type[DummyVecEnv] | type[SubprocVecEnv], step_seconds: float) -> float:
    """Seconds that the default run learns from environments that sleep."""
    sleeping = partial(asleep, step_seconds=step_seconds)
    env = make_vec_env("PandaReach-v2", RECIPE.n_envs, wrapper_class=sleeping, vec_env_cls=kind)
    taken = seconds(lambda: ours.make_model(RECIPE, env).learn(RECIPE.total_timesteps))
    env.close()
    return taken


def overhead(pairs: int = 3, cores: bool = False) -> None:
    """Measure the whole default run in one process against its simulation, in turn.

    Args:
        pairs: number of both.
        cores: measure what more cores would bring, too.
    """
    for _ in range(pairs):
        whole = seconds(lambda: subprocess.run(SCRIPT, check=True))
        bare = seconds(simulation)
        print(f"default run {whole:.1f} s, simulation {bare:.1f} s: {whole / bare:.2f} times")
    if cores:
        step = bare / RECIPE.total_timesteps
        # Eight arms on four cores take turns, so a step takes twice as long.
        for n, kind, turns in ((1, DummyVecEnv, 1), (4, SubprocVecEnv, 2), (8, SubprocVecEnv, 1)):
            print(f"{n} cores, steps asleep: learning {learning(kind, turns * step):.1f} s")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(overhead))
