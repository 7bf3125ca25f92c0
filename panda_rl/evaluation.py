"""How good is a policy? One episode, and the table of many."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import rich
import rich.box
import rich.table

# Three sets of goals, each goal named by the seed of the reset that draws it. Training uses the
# seeds below both. Recipes and shipped agents are chosen by results on the second set, which the
# curves show too. Results that we report are measured on the third; nothing is chosen by them.
CHOOSING_SEED = 1_000_000
JUDGING_SEED = 2_000_000
CHOOSING_GOALS = range(CHOOSING_SEED, CHOOSING_SEED + 20)
JUDGING_GOALS = range(JUDGING_SEED, JUDGING_SEED + 100)


@dataclasses.dataclass(frozen=True)
class Episode:
    """The record of one episode. Returns are undiscounted sums over its steps."""

    success: bool  # at the goal after the last step
    dense_return: float  # minus the sum of the distances (m), whatever the environment's reward
    sparse_return: float  # minus the number of steps that do not end at the goal
    final_distance: float  # m
    steps_to_goal: int | None  # until it was first reached; None if it never was
    effort: float  # mean squared length of the actions
    action_change: float  # mean length of the change between actions: how jerky the motion is


def play(
    policy: Any,
    env: gym.Env,
    seed: int,
    on_step: Callable[[int, float, bool], None] = lambda step, distance, reached: None,
) -> Episode:
    """Play the goal that ``seed`` draws, without exploration noise.

    ``policy`` has Stable-Baselines3's ``predict``. ``on_step`` is called after the reset and after
    each step, with the steps so far, the distance to the goal (m) and whether it is reached.
    """
    distances: list[float] = []
    reached: list[bool] = []
    actions: list[np.ndarray] = []
    observation, info = env.reset(seed=seed)
    terminated = truncated = False
    while True:
        to_goal = observation["desired_goal"] - observation["achieved_goal"]
        distances.append(float(np.linalg.norm(to_goal)))
        reached.append(info["is_success"])
        on_step(len(actions), distances[-1], reached[-1])
        if terminated or truncated:
            break
        action, _ = policy.predict(observation, deterministic=True)
        observation, _, terminated, truncated, info = env.step(action)
        actions.append(np.clip(action, -1, 1))  # as the robot does
    changes = np.linalg.norm(np.diff(actions, axis=0), axis=1)
    return Episode(
        success=reached[-1],
        dense_return=-sum(distances[1:]),
        sparse_return=-float(reached[1:].count(False)),
        final_distance=distances[-1],
        steps_to_goal=reached.index(True) if any(reached) else None,
        effort=float(np.square(actions).sum(axis=1).mean()),
        action_change=float(changes.mean()),
    )


def summary(episodes: Sequence[Episode]) -> dict[str, float]:
    """The success rate with its 95% Wilson interval, and the means of an Episode's numbers."""
    import scipy.stats  # here, because it takes a second

    successes = sum(episode.success for episode in episodes)
    interval = scipy.stats.binomtest(successes, len(episodes)).proportion_ci(method="wilson")
    steps = [e.steps_to_goal for e in episodes if e.steps_to_goal is not None]
    means = {
        f"mean_{name}": float(np.mean([getattr(episode, name) for episode in episodes]))
        for name in ("dense_return", "sparse_return", "final_distance", "effort", "action_change")
    }
    return means | {
        "success_rate": successes / len(episodes),
        "success_low": float(interval.low),
        "success_high": float(interval.high),
        "worst_final_distance": max(episode.final_distance for episode in episodes),
        "reached_goal": len(steps),
        "mean_steps_to_goal": float(np.mean(steps)) if steps else math.nan,
    }


def print_table(title: str, first_seed: int, episodes: Sequence[Episode], **more: str) -> None:
    """Print the table that ends training and playing, with ``more`` rows at its end."""
    result = summary(episodes)
    goals = "held-out goals" if first_seed >= CHOOSING_SEED else "goals for training"
    interval = f"95% interval {result['success_low']:.1%} to {result['success_high']:.1%}"
    reached = f"at some step in {result['reached_goal']:,} of {len(episodes):,} episodes"
    steps = f"{result['mean_steps_to_goal']:.1f}" if result["reached_goal"] else "-"
    rows = {
        "episodes": f"{len(episodes):,}  ({goals}, seeds from {first_seed:,})",
        "success rate": f"{result['success_rate']:.1%}  ({interval})",
        "mean return, dense": f"{result['mean_dense_return']:.3f}",
        "mean return, sparse": f"{result['mean_sparse_return']:.2f}",
        "mean final distance": f"{result['mean_final_distance'] * 1000:.1f} mm",
        "worst final distance": f"{result['worst_final_distance'] * 1000:.1f} mm",
        "mean steps to the goal": f"{steps}  ({reached})",
        "mean effort": f"{result['mean_effort']:.3f}  (squared action)",
        "mean change of action": f"{result['mean_action_change']:.3f}",
    }
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, show_header=False)
    for name, value in (rows | more).items():
        table.add_row(name, value)
    rich.print(table)
