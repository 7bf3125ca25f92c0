"""Many runs over seeds and settings, at once: on this machine's cores or on a Ray cluster.

A run's agent and curves come back to the study's folder, from whichever machine it was on,
and its result goes to results.json there as soon as it is finished. A run whose worker or
machine dies is started again; a study that was cut off goes on where it was.

    python benchmarks/study.py --settings gamma=0.7 gamma=0.9,gae_lambda=0.95
    python benchmarks/study.py --address 10.0.0.1:6379    # where `ray start --head` was run
"""

import io
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

import gymnasium as gym
import rich.box
import rich.console
import rich.progress
import rich.table
from stable_baselines3.common.logger import configure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import panda_reach_train_agent as ours  # noqa: E402
import panda_reach_utils as utils  # noqa: E402

MEASURED = ("success_rate", "mean_final_distance")
EXCLUDED = [".git", "benchmarks", "docs", "runs", "rl-trained-agents", "tests"]


def run(hparams: dict[str, Any], episodes: int) -> tuple[dict[str, Any], bytes, dict[str, bytes]]:
    """Train and judge one agent: its result, its zip, and its curves by file name."""
    import ray

    with tempfile.TemporaryDirectory() as folder:  # a run's own: names can't clash
        model = ours.make_model(**hparams)
        vars(model)["arguments"] = hparams  # go into the zip, for --resume
        model.set_logger(configure(folder, ["tensorboard"]))
        start = time.perf_counter()
        model.learn(hparams["total_timesteps"])
        seconds = time.perf_counter() - start
        model.logger.close()
        if model.env:
            model.env.close()
        curves = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    agent = io.BytesIO()
    model.save(agent)

    env = gym.make("PandaReach-v2", control_type=hparams["control_type"], reward_type="dense")
    summary = utils.summary(utils.evaluate(model, env, episodes))
    env.close()
    result = {name: summary[name] for name in MEASURED} | {
        "seconds": round(seconds, 2),
        "node": ray.get_runtime_context().get_node_id(),
        "hparams": hparams,
    }
    return result, agent.getvalue(), curves


def plan(variants: tuple[str, ...], settings: tuple[str, ...], seeds: int) -> dict[str, Any]:
    """The hyperparameters of each run, by its name."""
    runs = {}
    for seed, variant, setting in itertools.product(range(seeds), variants, settings):
        try:
            control_type, reward_type = variant.split("_")
            changes = dict(change.split("=") for change in setting.split(",") if change)
            hparams = ours.resolve(
                control_type=control_type,
                reward_type=reward_type,
                seed=seed,
                **{name: json.loads(value) for name, value in changes.items()},
            )
            if unknown := changes.keys() - ours.resolve().keys():
                raise KeyError(*unknown)
            ours.check(**hparams)
        except (KeyError, TypeError, ValueError) as error:
            raise utils.UsageError(f"no such run: {variant} {setting}: {error}") from None
        runs["_".join(filter(None, (variant, setting, f"seed={seed}")))] = hparams
    return runs


def study(
    folder: Path = HERE / "study",
    variants: tuple[str, ...] = ("ee_dense",),
    settings: tuple[str, ...] = ("",),
    seeds: int = 5,
    episodes: int = 100,
    workers: int | None = None,
    address: str | None = None,
) -> int:
    """Train with each setting on each variant, several seeds, all at once.

    Args:
        folder: where agents, curves and results.json go; what is there is not run again.
        variants: ee_dense, joints_dense, ee_sparse, joints_sparse.
        settings: changes of the recipe, such as gamma=0.9,n_steps=128; none if not given.
        seeds: runs of each, with the seeds 0, 1, ...
        episodes: on held-out goals, to judge each agent.
        workers: runs at a time, on this machine; one a core if not given.
        address: of a Ray cluster to run on, whose machines have requirements.txt installed.

    Returns:
        The exit code: 1 if some runs failed; the next start tries them again.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import
    try:
        import ray
    except ImportError:
        raise utils.UsageError("a study needs Ray: pip install ray") from None
    utils.check_range(1, 10**6, seeds=seeds, episodes=episodes, workers=workers)
    runs = plan(variants, settings, seeds)
    results_file = folder / "results.json"
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)

    ray.init(
        address or "local",
        num_cpus=None if address else workers,
        # The code goes to other machines; what is heavy there stays here.
        runtime_env={"working_dir": str(HERE.parent), "excludes": EXCLUDED},
        include_dashboard=None if address else False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    # Retried is what died with its worker or machine; an exception would come again.
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
            unfinished = results_file.with_suffix(".tmp")  # the result is last, and whole
            unfinished.write_text(json.dumps(results, indent=1))
            unfinished.replace(results_file)
            progress.advance(bar)
    ray.shutdown()
    report({name: results[name] for name in runs if name in results})
    return 1 if failed else 0


def report(results: dict[str, Any]) -> None:
    """Print the means over the seeds."""
    names = rich.table.Column("means over seeds", overflow="fold")
    table = rich.table.Table(names, "runs", *MEASURED, "seconds", box=rich.box.SIMPLE)
    for group in dict.fromkeys(name.rsplit("_", 1)[0] for name in results):
        same = [result for name, result in results.items() if name.rsplit("_", 1)[0] == group]
        means = (statistics.fmean(run[key] for run in same) for key in (*MEASURED, "seconds"))
        table.add_row(group, str(len(same)), *(f"{mean:.4g}" for mean in means))
    rich.console.Console(highlight=False).print(table)


if __name__ == "__main__":
    utils.cli(study)
