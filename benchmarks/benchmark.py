"""How soon is PandaReach-v2 solved? This recipe and two other methods, all in this one process.

A run is solved at its first snapshot, one every 1,024 steps or more, that reaches all of 100
held-out goals. Snapshots are judged with the clock stopped. Results go to benchmarks/results.json
after each run; a benchmark that was interrupted goes on where it was.

    python -m benchmarks.benchmark
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
import tyro
from stable_baselines3 import PPO, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import panda_reach_train_agent as ours
from benchmarks import shared
from panda_rl import cli, evaluation
from panda_rl.recipes import RECIPES, Config

METHODS = {  # the rewards it is for, seeds, the step at which a run is given up, minutes a run
    "this recipe": ("dense sparse", 10, None, 0.6),
    "2022 script": ("dense", 5, 100_000, 3.0),
    "TQC+HER": ("sparse", 5, 20_000, 1.5),
}
VARIANTS = {" ".join(variant): recipe for variant, recipe in RECIPES.items()}
SNAPSHOT_STEPS = 1024


def make_model(method: str, config: Config) -> BaseAlgorithm:
    if method == "this recipe":
        return ours.make_model(config, ours.make_env(config))
    variant = {"control_type": config.control_type, "reward_type": config.reward_type}
    env = make_vec_env("PandaReach-v2", seed=config.seed, env_kwargs=variant)
    if method == "2022 script":  # the training script of a similar example
        return PPO(
            "MultiInputPolicy",
            env,
            learning_rate=1e-3,
            batch_size=64,
            policy_kwargs={"activation_fn": torch.nn.ReLU, "net_arch": [64, 64]},
            seed=config.seed,
            device="cpu",
        )
    return shared.need("sb3_contrib").TQC(  # RL Baselines3 Zoo's settings for PandaReach-v1
        "MultiInputPolicy",
        VecNormalize(env, gamma=0.95),
        gamma=0.95,
        learning_rate=1e-3,
        learning_starts=1000,
        policy_kwargs={"net_arch": [64, 64], "n_critics": 1},
        replay_buffer_class=HerReplayBuffer,
        seed=config.seed,
        device="cpu",
    )


class Snapshots(shared.Curve):
    """Judges the policy every 1,024 steps, until it reaches all goals."""

    def __init__(self, control_type: str, goals: Sequence[int], stop: bool = True) -> None:
        super().__init__(SNAPSHOT_STEPS, first_steps=SNAPSHOT_STEPS)
        self.env = gym.make("PandaReach-v2", control_type=control_type)
        self.goals = goals
        self.stop = stop
        self.solved = False

    def success_rate(self) -> float:
        # Twenty goals make the curve. The others are only played once all of these are reached.
        reached = self._reached(self.goals[:20])
        self.solved = all(reached) and all(self._reached(self.goals[20:]))
        return statistics.fmean(reached)

    def _judge(self) -> None:
        if not self.solved:
            super()._judge()

    def _on_step(self) -> bool:
        return not (self.solved and self.stop)

    def _on_training_end(self) -> None:
        super()._on_training_end()
        self.env.close()
        self.result = {"solved": self.solved, "curve": self.points}

    def _reached(self, goals: Sequence[int]) -> list[bool]:
        return [evaluation.play(self, self.env, goal).success for goal in goals]

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]:
        """The model's action. TQC+HER normalizes what its networks see."""
        if normalization := self.model.get_vec_normalize_env():
            observation = normalization.normalize_obs(observation)
        return self.model.predict(observation, deterministic=deterministic)


def run(method: str, variant: str, seed: int) -> dict[str, Any]:
    """Train once, until the task is solved or the run is given up."""
    recipe = VARIANTS[variant]
    snapshots = Snapshots(recipe.control_type, evaluation.JUDGING_GOALS)
    model = make_model(method, dataclasses.replace(recipe, seed=seed, subprocesses=False))
    model.learn(METHODS[method][2] or recipe.total_timesteps, callback=snapshots)
    assert model.env
    model.env.close()
    return snapshots.result


def median(runs: list[dict[str, Any]], x: int) -> float:
    """Of the steps (0) or the seconds (1) until solved; inf if half of the runs were given up."""
    return statistics.median(run["curve"][-1][x] if run["solved"] else math.inf for run in runs)


def table(groups: shared.Groups) -> str:
    rows = []
    for (method, variant), runs in groups.items():
        solved = sum(run["solved"] for run in runs)
        steps, seconds = median(runs, 0), median(runs, 1)
        each = [run["curve"][-1][1] for run in runs]
        times = seconds / median(groups["this recipe", variant], 1)
        rows.append(
            f"{variant} | {method} | {solved} of {len(runs)} | {steps:,.0f} "
            f"| {seconds:.1f} ({min(each):.1f} to {max(each):.1f}) | {times:.1f}"
        )
    columns = "variant | method | solved | steps to solved | seconds to solved | times ours"
    return shared.table(columns, rows) + (
        "\n\nMedians over the seeds 0, 1, ..., and the fastest to slowest run; inf where half of "
        "the runs were given up. Solved: the first snapshot, every 1,024 steps (the 2022 script: "
        "every 2,048), that reaches all of 100 held-out goals. Seconds are the CPU time of "
        "training in one process, on one core, without starting and without judging. "
        + shared.machines(groups)
    )


def draw(groups: shared.Groups) -> None:
    """docs/benchmark.png: the success of each run against seconds and against steps."""
    plt = shared.need("matplotlib.pyplot")
    figure, axes = plt.subplots(
        2, 4, figsize=(11, 5.5), sharex="row", sharey=True, layout="constrained"
    )
    columns = dict(zip(VARIANTS, axes.T, strict=True))
    colors = {method: f"C{number}" for number, method in enumerate(METHODS)}
    for (method, variant), runs in groups.items():
        above, below = columns[variant]
        for run in runs:
            steps, seconds, rates = zip(*run["curve"], strict=True)
            above.plot(seconds, rates, colors[method], alpha=0.6)
            below.plot(steps, rates, colors[method], alpha=0.6)
        above.set(xscale="log", xlabel="seconds", title=variant)
        below.set(xscale="log", xlabel="steps")
    for method, color in colors.items():
        axes[0, 0].plot([], [], color, label=method)
    figure.legend(loc="outside lower center", ncols=len(METHODS))
    figure.supylabel("goals reached")
    figure.savefig(cli.ROOT / "docs" / "benchmark.png", dpi=110)


def benchmark(seeds: int = 10) -> None:
    """Train with each method on its variants, and write the README's table and its picture.

    Args:
        seeds: runs of each, at most. The other methods have five.
    """
    minutes = {
        (method, variant, seed): each
        for seed in range(seeds)
        for variant, recipe in VARIANTS.items()
        for method, (rewards, most, _, each) in METHODS.items()
        if seed < most and recipe.reward_type in rewards
    }
    groups = shared.complete(cli.ROOT / "benchmarks" / "results.json", minutes, run)
    draw(groups)
    shared.insert("README.md", "benchmark", table(groups))


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(benchmark))
