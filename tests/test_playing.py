"""Playing saved agents: tables, recordings, agents that others trained."""

from pathlib import Path

from panda_rl import agents, files
from tests.conftest import Run, assert_one_line, call_test, linux_only, row

import gymnasium as gym
import imageio.v3 as imageio
import pytest
import torch
from stable_baselines3 import PPO


@pytest.mark.slow
def test_the_shipped_agent_plays_without_a_model(run: Run) -> None:
    result = run("panda_reach_test_agent.py", "--no-render", "--episodes", 20)
    assert (result.returncode, result.stderr) == (0, "")
    assert "PandaReach_PPO_v2_ee_dense" in result.stdout
    assert row(result.stdout, "success rate").startswith("100.0%  (95% interval 83.9% to 100.0%)")
    again = call_test("--no-render", "--episodes", 20)
    assert again.stdout == result.stdout
    other = call_test("--no-render", "--episodes", 20, "--seed", 1)
    assert other.stdout != result.stdout


@pytest.mark.parametrize("name", files.SHIPPED)
def test_stable_baselines3_loads_the_shipped_agents(name: str) -> None:
    """They name no module that is gone."""
    agent = files.AGENTS / f"{name}.zip"
    assert PPO.load(agent).num_timesteps == agents.read(agent).num_timesteps


def test_an_agent_of_stable_baselines3s_own_plays(tmp_path: Path) -> None:
    """Other layers, another activation, and no config of ours in it."""
    env = gym.make("PandaReach-v2", control_type="joints")
    kwargs = {"net_arch": {"pi": [32], "vf": [48, 16]}, "activation_fn": torch.nn.ReLU}
    model = PPO("MultiInputPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu")
    agent = tmp_path / "theirs.zip"
    model.save(agent)
    result = call_test(agent, "--no-render", "--episodes", 1)
    assert (result.returncode, result.stderr) == (0, "")

    saved = agents.read(agent)
    assert saved.control_type == "joints"
    ours = saved.policy(env.observation_space, env.action_space)
    observation, _ = env.reset(seed=0)
    theirs = model.predict(observation, deterministic=True)[0]
    assert (ours.predict(observation, deterministic=True)[0] == theirs).all()
    env.close()


def test_an_agent_for_another_task_is_reported_in_one_line(tmp_path: Path) -> None:
    pendulum = PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    pendulum.save(tmp_path / "pendulum.zip")
    assert_one_line(call_test(tmp_path / "pendulum.zip"), "another task")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_records(tmp_path: Path, suffix: str) -> None:
    film = tmp_path / f"a film.{suffix}"
    result = call_test("--no-render", "--episodes", 1, "--record", film)
    assert (result.returncode, result.stderr) == (0, "")
    assert str(film) in result.stdout
    assert film.stat().st_size < 600_000
    assert list(tmp_path.iterdir()) == [film]
    frames = imageio.imread(film)
    assert len(frames) > 20
    red, green, blue = frames[0].astype(int).transpose(2, 0, 1)[:3]
    assert ((green > 90) & (red < 70) & (blue < 70)).sum() > 30  # the target
    assert frames[0].tolist() != frames[len(frames) // 2].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["nowhere.zip"], ["nowhere.zip", "No such file"], marks=linux_only),
        pytest.param(["."], ["directory"], marks=linux_only),
        (["--episodes", 0], ["--episodes"]),
        (["--seed", -1], ["--seed"]),
        (["--record", "film.avi"], [".gif or .mp4"]),
        (["--record", "no/such/folder/film.gif"], ["no/such/folder"]),
        (["--record", "folder.gif"], ["Is a directory"]),
        (["--record", "no/such/folder/film.gif", "--render"], ["no/such/folder"]),
        pytest.param(["--record", "film.gif", "--render"], ["display"], marks=linux_only),
        (["--record", "film.gif", "nowhere.zip"], ["nowhere.zip"]),
        pytest.param(["--render"], ["display"], marks=linux_only),
    ],
)
def test_bad_input_is_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gif").mkdir()
    result = call_test(*arguments)
    assert_one_line(result, *words)
    assert result.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["folder.gif"]
