"""How soon is PandaReach-v2 solved? This recipe and other methods, on one machine in one run.

A run is solved at its first snapshot, one every 1,024 steps, whose deterministic policy
reaches all of 100 held-out goals. Snapshots are judged with the clock stopped. A run ends when
it is solved, or at its method's limit. Results go to benchmarks/results.json after each run,
and a benchmark that was interrupted continues where it stopped.

    python -m benchmarks.benchmark
"""

import dataclasses
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import panda_reach_train_agent as ours
from benchmarks import report
from panda_rl import cli, evaluation
from panda_rl.errors import UsageError

import gymnasium as gym
import rich.progress
import torch
from sb3_contrib import TQC
from stable_baselines3 import PPO, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

EVERY = 1024  # steps between two snapshots
GOALS = evaluation.JUDGING_GOALS
CURVE_GOALS = GOALS[:20]
"""These make the curve. The rest are only played once all of these are reached."""
DENSE = ("ee dense", "joints dense")
SPARSE = ("ee sparse", "joints sparse")

Make = Callable[[str, str, int], BaseAlgorithm]


def recipe(control_type: Any, reward_type: Any, seed: int, **changes: Any) -> PPO:
    """What panda_reach_train_agent.py trains, with ``changes`` to its recipe."""
    config = dataclasses.replace(ours.RECIPES[control_type, reward_type], seed=seed, **changes)
    return ours.make_model(config, ours.make_env(config))


def ppo_2022(control_type: str, reward_type: str, seed: int) -> PPO:
    """The 2022 example's training script: batch 64, ReLU 64-64, learning rate 1e-3."""
    return PPO(
        "MultiInputPolicy",
        make(control_type, reward_type),
        learning_rate=1e-3,
        batch_size=64,
        policy_kwargs={"activation_fn": torch.nn.ReLU, "net_arch": [64, 64]},
        seed=seed,
        device="cpu",
    )


def tqc_her(control_type: str, reward_type: str, seed: int) -> TQC:
    """RL Baselines3 Zoo's settings for PandaReach (its hyperparams/tqc.yml)."""
    env = make_vec_env(lambda: make(control_type, reward_type), seed=seed)
    return TQC(
        "MultiInputPolicy",
        VecNormalize(env, gamma=0.95),
        buffer_size=1_000_000,
        ent_coef="auto",
        batch_size=256,
        gamma=0.95,
        learning_rate=1e-3,
        learning_starts=1000,
        policy_kwargs={"net_arch": [64, 64], "n_critics": 1},
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"goal_selection_strategy": "future", "n_sampled_goal": 4},
        seed=seed,
        device="cpu",
    )


def make(control_type: str, reward_type: str) -> gym.Env:
    return gym.make("PandaReach-v2", control_type=control_type, reward_type=reward_type)


