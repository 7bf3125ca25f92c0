"""What an episode's record and the final table say about a policy."""

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from panda_rl import evaluation
from panda_rl.evaluation import Episode
from tests.conftest import row


class Acts:
    """A policy that is a function from the observation to the action."""

    def __init__(self, act: Callable[[dict[str, np.ndarray]], Any]) -> None:
        self.act = act

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, None]:
        assert deterministic
        return np.asarray(self.act(observation), np.float32), None


class Summed(gym.Wrapper):
    """Keeps an episode's rewards, distances and successes."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        self.rewards: list[float] = []
        self.distances = [self._distance(observation)]
        self.reached = [info["is_success"]]
        return observation, info

    def step(self, action: np.ndarray) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.rewards.append(float(reward))
        self.distances.append(self._distance(observation))
        self.reached.append(info["is_success"])
        return observation, reward, terminated, truncated, info

    @staticmethod
    def _distance(observation: dict[str, np.ndarray]) -> float:
        return float(np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"]))


@pytest.mark.parametrize("speed", [4, -4], ids=["reaches", "flees"])
@pytest.mark.parametrize("reward_type", ["dense", "sparse"])
def test_an_episode_is_what_the_environment_says(reward_type: str, speed: int) -> None:
    """The returns are the environment's own rewards, summed."""
    env = Summed(gym.make("PandaReach-v2", reward_type=reward_type))
    policy = Acts(lambda seen: speed * (seen["desired_goal"] - seen["achieved_goal"]))
    steps: list[tuple[int, float, bool]] = []
    episode = evaluation.play(policy, env, 4, lambda *step: steps.append(step))
    returns = {"dense": episode.dense_return, "sparse": episode.sparse_return}
    assert returns[reward_type] == pytest.approx(sum(env.rewards), abs=1e-5)
    assert episode.success == env.reached[-1] == (speed > 0)
    assert episode.final_distance == pytest.approx(env.distances[-1])
    assert episode.steps_to_goal == (env.reached.index(True) if speed > 0 else None)
    numbers, distances, reached = zip(*steps, strict=True)
    assert numbers == tuple(range(51))
    assert distances == pytest.approx(env.distances) and list(reached) == env.reached
    env.close()


def test_effort_and_jerkiness_are_of_the_actions_as_the_robot_takes_them() -> None:
    env = gym.make("PandaReach-v2")
    turns = itertools.cycle([(0.5, 0, 0), (0, 3, 0)])  # 3 is clipped to 1
    episode = evaluation.play(Acts(lambda _: next(turns)), env, 0)
    assert episode.effort == pytest.approx((0.25 + 1) / 2)
    assert episode.action_change == pytest.approx(np.hypot(0.5, 1))
    env.close()


GOOD = Episode(
    success=True,
    dense_return=-0.5,
    sparse_return=-3.0,
    final_distance=0.004,
    steps_to_goal=3,
    effort=0.25,
    action_change=0.125,
)
BAD = Episode(
    success=False,
    dense_return=-1.5,
    sparse_return=-50.0,
    final_distance=0.1,
    steps_to_goal=None,
    effort=0.75,
    action_change=0.375,
)


def test_the_table_has_the_means_of_the_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation.print_table("an arm", evaluation.JUDGING_SEED, [GOOD, BAD], more="so")
    table = capsys.readouterr().out
    assert table.splitlines()[0].strip() == "an arm"
    shown = {
        "episodes": "2  (held-out goals, seeds from 2,000,000)",
        "success rate": "50.0%  (95% interval 9.5% to 90.5%)",
        "mean return, dense": "-1.000",
        "mean return, sparse": "-26.50",
        "mean final distance": "52.0 mm",
        "worst final distance": "100.0 mm",
        "mean effort": "0.500  (squared action)",
        "mean change of action": "0.250",
        "more": "so",
    }
    assert {name: row(table, name) for name in shown} == shown
    # Of the episodes that got there, and it says of how many.
    steps = row(table, "mean steps to the goal")
    assert steps.startswith("3.0 ") and "1 of 2" in steps
    evaluation.print_table("an arm", 0, [BAD])
    assert row(capsys.readouterr().out, "mean steps to the goal").startswith("- ")


def test_goals_of_training_are_not_called_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluation.CHOOSING_SEED
    for seed, goals in (
        (0, "goals for training, seeds from 0"),
        (first - 1, "goals for training, seeds from 999,999"),
        (first, "held-out goals, seeds from 1,000,000"),
    ):
        evaluation.print_table("arm", seed, [GOOD] * 2)
        assert row(capsys.readouterr().out, "episodes") == f"2  ({goals})"
