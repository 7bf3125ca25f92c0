"""How good are agents for Push and PickAndPlace after some minutes, with this recipe and without?

Five seeds of each task's recipe, trained to the end and judged on 1,000 goals; and other ways to
train on Push, three seeds each, for as many minutes as the recipe takes. A run takes one core.
Results go to benchmarks/push.json after each run, so what was interrupted goes on where it was.

    python -m benchmarks.push
    python -m benchmarks.push --only PickAndPlace    # beside another, on a core of its own
"""

import statistics
from typing import Any

import gymnasium as gym
import torch
import tyro
from stable_baselines3 import PPO, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

import panda_push_train_agent as ours
from benchmarks import shared
from panda_rl import cli, evaluation, recipes

FILE = cli.ROOT / "benchmarks" / "push.json"
GAP_STEPS = 10_000
CURVE_GOALS = range(evaluation.CHOOSING_SEED, evaluation.CHOOSING_SEED + 50)
JUDGING_GOALS = range(evaluation.JUDGING_SEED, evaluation.JUDGING_SEED + 1000)
FLAGS = {"Push, SB3's own input": "--goal-scale=0", "Push, without HER": "--n-sampled-goal=0"}
OTHERS = (*FLAGS, "Push, PPO with dense reward", "Push, TQC+HER")
MINUTES = {"Push": 12, "PickAndPlace": 17}  # of a run: to say what is left, and for the others


def make_model(method: str, seed: int) -> tuple[BaseAlgorithm, int]:
    """A new model, and the steps it will learn."""
    if method == "Push, PPO with dense reward":  # Stable-Baselines3's defaults
        env = make_vec_env("PandaPushDense-v2", 8, seed=seed)
        return PPO("MultiInputPolicy", env, seed=seed, device="cpu"), 10**9
    if method == "Push, TQC+HER":  # RL Baselines3 Zoo's settings for PandaPush
        return shared.need("sb3_contrib").TQC(
            "MultiInputPolicy",
            make_vec_env("PandaPush-v2", seed=seed),
            batch_size=2048,
            gamma=0.95,
            learning_rate=1e-3,
            tau=0.05,
            policy_kwargs={"net_arch": [512, 512, 512], "n_critics": 2},
            replay_buffer_class=HerReplayBuffer,
            seed=seed,
            device="cpu",
        ), 10**9
    task, flag = method.split(",")[0], FLAGS.get(method)
    words = [f"--task={task}", f"--seed={seed}", *([flag] if flag else [])]
    config = recipes.parse_push(words)
    return ours.make_model(config, ours.make_env(config)), config.total_timesteps


class Curve(shared.Curve):
    """The success rate every 10,000 steps; ends when the time is over."""

    def __init__(self, env: gym.Env, most_seconds: float) -> None:
        super().__init__(GAP_STEPS, first_steps=0)
        self.env = env
        self.most_seconds = most_seconds

    def success_rate(self) -> float:
        played = [evaluation.play(self.model, self.env, goal) for goal in CURVE_GOALS]
        return statistics.fmean(episode.success for episode in played)

    def _on_step(self) -> bool:
        return self.seconds() < self.most_seconds


def run(method: str, seed: int) -> dict[str, Any]:
    """Train once. The recipes' agents are judged, too."""
    env = gym.make(f"Panda{method.split(',')[0]}-v2")
    is_recipe = method in recipes.PUSH_RECIPES
    model, steps = make_model(method, seed)
    curve = Curve(env, float("inf") if is_recipe else 60 * MINUTES["Push"])
    model.learn(steps, callback=curve)
    goals = JUDGING_GOALS if is_recipe else ()
    success = [evaluation.play(model, env, goal).success for goal in goals]
    assert model.env
    model.env.close()
    env.close()
    return {"method": method, "seed": seed, "curve": curve.points, "success": success}


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    rows = []
    for method in recipes.PUSH_RECIPES:
        steps, seconds, _ = zip(*(run["curve"][-1] for run in runs[method]), strict=True)
        success = [statistics.fmean(run["success"]) for run in runs[method]]
        each = " ".join(f"{rate:.1%}" for rate in success)
        mean, minutes = statistics.fmean(success), [s / 60 for s in seconds]
        rows.append(
            f"{method} | {steps[0]:,} | {min(minutes):.1f} to {max(minutes):.1f} "
            f"| {each} | {mean:.1%}"
        )
    columns = "task | steps | minutes | success of each seed | mean"
    return shared.table(columns, rows) + (
        "\n\nSeeds 0, 1, ..., each judged on 1,000 goals. Minutes are those of learning in one "
        "process, on one core, as its CPU time, without starting and without judging. "
        + shared.machine()
    )


def draw(runs: dict[str, list[dict[str, Any]]]) -> None:
    """docs/push.png: the success of each run against minutes."""
    plt = shared.need("matplotlib.pyplot")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for number, (method, group) in enumerate(runs.items()):
        axis = axes[int(method == "PickAndPlace")]
        name = "this recipe" if method in recipes.PUSH_RECIPES else method.removeprefix("Push, ")
        for run in group:
            _, seconds, rates = zip(*run["curve"], strict=True)
            label = name if run is group[0] else None
            axis.plot([s / 60 for s in seconds], rates, f"C{number}", alpha=0.7, label=label)
    for axis, task in zip(axes, recipes.PUSH_RECIPES, strict=True):
        axis.set(title=task, xlabel="minutes")
        axis.legend(loc="lower right")
    figure.supylabel("goals reached")
    figure.savefig(cli.ROOT / "docs" / "push.png", dpi=110)


def push(seeds: int = 5, other_seeds: int = 3, only: str | None = None) -> None:
    """Train, and write the README's table and the picture of benchmarks/README.md.

    Args:
        seeds: runs of each recipe.
        other_seeds: runs of each other way.
        only: train with this one, and write neither.
    """
    for module in ("matplotlib", "sb3_contrib"):
        shared.need(module)  # now, not in an hour
    torch.set_num_threads(1)
    wanted = [(method, seed) for method in recipes.PUSH_RECIPES for seed in range(seeds)]
    wanted += [(method, seed) for seed in range(other_seeds) for method in OTHERS]
    done = {(result["method"], result["seed"]) for result in shared.results(FILE)}
    left = [pair for pair in wanted if pair not in done and only in (None, pair[0])]
    hours = sum(MINUTES.get(method, MINUTES["Push"]) for method, _ in left) / 60
    print(f"{len(left)} runs are left: about {hours:.1f} hours", flush=True)
    for method, seed in left:
        print(f"{method}, seed {seed}", flush=True)
        result = run(method, seed)
        # Read again: another process may have added its runs.
        shared.keep(FILE, [*shared.results(FILE), result])
    if not only:
        runs = {
            method: [result for result in shared.results(FILE) if result["method"] == method]
            for method in (*recipes.PUSH_RECIPES, *OTHERS)
        }
        draw(runs)
        shared.insert("README.md", "push", table(runs))


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(push))
