"""Many runs at once: changes of the recipe, several seeds of each, on every core.

Ray runs them on this machine or on a cluster, and starts a run again whose machine died. Each
result is saved as its run ends; a study that was interrupted goes on where it was.

    python -m benchmarks.study --changes "" gamma=0.99 gamma=0.9,gae_lambda=0.95
    python -m benchmarks.study --address 10.0.0.1:6379    # where `ray start --head` was run
"""

import dataclasses
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro

import panda_reach_train_agent as ours
from benchmarks import shared
from benchmarks.benchmark import Snapshots
from panda_rl import cli, evaluation, recipes


def run(config: recipes.Config, episodes: int) -> dict[str, Any]:
    """Train one agent, and judge it on goals for choosing; with no episodes, until it is solved."""
    goals = range(evaluation.CHOOSING_SEED, evaluation.JUDGING_SEED)
    snapshots = Snapshots(config.control_type, goals[:100], stop=not episodes)
    envs = ours.make_env(config)
    model = ours.make_model(config, envs)
    model.learn(config.total_timesteps, callback=snapshots)
    envs.close()
    env = gym.make("PandaReach-v2", control_type=config.control_type)
    played = [dataclasses.asdict(evaluation.play(model, env, goal)) for goal in goals[:episodes]]
    env.close()
    return {"config": config.saved(), **snapshots.result, "episodes": played}


def study(
    file: Path = cli.RUNS / "study.json",
    variants: tuple[str, ...] = ("ee_dense",),
    changes: tuple[str, ...] = ("",),
    seeds: int = 5,
    first_seed: int = 100,
    episodes: int = 100,
    address: str = "local",
    to_readme: bool = False,
) -> None:
    """Train with each change of the recipe on each variant, several seeds, all at once.

    Args:
        file: where results go; runs that it has are not repeated.
        variants: ee_dense, joints_dense, ee_sparse, joints_sparse.
        changes: such as gamma=0.9,n_steps=128; "" is the recipe itself.
        seeds: number of seeds for each.
        first_seed: the first of them; those from 0 on are left to the benchmark.
        episodes: number of goals that judge each agent; 0 ends each run once it is solved.
        address: a Ray cluster to run on; its machines need requirements.txt installed.
        to_readme: write the table to benchmarks/README.md, if no run failed.
    """
    runs: dict[str, recipes.Config] = {}
    numbers = range(first_seed, first_seed + seeds)
    for seed, variant, change in itertools.product(numbers, variants, changes):
        control_type, _, reward_type = variant.partition("_")
        flags = f"--control-type {control_type} --reward-type {reward_type} --seed {seed}".split()
        flags += [f"--{number}" for number in change.split(",") if number]
        flags += ["--no-subprocesses"]  # Ray has a process for each run
        config = recipes.parse(flags)
        if config not in runs.values():  # the recipe may have this number already
            runs[f"{group_name(variant, change)}_seed={seed}"] = config
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import
    ray = shared.need("ray")
    # A run that was judged on another number of goals does not count.
    there = (run for run in shared.results(file) if len(run["episodes"]) == episodes)
    results = {run["name"]: run for run in there}
    large = [".git", "docs", "runs", "rl-trained-agents", "tests"]
    code = {"working_dir": str(cli.ROOT), "excludes": large}
    ray.init(address, runtime_env=code, log_to_driver=False)
    remote_run = ray.remote(num_cpus=1, max_retries=10)(run)
    left = {remote_run.remote(runs[name], episodes): name for name in runs if name not in results}
    failed = False
    while left:
        print(f"{len(left)} of {len(runs)} runs are left", flush=True)
        (ended,), _ = ray.wait(list(left))
        name = left.pop(ended)
        try:
            results[name] = {"name": name} | ray.get(ended)
            shared.add(file, results[name])
        except ray.exceptions.RayError as error:  # the others go on
            print(f"{name} failed: {error}", file=sys.stderr)
            failed = True
    groups: dict[str, list[dict[str, Any]]] = {}
    for name in (name for name in runs if name in results):
        groups.setdefault(name.rpartition("_seed=")[0], []).append(results[name])
    text = table(groups) if episodes else steps_table(groups, variants, changes)
    if to_readme and not failed:
        shared.insert("benchmarks/README.md", "study" if episodes else "changes", text)
    else:
        print(text)
    sys.exit(failed)


def group_name(variant: str, change: str) -> str:
    return f"{variant}_{change}" if change else variant


def steps_to_solved(runs: list[dict[str, Any]]) -> str:
    return " ".join(f"{run['curve'][-1][0]:,}" if run["solved"] else "-" for run in runs)


def table(groups: dict[str, list[dict[str, Any]]]) -> str:
    """Steps to solved of each seed, and how good the agents of all seeds are."""
    rows = []
    for name, runs in groups.items():
        episodes = [evaluation.Episode(**episode) for run in runs for episode in run["episodes"]]
        rows.append(f"{name} | {steps_to_solved(runs)} | {shared.judged(episodes)}")
    return shared.table(f"agents | steps to solved | {shared.JUDGED}", rows)


def steps_table(
    groups: dict[str, list[dict[str, Any]]], variants: tuple[str, ...], changes: tuple[str, ...]
) -> str:
    """Steps to solved of each seed: a row for each change, a column for each variant."""
    rows = []
    for change in changes:
        names = (group_name(variant, change) for variant in variants)
        cells = (steps_to_solved(groups.get(name, [])) for name in names)
        rows.append(" | ".join((change or "none", *cells)))
    return shared.table(" | ".join(("change", *variants)), rows)


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(study))
