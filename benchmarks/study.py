"""Many runs over seeds and recipes at once, on this machine's cores or on a Ray cluster.

Each run's agent and curves come back to the study's folder, whichever machine it ran on, and
its result goes to results.json there as soon as it ends. A run whose worker or machine dies is
started again, and a study that was interrupted continues where it stopped.

    python -m benchmarks.study --changes gamma=0.7 gamma=0.9,gae_lambda=0.95
    python -m benchmarks.study --address 10.0.0.1:6379    # where `ray start --head` was run
"""

import dataclasses
import itertools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import panda_reach_train_agent as ours
from benchmarks import report
from panda_rl import agents, cli, configs, evaluation
from panda_rl.errors import UsageError
from panda_rl.files import ROOT

import rich.progress
from stable_baselines3.common.logger import configure

MEASURED = (
    "success_rate",
    "mean_final_distance",
    "worst_final_distance",
    "mean_effort",
    "mean_action_change",
)
EXCLUDED = [".git", "docs", "runs", "rl-trained-agents", "tests", "benchmarks/study"]


def run(config: ours.Config, episodes: int) -> tuple[dict[str, Any], bytes, dict[str, bytes]]:
    """Train and judge one agent. Returns its result, its zip, and its curves by file name."""
    import ray

    with tempfile.TemporaryDirectory() as name:  # its own, so names can't clash
        folder = Path(name)
        env = ours.make_env(config)
        model = ours.make_model(config, env)
        model.set_logger(configure(str(folder / "curves"), ["tensorboard"]))
        start = time.perf_counter()
        model.learn(config.total_timesteps)
        seconds = time.perf_counter() - start
        model.logger.close()
        env.close()
        agents.save(model, folder / "agent.zip", configs.saved(config))
        agent = (folder / "agent.zip").read_bytes()
        curves = {file.name: file.read_bytes() for file in (folder / "curves").iterdir()}

    # A study is for choosing.
    goals = range(evaluation.CHOOSING_SEED, evaluation.CHOOSING_SEED + episodes)
    env = evaluation.make_env(config.control_type, n_workers=0)
    summary = evaluation.summary(evaluation.evaluate(model, env, goals))
    env.close()
    result = {name: summary[name] for name in MEASURED} | {
        "seconds": round(seconds, 2),
        "node": ray.get_runtime_context().get_node_id(),
        "config": configs.saved(config),
    }
    return result, agent, curves


def plan(
    variants: tuple[str, ...], changes: tuple[str, ...], seeds: range
) -> dict[str, ours.Config]:
    """The config of each run, by its name."""
    runs = {}
    for seed, variant, change in itertools.product(seeds, variants, changes):
        try:
            control_type, reward_type = variant.split("_")
            numbers = dict(number.split("=") for number in change.split(",") if number)
            config = dataclasses.replace(
                ours.RECIPES[control_type, reward_type],  # type: ignore[index]
                seed=seed,
                n_workers=0,  # Ray has a worker for each core
                **{name: json.loads(value) for name, value in numbers.items()},
            )
            configs.check(config)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"no such run: {variant} {change}: {error}") from None
        runs["_".join(filter(None, (variant, change, f"seed={seed}")))] = config
    return runs


def study(
    folder: Path = ROOT / "benchmarks" / "study",
    variants: tuple[str, ...] = ("ee_dense",),
    changes: tuple[str, ...] = ("",),
    seeds: int = 5,
    first_seed: int = 100,
    episodes: int = 100,
    workers: cli.OptionalInt = None,
    address: cli.OptionalStr = None,
    to_readme: cli.Flag = False,
) -> None:
    """Train with each change of the recipe on each variant, several seeds, all at once.

    Args:
        folder: where agents, curves and results.json go; runs that it has are not repeated.
        variants: ee_dense, joints_dense, ee_sparse, joints_sparse.
        changes: changes to the recipe, such as gamma=0.9,n_steps=128.
        seeds: number of seeds for each.
        first_seed: the first of them; those from 0 on are left to the benchmark.
        episodes: number of goals for choosing that judge each agent.
        workers: runs at a time on this machine; by default one per core.
        address: a Ray cluster to run on; its machines need requirements.txt installed.
        to_readme: write the table to benchmarks/README.md, too.

    Raises:
        SystemExit: some runs failed; the next start tries them again.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import
    try:
        import ray
    except ImportError:
        raise UsageError("a study needs Ray: pip install ray") from None
    cli.check_range(1, 10**6, seeds=seeds, episodes=episodes, workers=workers)
    cli.check_range(0, 10**6, first_seed=first_seed)
    runs = plan(variants, changes, range(first_seed, first_seed + seeds))
    results_file = folder / "results.json"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)

    ray.init(
        address or "local",
        num_cpus=None if address else workers,
        # The code goes to other machines; leave the large folders here.
        runtime_env={"working_dir": str(ROOT), "excludes": EXCLUDED},
        include_dashboard=None if address else False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    # Retry runs whose worker or machine died; after an exception, a retry would fail too.
    task = ray.remote(num_cpus=1, max_retries=10)(run)
    pending = {task.remote(runs[name], episodes): name for name in runs if name not in results}
    failed = 0
    with rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn()
    ) as progress:
        bar = progress.add_task(f"{len(runs)} runs", total=len(runs))
        progress.advance(bar, len(runs) - len(pending))
        while pending:
            (finished,), _ = ray.wait(list(pending))
            name = pending.pop(finished)
            try:
                results[name], agent, curves = ray.get(finished)
            except ray.exceptions.RayError as error:
                failed += 1
                reason = str(error).strip().splitlines()[-1]
                progress.console.print(f"{name} failed: {reason}", soft_wrap=True, markup=False)
                continue
            (folder / name).mkdir(exist_ok=True)
            for file, contents in curves.items():
                (folder / name / file).write_bytes(contents)
            (folder / f"{name}.zip").write_bytes(agent)
            unfinished = results_file.with_suffix(".tmp")  # written last, and whole
            unfinished.write_text(json.dumps(results, indent=1))
            unfinished.replace(results_file)
            progress.advance(bar)
    ray.shutdown()
    text = table({name: results[name] for name in runs if name in results})
    if to_readme:
        report.insert(ROOT / "benchmarks" / "README.md", "study", text)
    print(text)
    if failed:
        sys.exit(1)


def table(results: dict[str, Any]) -> str:
    """The means over the seeds, and the worst of them, as a Markdown table."""
    rows = []
    for group in dict.fromkeys(name.rsplit("_", 1)[0] for name in results):
        same = [result for name, result in results.items() if name.rsplit("_", 1)[0] == group]
        mean = {key: statistics.fmean(run[key] for run in same) for key in MEASURED}
        rows.append(
            [
                group,
                str(len(same)),
                f"{mean['success_rate']:.1%}",
                f"{min(run['success_rate'] for run in same):.1%}",
                f"{mean['mean_final_distance'] * 1000:.1f} mm",
                f"{max(run['worst_final_distance'] for run in same) * 1000:.1f} mm",
                f"{mean['mean_effort']:.3f}",
                f"{mean['mean_action_change']:.3f}",
            ]
        )
    columns = "agents, runs, success rate, lowest, mean final distance, worst"
    columns += ", mean effort, mean change of action"
    return report.table(columns.split(", "), rows)


if __name__ == "__main__":
    cli.run(study)
