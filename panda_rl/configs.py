"""Configs: from the command line, checked, and saved with the agent."""

import dataclasses
import math
from pathlib import Path
from typing import Any, TypeVar

from panda_rl import agents, cli, evaluation, workers
from panda_rl.errors import UsageError
from panda_rl.window import require_display

C = TypeVar("C", bound=Any)

# These belong to one run and are not saved with the agent: a stranger's zip opens no window.
OPTIONS = {"name", "resume", "n_workers", "render", "wandb"}

RANGES = {
    "total_timesteps": (1, 10**12),
    # the seeds of training stay below those of the held-out goals
    "seed": (0, evaluation.CHOOSING_SEED - 1001),
    "n_envs": (1, 1000),
    "n_steps": (1, 100_000),
    "batch_size": (2, 10**8),
    "n_epochs": (1, 1000),
    "learning_rate": (0, 1000),
    "gamma": (0, 1),
    "gae_lambda": (0, 1),
    "clip_range": (1e-6, 1000),
    "ent_coef": (0, 1000),
    "vf_coef": (0, 1000),
    "max_grad_norm": (1e-6, 10**6),
    "log_std_init": (-20, 5),
    "adam_beta2": (0, 1 - 1e-9),
    "goal_scale": (0, 10**6),
    "effort_coef": (0, 1000),
    "n_workers": (0, 1000),
}


def check(config: Any) -> None:
    """Raises UsageError if PPO can't run with ``config``, or if memory is too small."""
    for name, (low, high) in RANGES.items():
        cli.check_range(low, high, **{name: getattr(config, name)})
    rollout = config.n_steps * config.n_envs
    if rollout == 1:
        raise UsageError("--n-steps x --n-envs is 1, but must be at least 2")
    if rollout % config.batch_size:
        divisor = math.gcd(config.batch_size, rollout)
        raise UsageError(
            f"--batch-size {config.batch_size} must divide --n-steps x --n-envs = {rollout}: "
            f"try --batch-size {divisor if divisor > 1 else rollout}"
        )
    workers.check_memory(config.n_envs, config.n_steps)
    if config.render:
        require_display()


def saved(config: Any) -> dict[str, Any]:
    """The part of ``config`` that is saved with the agent, for --resume."""
    return {k: v for k, v in dataclasses.asdict(config).items() if k not in OPTIONS}


def parse(recipes: dict[Any, C], words: list[str]) -> C:
    """The variant's recipe, or the config of the agent to --resume, changed by ``words``.

    Raises:
        UsageError: the words are wrong, or there is no agent to resume.
    """
    kind = type(next(iter(recipes.values())))
    typed = cli.parse_words(kind, [word for word in words if word not in ("-h", "--help")])
    default = recipes[typed.control_type, typed.reward_type]
    if typed.resume:
        default = _resumed(recipes, typed.resume, default)
    return cli.parse_words(kind, words, default)


def _resumed(recipes: dict[Any, C], agent: Path, default: C) -> C:
    """An agent's config, parsed as if it had been typed, so that it is checked the same way.

    What it leaves out comes from its variant's recipe, or from ``default`` if it names none.
    """
    config = agents.read(agent).config
    variant = (str(config.get("control_type")), str(config.get("reward_type")))
    words = [f"--{k.replace('_', '-')}={config[k]}" for k in saved(default) if k in config]
    try:
        return cli.parse_words(type(default), words, recipes.get(variant, default))
    except UsageError as error:
        raise UsageError(f"{agent} has a config that can't be used: {error}") from None
