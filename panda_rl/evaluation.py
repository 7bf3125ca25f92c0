"""How good is a policy? One episode, many episodes, and the table of results."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, SupportsFloat

from panda_rl import workers
from panda_rl.errors import UsageError

import gymnasium as gym
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

# Three sets of goals, by the seed of the reset that draws them. Training uses the seeds below
# both. Recipes and shipped agents are chosen by results on the second set, which the curves
# show too. Results that we report are measured on the third, and nothing is chosen by them.
CHOOSING_SEED = 1_000_000
JUDGING_SEED = 2_000_000
JUDGING_GOALS = range(JUDGING_SEED, JUDGING_SEED + 100)


class Policy(Protocol):
    """Anything that acts like one of Stable-Baselines3's algorithms or policies."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]: ...


@dataclasses.dataclass(frozen=True)
class Episode:
    """The record of one episode. Returns are undiscounted sums over its 50 steps."""

    success: bool
    """Within 5 cm of the goal at the last step."""
    dense_return: float
    """Minus the sum of the distances (m), whichever reward the environment gives."""
    sparse_return: float
    """Minus the number of steps that end more than 5 cm from the goal."""
    final_distance: float
    """m."""
    steps_to_goal: int | None
    """Steps until the goal was first reached; None if it never was."""
    effort: float
    """Mean squared length of the actions."""
    action_change: float
    """Mean length of the change from one action to the next: how jerky the motion is."""


class RecordEpisode(gym.Wrapper):
    """Adds ``info["record"]``, an Episode, to the last step of an episode.

    Attributes:
        distance: the current distance from the hand to the goal (m).
        reached: whether it is within 5 cm.
    """

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        self._distances: list[float] = []
        self._reached: list[bool] = []
        self._actions: list[np.ndarray] = []
        self._see(observation, info)
        return observation, info

    def step(self, action: np.ndarray) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._see(observation, info)
        self._actions.append(np.clip(action, -1, 1))  # as the robot does
        if terminated or truncated:
            info["record"] = self._record()
        return observation, reward, terminated, truncated, info

    def _see(self, observation: dict[str, np.ndarray], info: dict[str, Any]) -> None:
        to_goal = observation["desired_goal"] - observation["achieved_goal"]
        self.distance = float(np.linalg.norm(to_goal))
        self.reached = bool(info["is_success"])
        self._distances.append(self.distance)
        self._reached.append(self.reached)

    def _record(self) -> Episode:
        actions = np.array(self._actions)
        changes = np.linalg.norm(np.diff(actions, axis=0), axis=1)
        return Episode(
            success=self._reached[-1],
            dense_return=-sum(self._distances[1:]),
            sparse_return=-float(self._reached[1:].count(False)),
            final_distance=self._distances[-1],
            steps_to_goal=self._reached.index(True) if any(self._reached) else None,
            effort=float(np.square(actions).sum(axis=1).mean()),
            action_change=float(changes.mean()) if len(changes) else 0.0,
        )


def make_env(
    control_type: str, n_workers: int | None = None, n_envs: int = workers.EVALUATION_ENVS
) -> VecEnv:
    """Environments for ``evaluate``. For ``n_workers``, see ``workers.spread``."""
    return make_vec_env(
        "PandaReach-v2",
        n_envs,
        env_kwargs={"control_type": control_type, "reward_type": "dense"},
        wrapper_class=RecordEpisode,
        **workers.spread(n_workers),
    )


def act(policy: Policy, observation: Any) -> np.ndarray:
    """The most likely action.

    Raises:
        UsageError: the policy is broken: its action is not a finite number.
    """
    try:
        action, _ = policy.predict(observation, deterministic=True)
    except ValueError:  # PyTorch's distributions refuse what is not finite
        raise UsageError("the agent is broken: its action is not a finite number") from None
    return action


def play_episode(
    policy: Policy, env: RecordEpisode, seed: int, on_step: Callable[[int], None] | None = None
) -> Episode:
    """Play the goal of ``seed``. Calls ``on_step(step)`` after the reset and after each step."""
    observation, info = env.reset(seed=seed)
    step = 0
    while True:
        if on_step:
            on_step(step)
        if "record" in info:
            return info["record"]
        observation, _, _, _, info = env.step(act(policy, observation))
        step += 1


def evaluate(
    policy: Policy,
    env: VecEnv,
    seeds: range,
    on_step: Callable[[int], None] | None = None,
) -> list[Episode]:
    """Play the goal of each seed, as many at a time as ``env`` has environments.

    Args:
        policy: the policy to evaluate.
        env: environments wrapped in RecordEpisode.
        seeds: consecutive seeds, one for each goal.
        on_step: called before each step with its number, once for all environments.

    Returns:
        A record for each seed, in order.
    """
    records: list[Episode] = []
    for seed in seeds[:: env.num_envs]:
        env.seed(seed)  # the first environment; the next one gets seed + 1
        observations = env.reset()
        finished: dict[int, Episode] = {}
        step = 0
        while len(finished) < env.num_envs:
            if on_step:
                on_step(step)
            observations, _, dones, infos = env.step(act(policy, observations))
            for i in np.flatnonzero(dones):
                finished.setdefault(int(i), infos[i]["record"])
            step += 1
        records += [finished[i] for i in range(env.num_envs)]
    return records[: len(seeds)]


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Means over ``episodes``; the success rate with its 95% Wilson interval."""
    import scipy.stats  # here, because importing it takes a second

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


def print_table(title: str, seeds: range, episodes: Sequence[Episode], **more: str) -> None:
    """Print the table that ends training and playing, with ``more`` rows at its end."""
    result = summary(episodes)
    low, high = result["success_interval"]
    reached = result["reached_goal"]
    steps = f"{result['mean_steps_to_goal']:.1f} of 50" if reached else "-"
    if 0 < reached < len(episodes):  # those may be the goals that were close from the start
        steps += f", where it was reached ({reached:,} of {len(episodes):,})"
    held_out = seeds.start >= CHOOSING_SEED
    goals = "held-out goals" if held_out else "goals for training"
    rows = {
        "episodes": f"{len(episodes):,}  ({goals}, seeds from {seeds.start:,})",
        "success rate": f"{result['success_rate']:.1%}  (95% interval {low:.1%} to {high:.1%})",
        "mean return, dense": f"{result['mean_dense_return']:.3f}",
        "mean return, sparse": f"{result['mean_sparse_return']:.2f}",
        "mean final distance": f"{result['mean_final_distance'] * 1000:.1f} mm",
        "worst final distance": f"{result['worst_final_distance'] * 1000:.1f} mm",
        "mean steps to the goal": steps,
        "mean effort": f"{result['mean_effort']:.3f}  (squared action)",
        "mean change of action": f"{result['mean_action_change']:.3f}",
    }
    table = rich.table.Table(title=rich.text.Text(title), box=rich.box.SIMPLE, show_header=False)
    for name, value in (rows | more).items():
        table.add_row(name, rich.text.Text(value))
    console = rich.console.Console(highlight=False, force_jupyter=False)
    with console.capture() as text:  # rich itself would not report a closed pipe
        console.print(table)
    print(text.get(), end="", flush=True)
