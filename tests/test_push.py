"""The lessons with a cube: SAC with HER, its inputs, its training starts, its agents."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC

import panda_push_train_agent as script
from benchmarks.ship import CUBE_AGENTS
from panda_rl import agents, recipes
from panda_rl.features import NormReLU, RelativeCube
from panda_rl.starts import GraspStarts
from tests.conftest import (
    Run,
    assert_fine,
    assert_one_line,
    curves,
    row,
    scalars,
    weights,
)

TRAIN, TEST = "panda_push_train_agent.py", "panda_reach_test_agent.py"
TASKS = ("Push", "PickAndPlace")


@pytest.mark.slow
def test_a_cubes_agent_trains_plays_and_loads_elsewhere(call: Run, tmp_path: Path) -> None:
    result = call(TRAIN, "--task", "PickAndPlace", "--total-timesteps", 3_000)
    assert_fine(result)
    name = "PandaPickAndPlace_SAC_v2_1"
    agent = tmp_path / "agents" / f"{name}.zip"
    lines = re.findall(r"([\d,]+)/3,000 steps: +\d+% of the goals", result.stdout)
    assert [int(steps.replace(",", "")) for steps in lines] == [0, 2_048, 3_008]
    assert row(result.stdout, "steps") == "3,008"

    logged = curves(tmp_path / "runs" / name)
    assert [event.step for event in logged.Images("film/episode")] == [0, 2_048, 3_008]
    assert {"train/critic_loss", "rollout/success_rate"} <= set(logged.Tags()["scalars"])

    again = call(TEST, agent, "--no-render", "--episodes", 4)
    assert_fine(again)
    assert row(again.stdout, "mean final distance") == row(result.stdout, "mean final distance")

    # Stable-Baselines3 itself reads the file, and acts in the same way.
    read = agents.read(agent)
    env = read.make_env()
    theirs, ours = SAC.load(agent, env=env), read.policy(env)
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        action, _ = ours.predict(observation, deterministic=True)
        assert (theirs.predict(observation, deterministic=True)[0] == action).all()
        observation, *_ = env.step(action)
    env.close()


def test_same_seed_same_agent_and_flags_reach_it(call: Run, tmp_path: Path) -> None:
    small = "--n-envs 2 --learning-starts 200 --batch-size 32 --gradient-steps 4"
    more = "--gamma 0.8 --tau 0.1 --n-sampled-goal 2 --n-critics 3 --goal-scale 0 --net-arch 32 16"
    words = f"{small} {more} --total-timesteps 400".split()
    for seed, name in ((3, "a"), (3, "b"), (4, "c")):
        assert_fine(call(TRAIN, *words, "--seed", seed, "--name", name))
    a, b, c = (tmp_path / "agents" / f"{name}.zip" for name in "abc")
    assert weights(a) == weights(b) != weights(c)
    assert scalars(tmp_path / "runs" / "a") == scalars(tmp_path / "runs" / "b")
    model = SAC.load(a, env=agents.read(a).make_env())
    assert (model.gamma, model.tau, model.batch_size, model.seed) == (0.8, 0.1, 32, 3)
    buffer: Any = model.replay_buffer
    assert (buffer.n_sampled_goal, len(model.critic.q_networks)) == (2, 3)
    assert agents.read(a).config["net_arch"] == [32, 16]
    assert "features_extractor.scale" not in agents.read(a).weights


# ------------------------------------------------------------------ what the networks see


@pytest.mark.parametrize("fingers", [[], [0.06]], ids=TASKS)
def test_the_network_sees_both_vectors_and_the_quarter_turn(fingers: list[float]) -> None:
    task = "PickAndPlace" if fingers else "Push"
    env: Any = gym.make(f"Panda{task}-v2")
    features = RelativeCube(env.observation_space, scale=10.0)
    env.close()
    hand = [0.1, 0.2, 0.3, 1.0, 2.0, 3.0, *fingers]
    cube = [0.2, 0.2, 0.1, 0.5, 0.6, np.pi / 8, 0.25, -7.0, 7.0, 50.0, 60.0, 70.0]
    seen = {
        "observation": torch.tensor([hand + cube]),
        "achieved_goal": torch.tensor([cube[:3]]),
        "desired_goal": torch.tensor([[0.2, 0.3, 0.4]]),
    }
    vectors = [1.0, 0.0, -2.0, 0.0, 1.0, 3.0]
    expected = [*hand, *vectors, 0.25, -1.0, 1.0, 1.0, 0.0]
    assert features(seen).tolist() == [pytest.approx(expected, abs=1e-5)]
    assert features.features_dim == len(expected)
    seen["observation"][0, len(hand) + 5] += np.pi / 2  # turned by a quarter
    assert features(seen).tolist() == [pytest.approx(expected, abs=1e-5)]


def test_layers_are_normalized_before_the_relu() -> None:
    outputs = NormReLU()(torch.tensor([[3.0, 1.0, -1.0, -3.0], [9.0, 9.0, 9.0, 9.0]]) * 1_000)
    assert outputs.tolist() == [pytest.approx([3 / 5**0.5, 1 / 5**0.5, 0, 0]), [0.0] * 4]


# ------------------------------------------------------------------ where training starts


@pytest.mark.parametrize(("held", "around"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_training_starts_at_a_grasp_as_often_as_asked(held: float, around: float) -> None:
    plain: Any = gym.make("PandaPickAndPlace-v2")
    starts = GraspStarts(gym.make("PandaPickAndPlace-v2"), held=held, around=around)
    for seed in range(10):
        expected, _ = plain.reset(seed=seed)
        observation, _ = starts.reset(seed=seed)
        hand, fingers = observation["observation"][:3], observation["observation"][6]
        cube = observation["achieved_goal"]
        assert observation["desired_goal"].tolist() == expected["desired_goal"].tolist()
        if not held and not around:
            assert observation["observation"].tolist() == expected["observation"].tolist()
        elif around:
            assert cube.tolist() == expected["achieved_goal"].tolist()
            assert fingers == pytest.approx(0.08, abs=1e-3)  # as wide as they open
            assert abs(hand - cube)[:2].max() < 0.015
            assert -0.005 < hand[2] - cube[2] < 0.125
        else:
            np.testing.assert_allclose(hand, cube, atol=1e-3)
            assert fingers == pytest.approx(0.042, abs=1e-3)  # the cube is 4 cm wide
            # Closed fingers hold the cube; open ones drop it.
            for grip in (-1, 1):
                starts.reset(seed=seed)
                for _ in range(10):
                    observation, *_ = starts.step(np.array([0, 0, 0, grip], np.float32))
                fallen = cube[2] - observation["achieved_goal"][2]
                assert fallen < 0.01 if grip < 0 else fallen > min(0.03, cube[2] - 0.025)
    plain.close()
    starts.close()


def test_only_training_starts_at_a_grasp() -> None:
    config = replace(recipes.PUSH_RECIPES["PickAndPlace"], n_envs=2)
    assert config.held > 0 and config.around > 0
    env = script.make_env(config)
    assert env.env_is_wrapped(GraspStarts) == [True, True]
    env.close()
    judge = agents.read(CUBE_AGENTS["PickAndPlace"]).make_env()
    assert "GraspStarts" not in str(judge)
    judge.close()


# ------------------------------------------------------------------ shipped agents, and strangers'


@pytest.mark.slow
@pytest.mark.parametrize(("task", "least"), [("Push", 96), ("PickAndPlace", 92)])
def test_the_shipped_agents_reach_the_goals(task: str, least: int, call: Run) -> None:
    agent = CUBE_AGENTS[task]
    result = call(TEST, agent, "--no-render", "--episodes", 50)
    assert_fine(result)
    assert float(row(result.stdout, "success rate").split("%")[0]) >= least


@pytest.mark.parametrize("config", [{}, {"task": "Reach"}, {"task": "os:x"}, {"task": []}], ids=str)
def test_a_sac_agent_of_no_task_that_we_know_is_refused(
    config: dict, call: Run, tmp_path: Path
) -> None:
    agent = tmp_path / "x.zip"
    model = SAC("MultiInputPolicy", "panda_rl:PandaPush-v2", buffer_size=10, device="cpu")
    agents.save(model, agent, config)
    assert_one_line(call(TEST, agent, "--no-render"), str(agent), "not an agent")


@pytest.mark.parametrize("kwargs", [{}, {"activation_fn": torch.nn.Tanh}], ids=str)
def test_an_agent_with_another_activation_plays_with_it(kwargs: dict, tmp_path: Path) -> None:
    """The activation has no weights: it is known by its name, or is SAC's own."""
    name = "panda_rl:PandaPush-v2"
    model = SAC("MultiInputPolicy", name, policy_kwargs=kwargs, buffer_size=10, device="cpu")
    agents.save(model, tmp_path / "x.zip", {"task": "Push"})
    agent = agents.read(tmp_path / "x.zip")
    env = agent.make_env()
    observation, _ = env.reset(seed=0)
    action, _ = agent.policy(env).predict(observation, deterministic=True)
    assert (model.predict(observation, deterministic=True)[0] == action).all()
    env.close()


