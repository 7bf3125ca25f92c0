"""What the lesson says it does: the input, the reward, the schedule, and whose goals."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import panda_reach_train_agent as script
from panda_rl import agents, evaluation, files
from panda_rl.env import PandaReachEnv
from panda_rl.evaluation import RecordEpisode
from panda_rl.features import RelativeGoal
from panda_rl.rewards import EffortPenalty
from tests.conftest import curves, scalars

import gymnasium as gym
import numpy as np
import PIL.Image
import pytest
import torch

SHORT = script.Config(n_steps=64, n_epochs=2, total_timesteps=1024, n_workers=0, seed=7, name="arm")


def test_the_network_sees_the_hand_and_the_way_to_the_goal_scaled() -> None:
    env = gym.make("PandaReach-v2")
    assert isinstance(env.observation_space, gym.spaces.Dict)
    features = RelativeGoal(env.observation_space, scale=5.0)
    env.close()
    seen = features(
        {
            "achieved_goal": torch.tensor([[0.1, 0.2, 0.3]]),
            "desired_goal": torch.tensor([[0.2, 0.2, 0.1]]),
            "observation": torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),
        }
    )
    expected = [0.5, 1.0, 1.5, 0.5, 0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert seen.tolist() == [pytest.approx(expected)]
    assert features.features_dim == 12
    assert "scale" in features.state_dict()  # saved with the weights


def test_effort_is_paid_for_in_training_and_nowhere_else() -> None:
    config = replace(SHORT, control_type="joints", n_envs=2, effort_coef=0.5)
    paying, free = script.make_env(config), script.make_env(replace(config, effort_coef=0.0))
    paying.reset(), free.reset()
    actions = np.full((2, 7), 0.5, np.float32)
    actions[1] = 2  # clipped to 1, as the robot does
    episode_over = [False, False]
    while not all(episode_over):
        _, rewards, episode_over, infos = paying.step(actions)  # type: ignore[assignment]
        _, plain, _, plain_infos = free.step(actions)
        np.testing.assert_allclose(plain - rewards, [0.5 * 7 * 0.25, 0.5 * 7], rtol=1e-5)
    # What is logged as the episode's reward is the task's own.
    assert [i["episode"]["r"] for i in infos] == [i["episode"]["r"] for i in plain_infos]
    held_out = evaluation.make_env("joints", 0, n_envs=1)
    assert paying.env_is_wrapped(EffortPenalty) == [True, True]
    assert held_out.env_is_wrapped(EffortPenalty) == [False]
    for env in (paying, free, held_out):
        env.close()


def test_adam_updates_all_parameters_in_one_call() -> None:
    env = script.make_env(replace(SHORT, n_envs=1))
    model = script.make_model(replace(SHORT, n_envs=1, adam_beta2=0.9), env)
    (group,) = model.policy.optimizer.param_groups
    assert isinstance(model.policy.optimizer, torch.optim.Adam)
    assert (group["fused"], group["betas"]) == (True, (0.9, 0.9))
    assert torch.get_num_threads() == 1
    env.close()


def test_without_a_goal_scale_the_input_is_stable_baselines3s_own() -> None:
    env = script.make_env(replace(SHORT, n_envs=1))
    model = script.make_model(replace(SHORT, n_envs=1, goal_scale=0.0), env)
    assert not isinstance(model.policy.features_extractor, RelativeGoal)
    env.close()


def resets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that environments of this process are reset with, from now on."""
    seeds: list[int] = []
    reset = PandaReachEnv.reset

    def reset_and_tell(self: PandaReachEnv, **kwargs: Any) -> Any:
        if kwargs.get("seed") is not None:
            seeds.append(kwargs["seed"])
        return reset(self, **kwargs)

    monkeypatch.setattr(PandaReachEnv, "reset", reset_and_tell)
    return seeds


@pytest.fixture
def trained(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[int]]]:
    """A short run's agent, and the seeds of its goals."""
    seeds = resets(monkeypatch)
    yield script.train(SHORT), seeds


def test_a_run_and_its_continuation(trained: tuple[Path, list[int]]) -> None:
    agent, seeds = trained
    training = set(range(7, 15))
    choosing = set(range(1_000_000, 1_000_004))  # the fixture's four goals
    judging = set(range(2_000_000, 2_000_004))
    assert set(seeds) == training | choosing | judging
    assert max(seeds.index(s) for s in choosing) < min(seeds.index(s) for s in judging)

    # The learning rate falls linearly to 0.
    logged = scalars(files.RUNS / "arm")
    rates = [1.0e-3, 0.0]
    assert [value for _, value in logged["train/learning_rate"]] == pytest.approx(rates)
    assert [step for step, _ in logged["eval/success_rate"]] == [0, 1024]

    assert_shows_five_moments(agent)

    # Resumed: other goals than before, and still not held-out ones.
    seeds.clear()
    script.train(replace(SHORT, resume=agent, name=None, total_timesteps=1536))
    again = set(seeds) - choosing - judging
    assert len(again) == 8
    assert not again & training
    assert max(again) < 1_000_000
    assert agents.read(agent).num_timesteps == 1536


def assert_shows_five_moments(agent: Path) -> None:
    """The last film strip: the start and four later moments of the saved agent's episode."""
    strip = curves(files.RUNS / "arm").Images("eval/episode")[-1].encoded_image_string
    logged = np.asarray(PIL.Image.open(io.BytesIO(strip)).convert("RGB")).astype(int)
    env = RecordEpisode(gym.make("PandaReach-v2"))
    policy = agents.read(agent).policy(env.observation_space, env.action_space)
    frames: dict[int, np.ndarray] = {}

    def film(step: int) -> None:
        frames[step] = env.get_wrapper_attr("picture")(240, 160).astype(int)

    evaluation.play_episode(policy, env, evaluation.CHOOSING_SEED, film)
    env.close()
    shown = np.split(logged, 5, axis=1)
    for frame, step in zip(shown, (0, 3, 6, 12, 49), strict=True):
        differences = {
            n: np.abs(frame - frames[n]).mean() for n in (step, step - 3, step + 3) if n in frames
        }
        assert min(differences, key=differences.__getitem__) == step
        assert differences[step] < 0.5