# The recipe with one number changed, most to Stable-Baselines3's default.
ABLATIONS: dict[str, dict[str, Any]] = {
    "effort_coef 0": {"effort_coef": 0.0},
    "ent_coef 0": {"ent_coef": 0.0},
    "goal_scale 0 (SB3's input)": {"goal_scale": 0},
    "goal_scale 1": {"goal_scale": 1},
    "gamma 0.99": {"gamma": 0.99},
    "gae_lambda 0.95": {"gae_lambda": 0.95},
    "learning_rate 3e-4": {"learning_rate": 3e-4},
    "n_epochs 10": {"n_epochs": 10},
    "n_envs 1, n_steps 2048": {"n_envs": 1, "n_steps": 2048},
    "clip_range 0.2": {"clip_range": 0.2},
    "log_std_init 0": {"log_std_init": 0.0},
    "vf_coef 0.5": {"vf_coef": 0.5},
    "adam_beta2 0.999": {"adam_beta2": 0.999},
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to solve the task, and how much of it the README shows."""

    make: Make
    variants: tuple[str, ...]
    seeds: int
    limit: int | None = None
    """Steps at which a run is given up; None for the recipe's own total_timesteps."""


METHODS = {
    "this recipe": Method(recipe, DENSE + SPARSE, seeds=10),
    "2022 script": Method(ppo_2022, DENSE, seeds=5, limit=100_000),
    "TQC+HER": Method(tqc_her, SPARSE, seeds=5, limit=20_000),
} | {
    name: Method(partial(recipe, **changes), DENSE + SPARSE, seeds=3)
    for name, changes in ABLATIONS.items()
}


class Snapshots(BaseCallback):
    """Judges the policy every 1,024 steps, with the clock stopped, until the task is solved.

    Args:
        control_type: ``"ee"`` or ``"joints"``.
        limit: steps at which to give up.
    """

    def __init__(self, control_type: str, limit: int) -> None:
        super().__init__()
        self.env = evaluation.make_env(control_type)
        self.limit = limit
        self.curve: list[tuple[int, float, float]] = []  # steps, seconds, success rate
        self.solved = False

    def _on_training_start(self) -> None:
        self._judged = 0
        self._start = time.perf_counter()

    def _on_rollout_start(self) -> None:  # the policy has just been updated
        if self.num_timesteps // EVERY > self._judged // EVERY and not self.solved:
            self._judge()

    def _on_training_end(self) -> None:
        self._on_rollout_start()
        self.env.close()

    def _on_step(self) -> bool:
        return not self.solved and self._judged < self.limit

    def _judge(self) -> None:
        pause = time.perf_counter()
        policy = Normalized(self.model)
        reached = [e.success for e in evaluation.evaluate(policy, self.env, CURVE_GOALS)]
        if all(reached):
            rest = evaluation.evaluate(policy, self.env, GOALS[len(CURVE_GOALS) :])
            self.solved = all(episode.success for episode in rest)
        self._judged = self.num_timesteps
        self.curve.append((self._judged, pause - self._start, sum(reached) / len(reached)))
        self._start += time.perf_counter() - pause


class Normalized:
    """A model's policy, with the normalization it was trained with, if any."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model
        self.normalization = model.get_vec_normalize_env()

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]:
        if self.normalization:
            observation = self.normalization.normalize_obs(observation)
        return self.model.predict(observation, deterministic=deterministic)


def run(name: str, variant: str, seed: int) -> dict[str, Any]:
    """Train once, until the task is solved or the method's limit is reached."""
    control_type, reward_type = variant.split()
    method = METHODS[name]
    limit = method.limit or ours.RECIPES[control_type, reward_type].total_timesteps
    model = method.make(control_type, reward_type, seed)
    snapshots = Snapshots(control_type, limit)
    model.learn(limit, callback=snapshots)
    if model.env:
        model.env.close()
    steps, seconds, _ = snapshots.curve[-1]
    return {
        "method": name,
        "variant": variant,
        "seed": seed,
        "solved": snapshots.solved,
        "steps": steps,
        "seconds": round(seconds, 2),
        "curve": [(n, round(t, 2), rate) for n, t, rate in snapshots.curve],
        "goals": GOALS.start,
        "machine": machine(),
    }


def machine() -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = f"{len(names)} x {names[0].split(':')[1].strip()}"
    packages = ("panda-gym", "pybullet", "stable-baselines3", "sb3-contrib", "torch", "numpy")
    return {
        "processor": processor,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def unchanged(name: str, variant: str) -> bool:
    """Whether method ``name`` is an ablation that changes nothing in this variant's recipe."""
    control_type, reward_type = variant.split()
    numbers = dataclasses.asdict(ours.RECIPES[control_type, reward_type])
    return name in ABLATIONS and ABLATIONS[name].items() <= numbers.items()


def benchmark(
    methods: tuple[str, ...] = tuple(METHODS),
    variants: tuple[str, ...] = DENSE + SPARSE,
    seeds: cli.OptionalInt = None,
) -> None:
    """Train with each method on each variant, several seeds, one run after the other.

    Without arguments it makes everything that README.md shows, in hours.

    Args:
        methods: names of methods; by default all of them.
        variants: "ee dense", "joints dense", "ee sparse" or "joints sparse".
        seeds: runs of each, with the seeds 0, 1, ...; by default each method's own number.
    """
    for given, known in ((methods, METHODS), (variants, DENSE + SPARSE)):
        for name in given:
            if name not in known:
                raise UsageError(f"{name!r} is none of {', '.join(known)}")
    cli.check_range(1, 1000, seeds=seeds)
    torch.set_num_threads(1)
    results = report.RESULTS
    done = json.loads(results.read_text()) if results.exists() else []
    done = [run for run in done if run.get("goals") == GOALS.start]  # others can't be compared
    there = {(run["method"], run["variant"], run["seed"]) for run in done}
    todo = [
        (name, variant, seed)
        for seed in range(seeds or 10)
        for name in methods
        for variant in variants
        if variant in METHODS[name].variants
        and seed < (seeds or METHODS[name].seeds)
        and not unchanged(name, variant)
        and (name, variant, seed) not in there
    ]
    for name, variant, seed in rich.progress.track(todo):
        print(f"{name}, {variant}, seed {seed}")
        done.append(run(name, variant, seed))
        done.sort(key=lambda r: (r["seed"], list(METHODS).index(r["method"])))
        results.write_text(json.dumps(done).replace('{"method"', '\n{"method"'))
    report.report()


if __name__ == "__main__":
    cli.run(benchmark)
