"""What the default run costs beyond its simulation. Use an idle machine.

python -m benchmarks.overhead
"""

import subprocess
import sys
import time
from collections.abc import Callable

import tyro

from benchmarks import shared
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


def overhead(pairs: int = 3) -> None:
    """Measure the default run in one process and its simulation in turn, and write the table.

    Args:
        pairs: number of both.
    """
    rows = []
    for _ in range(pairs):
        whole = seconds(lambda: subprocess.run(SCRIPT, check=True))
        bare = seconds(simulation)
        rows.append(f"{whole:.1f} s | {bare:.1f} s | {whole / bare:.2f}")
    text = f"{shared.table('default run | simulation | times', rows)}\n\n{shared.machine()}"
    shared.insert("benchmarks/README.md", "overhead", text)


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(overhead))
