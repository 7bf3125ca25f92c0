"""Training and playing, as a person does: the scripts' files, tables and exit codes."""

import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import VARIANTS, Run, assert_one_line, call
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import panda_reach_test_agent
import panda_reach_train_agent
import panda_reach_utils as utils

SHORT = ("--total-timesteps", 1024)


def curves(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def row(output: str, name: str) -> str:
    return re.findall(rf"^ *{re.escape(name)} +(.*?) *$", output, re.M)[0]


@pytest.mark.slow
def test_the_default_run_reaches_the_goals(run: Run, clone: Path) -> None:
    result = run("panda_reach_train_agent.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert float(row(result.stdout, "success rate").split("%")[0]) >= 99
    assert "\x1b" not in result.stdout  # in a pipe: no control characters
    assert len(result.stdout.splitlines()) < 40

    name = "PandaReach_PPO_v2_ee_dense_1"
    agent = clone / "rl-trained-agents" / f"{name}.zip"
    data = json.loads(zipfile.ZipFile(agent).read("data"))
    assert data["arguments"]["seed"] == data["seed"] == 0
    logged = curves(clone / "runs" / name)
    assert set(logged.Tags()["scalars"]) >= {
        "rollout/ep_rew_mean",
        "rollout/success_rate",
        "time/fps",
        "train/loss",
        "eval/success_rate",
        "eval/mean_final_distance",
    }
    for last in (logged.Scalars("eval/success_rate")[-1], logged.Images("eval/episode")[-1]):
        assert last.step == data["num_timesteps"] == 20_480  # the end was not left out
    assert f"{name}.zip" in result.stdout.split("Watch it:")[1]

    # The command it prints plays the agent, on the same goals, to the same table.
    again = run("panda_reach_test_agent.py", agent, "--episodes", 100)
    assert (again.returncode, again.stderr) == (0, "")
    for name in (
        "success rate",
        "mean return, dense",
        "mean return, sparse",
        "mean final distance",
    ):
        assert row(again.stdout, name) == row(result.stdout, name)


@pytest.mark.slow
@pytest.mark.parametrize(("control_type", "reward_type"), VARIANTS)
def test_each_variant_trains_and_plays(
    run: Run, clone: Path, control_type: str, reward_type: str
) -> None:
    variant = ("--control-type", control_type, "--reward-type", reward_type)
    result = run("panda_reach_train_agent.py", *variant, *SHORT)
    assert (result.returncode, result.stderr) == (0, "")
    name = f"PandaReach_PPO_v2_{control_type}_{reward_type}_1"
    assert (clone / "runs" / name).is_dir()
    agent = clone / "rl-trained-agents" / f"{name}.zip"
    assert PPO.load(agent).num_timesteps == 1024
    result = run("panda_reach_test_agent.py", agent, "--episodes", 2)
    assert (result.returncode, result.stderr) == (0, "")
    assert row(result.stdout, "episodes (held-out goals)") == "2"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs and agents go that are made in this process."""
    for name in ("RUNS", "AGENTS"):
        monkeypatch.setattr(utils, name, tmp_path / name)
        (tmp_path / name).mkdir()
    return tmp_path


def test_runs_count_up_and_overwrite_nothing(folders: Path) -> None:
    (utils.AGENTS / "arm_1.zip").write_bytes(b"mine")
    (utils.RUNS / "arm_2").mkdir()
    assert [utils.new_run(None, "arm") for _ in range(2)] == ["arm_3", "arm_4"]
    assert sorted(path.name for path in utils.RUNS.iterdir()) == ["arm_2", "arm_3", "arm_4"]


@pytest.mark.slow
def test_name_and_hyperparameters_come_to_the_agent(run: Run, clone: Path) -> None:
    flags = {
        "n_envs": 3,
        "n_steps": 40,
        "batch_size": 30,
        "n_epochs": 2,
        "gamma": 0.7,
        "gae_lambda": 0.75,
        "ent_coef": 0.001,
        "vf_coef": 0.25,
        "max_grad_norm": 0.9,
        "seed": 5,
    }
    words = [w for k, v in flags.items() for w in (f"--{k.replace('_', '-')}", v)]
    arguments = (*words, "--total-timesteps", 240, "--name", "mein Arm ä")
    result = run("panda_reach_train_agent.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    agent = clone / "rl-trained-agents" / "mein Arm ä.zip"
    model = PPO.load(agent)
    assert {name: getattr(model, name) for name in flags} == flags

    before = agent.read_bytes()
    assert_one_line(run("panda_reach_train_agent.py", *arguments), "mein Arm ä", "--name")
    assert agent.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--control-type", "arm"], ["arm"]),
        (["--total-timesteps", -5], ["--total-timesteps", "-5"]),
        (["--total-timesteps", 0], ["--total-timesteps"]),
        (
            ["--total-timesteps", "2e4"],
            ["--total-timesteps is '2e4', but must be a whole number\n"],
        ),
        (["--gamma", "0,9"], ["--gamma is '0,9', but must be a number\n"]),
        (["--vf-coef", "x'y"], ['--vf-coef is "x\'y", but must be a number\n']),
        (["--n-envs", 1], ["try --batch-size 32\n"]),
        (["--n-envs", 1, "--n-steps", 33], ["try --batch-size 33\n"]),
        (["--n-envs", 0], ["--n-envs"]),
        (["--n-envs", 10**6], ["--n-envs"]),
        (["--n-steps", 0], ["--n-steps"]),
        (["--learning-rate", "1e400"], ["--learning-rate"]),
        (["--clip-range", -1], ["--clip-range"]),
        (["--batch-size", 77], ["--batch-size", "77"]),
        (["--gamma", 1.5], ["--gamma"]),
        (["--learning-rate", "nan"], ["--learning-rate"]),
        (["--learning-rate", -1], ["--learning-rate"]),
        (["--seed", -1], ["--seed"]),
        (["--seed", 10**12], ["--seed"]),
        (["--name", "a/b"], ["--name"]),
        (["--name", ""], ["--name"]),
        (["--name", "n" * 300], ["File name too long"]),
        (["--render"], ["display"]),
        (["--resume", "nowhere.zip"], ["nowhere.zip"]),
    ],
)
def test_bad_input_to_training_is_told_in_one_line(
    folders: Path, arguments: list[object], words: list[str]
) -> None:
    assert_one_line(call(panda_reach_train_agent.train, *arguments), *words)
    assert not list(folders.glob("*/*"))


@pytest.mark.slow
def test_the_shipped_agent_plays_without_a_model(run: Run) -> None:
    result = run("panda_reach_test_agent.py", "--episodes", 20)
    assert (result.returncode, result.stderr) == (0, "")
    assert "PandaReach_PPO_v2_ee_dense" in result.stdout
    assert row(result.stdout, "success rate").startswith("100.0%  (95% interval 83.9% to 100.0%)")
    again = run("panda_reach_test_agent.py", "--episodes", 20)
    assert again.stdout == result.stdout
    other = run("panda_reach_test_agent.py", "--episodes", 20, "--seed", 1)
    assert other.stdout != result.stdout


def test_steps_to_the_goal_are_of_the_episodes_that_got_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def episode(steps_to_goal: int | None) -> utils.Episode:
        return utils.Episode(False, -1.0, -50.0, 0.1, steps_to_goal)

    for steps, shown in (
        ([2, 4], "3.0 of 50"),
        ([0, None, 4], "2.0 of 50, where it was reached (2 of 3)"),
        ([None, None], "-"),
    ):
        utils.print_table("arm", [episode(n) for n in steps])
        assert row(capsys.readouterr().out, "mean steps to the goal") == shown


@pytest.mark.slow
def test_ctrl_c_ends_playing_with_the_table_of_what_was_played(clone: Path) -> None:
    command = [sys.executable, "-u", str(clone / "panda_reach_test_agent.py"), "--episodes=100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as playing:
        assert playing.stdout and "Playing" in playing.stdout.readline()
        time.sleep(2)
        playing.send_signal(signal.SIGINT)
        output, _ = playing.communicate(timeout=60)
    assert playing.returncode == 0
    (played,) = re.findall(r"Stopped after (.*) of 100,000 episodes", output)
    assert row(output, "episodes (held-out goals)") == played


def test_an_agent_of_stable_baselines3s_own_plays(run: Run, tmp_path: Path) -> None:
    """Other layers, another activation, and no arguments of ours in it."""
    import gymnasium as gym
    import torch

    import panda_reach_env  # noqa: F401

    env = gym.make("PandaReach-v2", control_type="joints")
    kwargs = {"net_arch": {"pi": [32], "vf": [48, 16]}, "activation_fn": torch.nn.ReLU}
    model = PPO("MultiInputPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu")
    agent = tmp_path / "theirs.zip"
    model.save(agent)
    result = run("panda_reach_test_agent.py", agent, "--episodes", 1)
    assert (result.returncode, result.stderr) == (0, "")

    import panda_reach_utils as utils

    ours, env = utils.load_agent(agent)
    observation, _ = env.reset(seed=0)
    theirs = model.predict(observation, deterministic=True)[0]
    assert (ours.predict(observation, deterministic=True)[0] == theirs).all()
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_records(run: Run, tmp_path: Path, suffix: str) -> None:
    import imageio.v3 as imageio

    film = tmp_path / f"a film.{suffix}"
    result = run("panda_reach_test_agent.py", "--episodes", 1, "--record", film)
    assert (result.returncode, result.stderr) == (0, "")
    assert str(film) in result.stdout
    assert film.stat().st_size < 600_000
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []
    frames = imageio.imread(film)
    assert len(frames) > 20
    red, green, blue = frames[0].astype(int).transpose(2, 0, 1)[:3]
    assert ((green > 90) & (red < 70) & (blue < 70)).sum() > 30  # the target
    assert frames[0].tolist() != frames[len(frames) // 2].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.zip"], ["nowhere.zip", "No such file"]),
        (["."], ["directory"]),
        (["--episodes", 0], ["--episodes"]),
        (["--seed", -1], ["--seed"]),
        (["--record", "film.avi"], [".gif or .mp4"]),
        (["--record", "no/such/folder/film.gif"], ["no/such/folder"]),
        (["--record", "folder.gif"], ["Is a directory"]),
        (["--record", "no/such/folder/film.gif", "--render"], ["no/such/folder"]),
        (["--record", "film.gif", "--render"], ["display"]),
        (["--record", "film.gif", "nowhere.zip"], ["nowhere.zip"]),
        (["--render"], ["display"]),
    ],
)
def test_bad_input_to_playing_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gif").mkdir()
    result = call(panda_reach_test_agent.test_agent, *arguments)
    assert_one_line(result, *words)
    assert result.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["folder.gif"]


def test_an_agent_for_another_task_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    pendulum = PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    pendulum.save(tmp_path / "pendulum.zip")
    assert_one_line(run("panda_reach_test_agent.py", tmp_path / "pendulum.zip"), "another task")
