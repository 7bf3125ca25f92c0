"""What the tables and the live evaluation say about a policy."""

import itertools
from collections.abc import Callable
from typing import Any

from panda_rl import evaluation
from panda_rl.errors import UsageError
from panda_rl.evaluation import Episode, RecordEpisode
from tests.conftest import row

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv


class Acts:
    """A policy that is a function from the observation to the action."""

    def __init__(self, act: Callable[[dict[str, np.ndarray]], Any]) -> None:
        self.act = act

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, None]:
        assert deterministic
        return np.asarray(self.act(observation), np.float32), None


def towards_the_goal(observation: dict[str, np.ndarray]) -> np.ndarray:
    return 4 * (observation["desired_goal"] - observation["achieved_goal"])


class Summed(gym.Wrapper):
    """Keeps an episode's rewards, observations and successes."""

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


@pytest.mark.parametrize("speed", [1, -1], ids=["reaches", "flees"])
@pytest.mark.parametrize("reward_type", ["dense", "sparse"])
def test_an_episode_is_what_the_environment_says(reward_type: str, speed: int) -> None:
    """The returns are the environment's own rewards, summed."""
    env = Summed(gym.make("PandaReach-v2", reward_type=reward_type))
    policy = Acts(lambda observation: speed * towards_the_goal(observation))
    steps: list[int] = []
    episode = evaluation.play_episode(policy, RecordEpisode(env), 4, steps.append)
    returns = {"dense": episode.dense_return, "sparse": episode.sparse_return}
    assert returns[reward_type] == pytest.approx(sum(env.rewards), abs=1e-5)
    assert episode.success == env.reached[-1] == (speed == 1)
    assert episode.final_distance == pytest.approx(env.distances[-1])
    assert episode.steps_to_goal == (env.reached.index(True) if speed == 1 else None)
    assert steps == list(range(51))
    env.close()


def test_effort_and_jerkiness_are_of_the_actions_as_the_robot_takes_them() -> None:
    env = RecordEpisode(gym.make("PandaReach-v2"))
    turns = itertools.cycle([(0.5, 0, 0), (0, 3, 0)])  # 3 is clipped to 1
    episode = evaluation.play_episode(Acts(lambda _: next(turns)), env, 0)
    assert episode.effort == pytest.approx((0.25 + 1) / 2)
    assert episode.action_change == pytest.approx(np.hypot(0.5, 1))
    env.close()


def test_many_at_once_are_the_same_episodes_as_one_by_one() -> None:
    """In the order of their seeds, also where the last round is not full."""
    policy, seeds = Acts(towards_the_goal), range(evaluation.JUDGING_SEED, 2_000_006)
    env = RecordEpisode(gym.make("PandaReach-v2", reward_type="dense"))
    one_by_one = [evaluation.play_episode(policy, env, seed) for seed in seeds]
    env.close()
    envs = evaluation.make_env("ee", n_workers=0)
    assert evaluation.evaluate(policy, envs, seeds) == one_by_one
    assert len({episode.dense_return for episode in one_by_one}) == 6  # six goals
    envs.close()


class Short(gym.Env):
    """Terminates, as PandaReach never does, after ``length`` steps; later than that when
    it is played again."""

    observation_space = gym.spaces.Dict(
        {name: gym.spaces.Box(-1, 1, (3,)) for name in ("achieved_goal", "desired_goal")}
    )
    action_space = gym.spaces.Box(-1, 1, (3,))

    def __init__(self, length: int) -> None:
        self.length = length - 7

    def reset(self, **kwargs: Any) -> Any:
        self.steps = 0
        self.length += 7
        return self._see(), {"is_success": False}

    def step(self, action: np.ndarray) -> Any:
        self.steps += 1
        assert self.steps <= 100, "it goes on for ever"
        return self._see(), 0.0, self.steps == self.length, False, {"is_success": True}

    def _see(self) -> dict[str, np.ndarray]:
        goal = np.full(3, 0.1, np.float32)
        return {"achieved_goal": np.zeros(3, np.float32), "desired_goal": self.steps * goal}


def test_an_environment_that_terminates_ends_its_episode() -> None:
    policy = Acts(lambda observation: 0 * observation["achieved_goal"])
    alone = evaluation.play_episode(policy, RecordEpisode(Short(3)), 0)
    assert (alone.sparse_return, alone.steps_to_goal, alone.action_change) == (0, 1, 0)
    envs = DummyVecEnv([lambda n=n: RecordEpisode(Short(n)) for n in (1, 3, 5)])  # type: ignore[misc]
    together = evaluation.evaluate(policy, envs, range(3))
    assert together[1] == alone
    lengths = [episode.final_distance / np.sqrt(3) * 10 for episode in together]
    assert lengths == pytest.approx([1, 3, 5])  # the first episode of each, not a later one


def test_a_policy_whose_action_is_not_a_number_is_broken() -> None:
    def diverged(observation: Any) -> Any:
        raise ValueError("Expected parameter loc")

    with pytest.raises(UsageError, match="broken"):
        evaluation.act(Acts(diverged), {})


def episode(**changes: Any) -> Episode:
    return Episode(**(dict(EPISODE) | changes))


EPISODE = {
    "success": True,
    "dense_return": -0.5,
    "sparse_return": -3.0,
    "final_distance": 0.004,
    "steps_to_goal": 3,
    "effort": 0.25,
    "action_change": 0.125,
}


def test_the_table_has_the_means_of_the_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    worse = episode(
        success=False,
        dense_return=-1.5,
        sparse_return=-50.0,
        final_distance=0.1,
        steps_to_goal=None,
        effort=0.75,
        action_change=0.375,
    )
    seeds = range(evaluation.JUDGING_SEED, evaluation.JUDGING_SEED + 9)
    evaluation.print_table("an [arm]", seeds, [episode(), worse], more="[so]")
    table = capsys.readouterr().out
    assert table.splitlines()[0].strip() == "an [arm]"
    shown = {
        "episodes": "2  (held-out goals, seeds from 2,000,000)",
        "success rate": "50.0%  (95% interval 9.5% to 90.5%)",
        "mean return, dense": "-1.000",
        "mean return, sparse": "-26.50",
        "mean final distance": "52.0 mm",
        "worst final distance": "100.0 mm",
        "mean steps to the goal": "3.0 of 50, where it was reached (1 of 2)",
        "mean effort": "0.500  (squared action)",
        "mean change of action": "0.250",
        "more": "[so]",
    }
    assert {name: row(table, name) for name in shown} == shown


def test_no_row_of_the_table_is_folded_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    many = [episode()] * 9_999 + [episode(steps_to_goal=None)]
    evaluation.print_table("arm", range(4 * 10**9, 4 * 10**9 + 10_000), many)
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 13


def test_goals_of_training_are_not_called_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluation.CHOOSING_SEED
    for seed, goals in (
        (0, "goals for training, seeds from 0"),
        (first - 1, "goals for training, seeds from 999,999"),
        (first, "held-out goals, seeds from 1,000,000"),
    ):
        evaluation.print_table("arm", range(seed, seed + 2), [episode()] * 2)
        assert row(capsys.readouterr().out, "episodes") == f"2  ({goals})"


def test_steps_to_the_goal_are_of_the_episodes_that_got_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for steps, shown in (
        ([2, 4], "3.0 of 50"),
        ([0, None, 4], "2.0 of 50, where it was reached (2 of 3)"),
        ([None, None], "-"),
    ):
        episodes = [episode(steps_to_goal=n) for n in steps]
        evaluation.print_table("arm", range(len(steps)), episodes)
        assert row(capsys.readouterr().out, "mean steps to the goal") == shown
