"""Search the recipe's numbers with Optuna: few seconds until all of 100 held-out goals are reached.

Seconds are those of this process alone, so that what else the machine does counts little.
Trials go to benchmarks/search.journal: a search that was cut off goes on where it was, and one
started twice shares its trials.
"""

import sys
import time
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import panda_reach_train_agent as ours
import panda_reach_utils as utils

HERE = Path(__file__).resolve().parent

# Not the benchmark's: a recipe that was chosen by its seeds would look better than it is.
FIRST_SEED = 100

# Where a run is given up, in steps.
LIMIT = {"dense": 10_240, "sparse": 30_720}


def suggest(trial: Any) -> dict[str, Any]:
    return {
        "n_steps": trial.suggest_categorical("n_steps", [32, 64, 128]),  # of 8 environments
        "batch_size": trial.suggest_categorical("batch_size", [64, 128]),
        "n_epochs": trial.suggest_int("n_epochs", 4, 20, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 8e-4, 5e-3, log=True),
        "gamma": trial.suggest_float("gamma", 0.3, 0.95),
        "gae_lambda": trial.suggest_float("gae_lambda", 0.7, 1.0),
        "clip_range": trial.suggest_float("clip_range", 0.2, 0.5),
        "log_std_init": trial.suggest_float("log_std_init", -1.25, 0.25),
        "vf_coef": trial.suggest_categorical("vf_coef", [0.1, 0.5]),
        "adam_beta2": trial.suggest_categorical("adam_beta2", [0.99, 0.999]),
        "goal_scale": trial.suggest_float("goal_scale", 4.0, 20.0, log=True),
    }


def search(
    variant: str = "ee dense",
    minutes: float = 30,
    seeds: int = 3,
    storage: Path = HERE / "search.journal",
) -> None:
    """Try settings near the recipe's for a while, and print the best ones.

    Args:
        variant: "ee dense", "joints dense", "ee sparse" or "joints sparse".
        minutes: to search for; the trial that is running is ended.
        seeds: runs of each trial, with the seeds 100, 101, ...
        storage: where the trials are, and go.
    """
    if variant not in benchmark.VARIANTS:
        raise utils.UsageError(f"{variant!r} is none of {', '.join(benchmark.VARIANTS)}")
    utils.check_range(1, 1000, seeds=seeds)
    torch.set_num_threads(1)
    control_type, reward_type = variant.split()

    def objective(trial: optuna.Trial) -> float:
        changes, costs, steps = suggest(trial), [], []
        for i in range(seeds):
            model = benchmark.recipe(control_type, reward_type, FIRST_SEED + i, **changes)
            snapshots = benchmark.Snapshots(control_type, LIMIT[reward_type], time.process_time)
            total_timesteps = ours.RECIPE[control_type, reward_type]["total_timesteps"]
            model.learn(total_timesteps, callback=snapshots)
            if model.env:
                model.env.close()
            step, seconds, success = snapshots.curve[-1]
            costs.append(seconds if snapshots.solved else seconds * (2 + 2 * (1 - success)))
            steps.append(step if snapshots.solved else None)
            trial.set_user_attr("steps", steps)
            trial.report(float(np.mean(costs)), i)
            if i + 1 < seeds and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(costs))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=variant,
        storage=JournalStorage(JournalFileBackend(str(storage))),  # two may start it at once
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True),
        pruner=optuna.pruners.PercentilePruner(35, n_startup_trials=4),
    )
    if not study.trials:  # what there is, to be beaten
        recipe = ours.resolve(control_type=control_type, reward_type=reward_type)
        study.enqueue_trial(suggest(optuna.trial.FixedTrial(recipe)))
    study.optimize(objective, timeout=60 * minutes, show_progress_bar=sys.stderr.isatty())
    trials = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    print(f"{len(study.trials)} trials, {len(trials)} of them with all {seeds} seeds. The best:")
    for trial in sorted(trials, key=lambda t: t.value or 0.0)[:5]:
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in trial.params.items())
        print(f"{trial.value:6.1f} s  steps {trial.user_attrs['steps']}  {numbers}")


if __name__ == "__main__":
    utils.cli(search)