def test_training_never_unlearns_at_its_end() -> None:
    """SAC's last rollout passes the number of steps; the learning rate then stays 0."""
    config = replace(recipes.PUSH_RECIPES["Push"], n_envs=1)
    env = script.make_env(config)
    rate = script.make_model(config, env).lr_schedule
    assert [rate(remaining) for remaining in (1, 0.5, 0.25, 0, -0.1)] == [1e-3, 1e-3, 5e-4, 0, 0]
    env.close()


def test_a_cubes_agent_where_reachs_is_expected_is_one_line(call: Run, tmp_path: Path) -> None:
    for words in (
        ("panda_reach_train_agent.py", "--resume", CUBE_AGENTS["Push"]),
        ("panda_rl/export.py", CUBE_AGENTS["Push"], tmp_path / "agent.onnx"),
    ):
        assert_one_line(call(*words), str(CUBE_AGENTS["Push"]), "for Push, not for Reach")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--control-type", "joints"),
        ("--resume", "x.zip"),
        ("--task", "Stack"),
        ("--held", 1.5),
        ("--n-envs", 64),
        ("--held", 0.1),
        ("--task", "PickAndPlace", "--held", 0.7, "--around", 0.7),
        ("--buffer-size", 10),
        ("--batch-size", 1),
        ("--ent-coef", 0),
        ("--train-freq", 0),
        ("--n-sampled-goal", -1),
        ("--learning-starts", 399),
        ("--gamma", 1.1),
    ],
    ids=str,
)
def test_a_wrong_flag_is_told(words: tuple, call: Run, tmp_path: Path) -> None:
    result = call(TRAIN, *words, "--total-timesteps", 64)
    assert result.returncode == 2
    assert result.stderr
    assert not (tmp_path / "runs").exists()
