"""How fast is PandaReach-v2 solved: our recipe, and others' ways, on one machine in one run.

Solved is the first snapshot, one every 1,024 steps, whose deterministic policy reaches all
of 100 held-out goals. Snapshots are judged with the clock stopped. A run ends when it is
solved, or at its method's limit. Results go to benchmarks/results.json after each run; a
benchmark that was cut off goes on where it was.
"""

import functools
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import rich.progress
import torch
from sb3_contrib import TQC
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import report  # noqa: E402

import panda_reach_train_agent as ours  # noqa: E402
import panda_reach_utils as utils  # noqa: E402

EVERY = 1024  # steps between two snapshots
GOALS = 100
VARIANTS = ("ee dense", "joints dense", "ee sparse", "joints sparse")

Make = Callable[[str, str, int], BaseAlgorithm]
HER: dict[str, Any] = {
    "replay_buffer_class": HerReplayBuffer,
    "replay_buffer_kwargs": {"goal_selection_strategy": "future", "n_sampled_goal": 4},
}


def recipe(control_type: str, reward_type: str, seed: int, **changes: Any) -> PPO:
    """What panda_reach_train_agent.py trains with these flags, and no others."""
    given = {"control_type": control_type, "reward_type": reward_type, "seed": seed} | changes
    return ours.make_model(**ours.resolve(**given))


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


def ppo_defaults(control_type: str, reward_type: str, seed: int) -> PPO:
    """The 2022 example's shortest snippet: Stable-Baselines3's defaults."""
    return PPO("MultiInputPolicy", make(control_type, reward_type), seed=seed, device="cpu")


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
        **HER,
        seed=seed,
        device="cpu",
    )


def sac_her(control_type: str, reward_type: str, seed: int) -> SAC:
    """Stable-Baselines3's defaults for SAC and for HER."""
    env = make(control_type, reward_type)
    return SAC("MultiInputPolicy", env, **HER, seed=seed, device="cpu")


# Each with its limit in steps, where a run that is not solved is given up.
METHODS: dict[str, tuple[Make, int | None]] = {
    "this recipe": (recipe, None),  # None: the recipe's own total_timesteps
    "2022 script": (ppo_2022, 100_000),
    "2022 snippet": (ppo_defaults, 100_000),
    "TQC+HER": (tqc_her, 20_000),
    "SAC+HER": (sac_her, 20_000),
}
COMPARED = tuple(METHODS)

# The recipe with one of its numbers as Stable-Baselines3 has it.
ABLATIONS: dict[str, dict[str, Any]] = {
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
METHODS |= {
    name: (functools.partial(recipe, **changes), None) for name, changes in ABLATIONS.items()
}


def unchanged(method: str, variant: str) -> bool:
    """Whether it is an ablation of what this variant's recipe does not have."""
    control_type, reward_type = variant.split()
    recipe = ours.resolve(control_type=control_type, reward_type=reward_type)
    return method in ABLATIONS and ABLATIONS[method].items() <= recipe.items()


def make(control_type: str, reward_type: str) -> gym.Env:
    return gym.make("PandaReach-v2", control_type=control_type, reward_type=reward_type)


class Snapshots(BaseCallback):
    """Judges the policy every 1,024 steps, with the clock stopped, until it is solved.

    Args:
        control_type: of the environment to judge in.
        limit: steps at which to give up.
        clock: gives seconds; ``time.process_time`` for those of this process alone.
    """

    def __init__(
        self, control_type: str, limit: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__()
        self.env = make(control_type, "dense")
        self.limit = limit
        self.clock = clock
        self.curve: list[tuple[int, float, float]] = []  # steps, seconds, success rate
        self.solved = False

    def _on_training_start(self) -> None:
        self._judged = 0
        self._start = self.clock()

    def _on_rollout_start(self) -> None:  # the update of the steps so far is done
        if self.num_timesteps // EVERY > self._judged // EVERY and not self.solved:
            self._judge()

    def _on_training_end(self) -> None:
        self._on_rollout_start()
        self.env.close()

    def _on_step(self) -> bool:
        return not self.solved and self._judged < self.limit

    def _judge(self) -> None:
        pause = self.clock()
        policy = Normalized(self.model)
        reached: list[bool] = []
        # Twenty goals for the curve; the hundred only while all of them are reached.
        while len(reached) < GOALS and (len(reached) < 20 or all(reached)):
            seed = None if reached else utils.HELD_OUT_SEED
            reached.append(utils.play_episode(policy, self.env, seed).success)
        self.solved = len(reached) == GOALS and all(reached)
        self._judged = self.num_timesteps
        self.curve.append((self._judged, pause - self._start, sum(reached) / len(reached)))
        self._start += self.clock() - pause


class Normalized:
    """The policy with the normalization of its training, if there is one."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model
        self.normalization = model.get_vec_normalize_env()

    def predict(self, observation: Any, deterministic: bool) -> tuple[Any, Any]:
        if self.normalization:
            observation = self.normalization.normalize_obs(observation)
        return self.model.predict(observation, deterministic=deterministic)


def run(method: str, variant: str, seed: int) -> dict[str, Any]:
    """Train once; the curve up to the solution, or to the method's limit."""
    control_type, reward_type = variant.split()
    build, limit = METHODS[method]
    model = build(control_type, reward_type, seed)
    total_timesteps = limit or ours.RECIPE[control_type, reward_type]["total_timesteps"]
    snapshots = Snapshots(control_type, limit=total_timesteps)
    model.learn(total_timesteps, callback=snapshots)
    if model.env:
        model.env.close()
    steps, seconds, _ = snapshots.curve[-1]
    return {
        "method": method,
        "variant": variant,
        "seed": seed,
        "solved": snapshots.solved,
        "steps": steps,
        "seconds": round(seconds, 2),
        "curve": [(n, round(t, 2), rate) for n, t, rate in snapshots.curve],
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


def benchmark(
    methods: tuple[str, ...] = COMPARED,
    variants: tuple[str, ...] = VARIANTS,
    seeds: int = 5,
    results: Path = HERE / "results.json",
) -> None:
    """Train with each method on each variant, several seeds, one run after the other.

    Args:
        methods: "this recipe", "2022 script", "2022 snippet", "TQC+HER", "SAC+HER", or
            any of ABLATIONS; "ablations" for all of these.
        variants: "ee dense", "joints dense", "ee sparse", "joints sparse".
        seeds: runs of each, with the seeds 0, 1, ...
        results: where the results are, and go; what is there is not run again.
    """
    if methods == ("ablations",):
        methods = tuple(ABLATIONS)
    for given, known in ((methods, METHODS), (variants, VARIANTS)):
        for name in given:
            if name not in known:
                raise utils.UsageError(f"{name!r} is none of {', '.join(known)}")
    utils.check_range(1, 1000, seeds=seeds)
    torch.set_num_threads(1)
    done = json.loads(results.read_text()) if results.exists() else []
    todo = [
        (method, variant, seed)
        for seed in range(seeds)
        for variant in variants
        for method in methods
        if not unchanged(method, variant)
        and not any((r["method"], r["variant"], r["seed"]) == (method, variant, seed) for r in done)
    ]
    with rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn()
    ) as progress:
        task = progress.add_task("", total=len(todo))
        for method, variant, seed in todo:
            progress.update(task, description=f"{method}, {variant}, seed {seed}")
            done.append(run(method, variant, seed))
            results.write_text(json.dumps(done, indent=None).replace('{"method"', '\n{"method"'))
            progress.advance(task)
    report.report(results)


if __name__ == "__main__":
    utils.cli(benchmark)
