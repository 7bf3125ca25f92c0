"""How good are agents for Push and PickAndPlace after some minutes, with this recipe and without?

Five seeds of each task's recipe, trained to the end and judged on 1,000 goals; and other ways to
train on Push, three seeds each, cut off after eight minutes. A run takes one core.
Results go to benchmarks/push.json after each run, so what was interrupted goes on where it was.

    python -m benchmarks.push
"""

import statistics
from typing import Any

import gymnasium as gym
import tyro
from stable_baselines3 import PPO, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

import panda_push_train_agent as ours
from benchmarks import shared
from panda_rl import cli, evaluation, recipes

GAP_STEPS = 10_000
CURVE_GOALS = range(evaluation.CHOOSING_SEED, evaluation.CHOOSING_SEED + 50)
TABLE_GOALS = range(evaluation.JUDGING_SEED, evaluation.JUDGING_SEED + 1000)
OURS = "this recipe"
# Fewer steps, so that their learning rate has fallen, too, when they are cut off.
FLAGS = {
    OURS: "",
    "SB3's own input": "--goal-scale=0 --total-timesteps=120000",
    "without HER": "--n-sampled-goal=0 --total-timesteps=120000",
}
METHODS = (*FLAGS, "PPO with dense reward", "TQC+HER")
MINUTES = {"Push": 12, "PickAndPlace": 18}  # of a run, to say what is left
OTHER_MINUTES = 8  # then the other methods are cut off


def make_model(method: str, task: str, seed: int) -> tuple[BaseAlgorithm, int]:
    """A new model, and the steps it will learn."""
    if method == "PPO with dense reward":  # Stable-Baselines3's defaults
        env = make_vec_env("PandaPushDense-v2", 8, seed=seed)
        return PPO("MultiInputPolicy", env, seed=seed, device="cpu"), 10**9
    if method == "TQC+HER":  # RL Baselines3 Zoo's settings for PandaPush-v1
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
    config = recipes.parse_push(f"--task={task} --seed={seed} {FLAGS[method]}".split())
    return ours.make_model(config, ours.make_env(config)), config.total_timesteps


class PushCurve(shared.Curve):
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


def run(method: str, task: str, seed: int) -> dict[str, Any]:
    """Train once. The recipes' agents are judged, too."""
    env = gym.make(f"Panda{task}-v2")
    model, steps = make_model(method, task, seed)
    curve = PushCurve(env, float("inf") if method == OURS else 60 * OTHER_MINUTES)
    model.learn(steps, callback=curve)
    goals = TABLE_GOALS if method == OURS else ()
    success = [evaluation.play(model, env, goal).success for goal in goals]
    assert model.env
    model.env.close()
    env.close()
    return {"curve": curve.points, "success": success}


def table(groups: shared.Groups) -> str:
    rows = []
    for task in recipes.PUSH_RECIPES:
        runs = groups[OURS, task]
        steps, seconds, _ = zip(*(run["curve"][-1] for run in runs), strict=True)
        success = [statistics.fmean(run["success"]) for run in runs]
        each = " ".join(f"{rate:.1%}" for rate in success)
        mean, minutes = statistics.fmean(success), [s / 60 for s in seconds]
        rows.append(
            f"{task} | {steps[0]:,} | {min(minutes):.1f} to {max(minutes):.1f} "
            f"| {each} | {mean:.1%}"
        )
    columns = "task | steps | minutes | success of each seed | mean"
    return shared.table(columns, rows) + (
        "\n\nSeeds 0, 1, ..., each judged on 1,000 goals. Minutes are those of learning in one "
        "process, on one core, as its CPU time, without starting and without judging. "
        + shared.machines(groups)
    )


def others_table(groups: shared.Groups) -> str:
    """Push when the other methods are cut off."""
    rows = []
    for (method, task), runs in groups.items():
        if task == "Push":
            # A run ends with a rollout, so a little later.
            in_time = [[p for p in run["curve"] if p[1] <= 60 * OTHER_MINUTES + 9] for run in runs]
            steps = [points[-1][0] for points in in_time]
            each = " ".join(f"{points[-1][2]:.0%}" for points in in_time)
            rows.append(f"{method} | {min(steps):,} to {max(steps):,} | {each}")
    minutes = f"after {OTHER_MINUTES} minutes"
    return shared.table(f"way | steps {minutes} | goals reached, each seed", rows)


def draw(groups: shared.Groups) -> None:
    """docs/push.png: the success of each run against minutes."""
    plt = shared.need("matplotlib.pyplot")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    axis_of = dict(zip(recipes.PUSH_RECIPES, axes, strict=True))
    for (method, task), runs in groups.items():
        for run in runs:
            _, seconds, rates = zip(*run["curve"], strict=True)
            minutes = [s / 60 for s in seconds]
            label = method if run is runs[0] else None
            axis_of[task].plot(minutes, rates, f"C{METHODS.index(method)}", alpha=0.7, label=label)
    for task, axis in axis_of.items():
        axis.set(title=task, xlabel="minutes")
        axis.legend(loc="center right")
    figure.supylabel("goals reached")
    figure.savefig(cli.ROOT / "docs" / "push.png", dpi=110)


def push(seeds: int = 5, other_seeds: int = 3) -> None:
    """Train, and write the README's table, and the picture and table of benchmarks/README.md.

    Args:
        seeds: runs of each recipe.
        other_seeds: runs of each other method.
    """
    minutes = {(OURS, task, seed): each for task, each in MINUTES.items() for seed in range(seeds)}
    others = [method for method in METHODS if method != OURS]
    minutes |= {
        (method, "Push", seed): OTHER_MINUTES for seed in range(other_seeds) for method in others
    }
    groups = shared.complete(cli.ROOT / "benchmarks" / "push.json", minutes, run)
    draw(groups)
    shared.insert("README.md", "push", table(groups))
    shared.insert("benchmarks/README.md", "others", others_table(groups))


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(push))
