"""What looking on costs a training, and what a second worker brings a study: ratios, in one run.

Writes them to benchmarks/README.md. Takes some ten minutes; leave the machine alone meanwhile.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gymnasium as gym
from stable_baselines3.common.logger import configure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import report  # noqa: E402

import panda_reach_callbacks as callbacks  # noqa: E402
import panda_reach_train_agent as ours  # noqa: E402
import panda_reach_utils as utils  # noqa: E402


def ratios(pairs: int = 5, seeds: int = 6) -> None:
    """Measure both, the two sides of each ratio in turn.

    Args:
        pairs: default trainings with and without what looks on.
        seeds: runs of the study, with one worker and with two.
    """
    utils.check_range(1, 1000, pairs=pairs, seeds=seeds)
    timed = [(learn(watched=True), learn(watched=False)) for _ in range(pairs)]
    watched, bare = (statistics.median(side) for side in zip(*timed, strict=True))
    costs = sorted(with_ / without - 1 for with_, without in timed)
    one, two = (study(seeds, workers) for workers in (1, 2))
    text = (
        f"The default run, training and final evaluation, takes {watched:.1f} s with its live "
        f"evaluation, film strips, progress and safe saving, and {bare:.1f} s without: medians of "
        f"{pairs} pairs, in which they cost {statistics.median(costs):+.1%} (from {costs[0]:+.1%} "
        f"to {costs[-1]:+.1%}).\n\n"
        f"A study of {seeds} runs takes {one:.0f} s with one worker and {two:.0f} s with two, "
        f"Ray's start included: {one / two:.2f} times as fast."
    )
    report.insert(HERE / "README.md", "ratios", text)
    print(text)


def learn(watched: bool) -> float:
    """Seconds of the default run: training, and the evaluation that ends it."""
    hparams = ours.resolve()
    model = ours.make_model(**hparams)
    with tempfile.TemporaryDirectory() as folder:
        model.set_logger(configure(folder, ["tensorboard"]))
        agent = Path(folder) / "agent.zip"
        start = time.perf_counter()
        with contextlib.ExitStack() as stack:
            looking_on = None
            if watched:
                watchers = callbacks.Watchers(model, agent, hparams, render=False)
                looking_on = stack.enter_context(watchers)
            model.learn(hparams["total_timesteps"], callback=looking_on)
            env = gym.make("PandaReach-v2", control_type=hparams["control_type"])
            utils.evaluate(model, env, 100)
            env.close()
        seconds = time.perf_counter() - start
        model.logger.close()
    if model.env:
        model.env.close()
    return seconds


def study(seeds: int, workers: int) -> float:
    """Seconds of a study of short runs."""
    with tempfile.TemporaryDirectory() as folder:
        words = f"--seeds {seeds} --workers {workers} --settings total_timesteps=10240"
        command = [sys.executable, str(HERE / "study.py"), "--folder", folder, *words.split()]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


if __name__ == "__main__":
    utils.cli(ratios)
