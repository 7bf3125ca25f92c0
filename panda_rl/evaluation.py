"""How good is a policy? One episode, and the table of many."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import rich
import rich.box
import rich.table
import scipy.stats

# Three sets of goals, by the seed of the reset that draws them. Training uses the seeds below
# both. Recipes and shipped agents are chosen by results on the second set, which the curves
# show too. Results that we report are measured on the third, and nothing is chosen by them.
CHOOSING_SEED = 1_000_000
JUDGING_SEED = 2_000_000
CHOOSING_GOALS = range(CHOOSING_SEED, CHOOSING_SEED + 20)
JUDGING_GOALS = range(JUDGING_SEED, JUDGING_SEED + 100)


class Policy(Protocol):
    """Anything that acts like one of Stable-Baselines3's algorithms or policies."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]: ...


@dataclasses.dataclass(frozen=True)
class Episode:
    """The record of one episode. Returns are undiscounted sums over its steps."""

    success: bool
    """At the goal after the last step."""
    dense_return: float
    """Minus the sum of the distances (m), whichever reward the environment gives."""
    sparse_return: float
    """Minus the number of steps that do not end at the goal."""
    final_distance: float
    """m."""
    steps_to_goal: int | None
    """Steps until the goal was first reached; None if it never was."""
    effort: float
    """Mean squared length of the actions."""
    action_change: float
    """Mean length of the change from one action to the next: how jerky the motion is."""


def play(
    policy: Policy,
    env: gym.Env,
    seed: int,
    on_step: Callable[[int, float, bool], None] = lambda step, distance, reached: None,
) -> Episode:
    """Play the goal of ``seed`` without exploration noise.

    Args:
        policy: the policy to play.
        env: an environment of ``panda_rl``, with its time limit.
        seed: of the reset, which draws the goal.
        on_step: called after the reset and after each step with the number of the step, the
            distance to the goal (m) and whether it is reached.
    """
    distances, reached, actions = [], [], []
    observation, info = env.reset(seed=seed)
    over = False
    while True:
        to_goal = observation["desired_goal"] - observation["achieved_goal"]
        distances.append(float(np.linalg.norm(to_goal)))
        reached.append(bool(info["is_success"]))
        on_step(len(actions), distances[-1], reached[-1])
        if over:
            break
        action, _ = policy.predict(observation, deterministic=True)
        observation, _, terminated, truncated, info = env.step(action)
        actions.append(np.clip(action, -1, 1))  # as the robot does
        over = terminated or truncated
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


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Means over ``episodes``; the success rate with its 95% Wilson interval."""
    successes = sum(episode.success for episode in episodes)
    interval = scipy.stats.binomtest(successes, len(episodes)).proportion_ci(method="wilson")
    steps = [e.steps_to_goal for e in episodes if e.steps_to_goal is not None]

    def mean(name: str) -> float:
        return float(np.mean([getattr(episode, name) for episode in episodes]))

    return {
        "success_rate": successes / len(episodes),
        "success_interval": (float(interval.low), float(interval.high)),
        "mean_dense_return": mean("dense_return"),
        "mean_sparse_return": mean("sparse_return"),
        "mean_final_distance": mean("final_distance"),
        "worst_final_distance": max(e.final_distance for e in episodes),
        "reached_goal": len(steps),
        "mean_steps_to_goal": float(np.mean(steps)) if steps else math.nan,
        "mean_effort": mean("effort"),
        "mean_action_change": mean("action_change"),
    }


def print_table(title: str, first_seed: int, episodes: Sequence[Episode], **more: str) -> None:
    """Print the table that ends training and playing, with ``more`` rows at its end."""
    result = summary(episodes)
    low, high = result["success_interval"]
    reached = result["reached_goal"]
    steps = f"{result['mean_steps_to_goal']:.1f}" if reached else "-"
    if 0 < reached < len(episodes):  # those may be the goals that were close from the start
        steps += f", where it was reached ({reached:,} of {len(episodes):,})"
    goals = "held-out goals" if first_seed >= CHOOSING_SEED else "goals for training"
    rows = {
        "episodes": f"{len(episodes):,}  ({goals}, seeds from {first_seed:,})",
        "success rate": f"{result['success_rate']:.1%}  (95% interval {low:.1%} to {high:.1%})",
        "mean return, dense": f"{result['mean_dense_return']:.3f}",
        "mean return, sparse": f"{result['mean_sparse_return']:.2f}",
        "mean final distance": f"{result['mean_final_distance'] * 1000:.1f} mm",
        "worst final distance": f"{result['worst_final_distance'] * 1000:.1f} mm",
        "mean steps to the goal": steps,
        "mean effort": f"{result['mean_effort']:.3f}  (squared action)",
        "mean change of action": f"{result['mean_action_change']:.3f}",
    }
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, show_header=False)
    for name, value in (rows | more).items():
        table.add_row(name, value)
    rich.print(table)
