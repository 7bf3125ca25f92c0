"""Training, as a person does it: files, tables, numbers; the same seed, the same agent."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import panda_reach_train_agent as script
from panda_rl import agents, callbacks, configs, evaluation, files
from panda_rl.errors import UsageError
from tests.conftest import (
    RUN,
    SHIPPED,
    VARIANTS,
    Run,
    assert_one_line,
    call_train,
    curves,
    linux_only,
    row,
    scalars,
    weights,
)

import hypothesis
import hypothesis.strategies as st
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

SHORT = ("--total-timesteps", 1024)


@pytest.mark.slow
def test_the_default_run_reaches_the_goals(run: Run, clone: Path) -> None:
    result = run("panda_reach_train_agent.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert float(row(result.stdout, "success rate").split("%")[0]) >= 99
    assert "\x1b" not in result.stdout  # in a pipe: no control characters
    assert len(result.stdout.splitlines()) < 40

    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    with zipfile.ZipFile(agent) as archive:
        data, config = (json.loads(archive.read(name)) for name in ("data", "config.json"))
    assert config["seed"] == data["seed"] == 0
    logged = curves(clone / "runs" / RUN)
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
    lines = re.findall("(.*) steps: (.*)% of the goals reached, (.*) mm off", result.stdout)
    steps, success, distance = lines[-1]
    assert steps.split() == ["20,480/20,480"]
    means = [logged.Scalars(f"eval/{name}")[-1] for name in ("success_rate", "mean_final_distance")]
    assert float(success) == pytest.approx(means[0].value * 100, abs=0.6)
    assert float(distance) == pytest.approx(means[1].value * 1000, abs=0.06)
    assert f"{RUN}.zip" in result.stdout.split("Watch it:")[1]

    # The command it prints plays the agent, on the same goals, to the same table.
    again = run("panda_reach_test_agent.py", agent, "--no-render")
    assert (again.returncode, again.stderr) == (0, "")
    for name in (
        "episodes",
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
    result = run("panda_reach_test_agent.py", agent, "--no-render", "--episodes", 2)
    assert (result.returncode, result.stderr) == (0, "")
    assert row(result.stdout, "episodes") == ("2  (held-out goals, seeds from 2,000,000)")


def test_name_and_hyperparameters_reach_the_agent(folders: Path) -> None:
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
    arguments = (*words, "--total-timesteps", 240, "--name", "mein Arm ä", "--n-workers", 0)
    result = call_train(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    agent = files.AGENTS / "mein Arm ä.zip"
    model = PPO.load(agent)
    assert {name: getattr(model, name) for name in flags} == flags
    assert agents.read(agent).config.items() >= (flags | {"total_timesteps": 240}).items()

    before = agent.read_bytes()
    assert_one_line(call_train(*arguments), "mein Arm ä", "--name")
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
        pytest.param(["--render"], ["display"], marks=linux_only),
        (["--resume", "nowhere.zip"], ["nowhere.zip"]),
    ],
)
def test_bad_input_is_reported_in_one_line(
    folders: Path, arguments: list[object], words: list[str]
) -> None:
    assert_one_line(call_train(*arguments), *words)
    assert not list(folders.glob("*/*"))


@pytest.mark.slow
def test_same_seed_same_agent_also_at_the_same_moment_on_a_busy_machine(clone: Path) -> None:
    def start(*arguments: str) -> subprocess.Popen:
        script = clone / "panda_reach_train_agent.py"
        more = ("--total-timesteps", "2048", *arguments)
        return subprocess.Popen([sys.executable, script, *more], stdout=subprocess.DEVNULL)

    together = [start(), start(), start("--seed", "1")]
    assert [process.wait(600) for process in together] == [0, 0, 0]
    paths = [clone / "rl-trained-agents" / f"{RUN[:-1]}{n}.zip" for n in (1, 2, 3)]
    by_seed: dict[int, list[Path]] = {}
    for path in paths:
        by_seed.setdefault(agents.read(path).config["seed"], []).append(path)
    first, second = by_seed[0]
    (other,) = by_seed[1]
    assert weights(first) == weights(second) != weights(other)
    logged = [scalars(clone / "runs" / path.stem) for path in (first, second, other)]
    assert logged[0].keys() >= {"eval/success_rate", "train/loss", "rollout/ep_rew_mean"}
    assert logged[0] == logged[1] != logged[2]


def test_checkpoints_are_saved_while_training_goes_on(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint after each update instead of each half minute."""
    saved: list[int] = []
    save = agents.save

    def save_and_read(model: BaseAlgorithm, path: Path, config: dict[str, Any]) -> None:
        save(model, path, config)
        saved.append(agents.read(path).num_timesteps)

    monkeypatch.setattr(agents, "save", save_and_read)
    monkeypatch.setattr(callbacks, "SAVE_SECONDS", 0)
    script.train(script.Config(total_timesteps=1536, n_steps=64, n_workers=0))
    assert saved == [0, 0, 512, 1024, 1536]


# ------------------------------------------------------------------ resumed


def test_resume_takes_what_is_given_beside_it(folders: Path) -> None:
    here = ("--n-workers", 0)
    short = ("--total-timesteps", 1024, "--control-type", "joints", "--name", "arm", *here)
    assert call_train(*short, "--gamma", 0.6).returncode == 0
    agent = files.AGENTS / "arm.zip"
    resume = ("--resume", agent, *here)
    assert_one_line(call_train(*resume), "1,024")  # it has all its steps: ask for more
    more = ("--learning-rate", 0.001, "--adam-beta2", 0.9)
    result = call_train(*resume, "--total-timesteps", 2048, *more)
    assert (result.returncode, result.stderr) == (0, "")
    assert "since it was resumed" in result.stdout
    config = agents.read(agent).config
    assert (config["control_type"], config["gamma"]) == ("joints", 0.6)
    assert config["learning_rate"] == 0.001
    assert PPO.load(agent).policy.optimizer.param_groups[0]["betas"] == (0.9, 0.9)


def test_what_a_saved_config_leaves_out_comes_from_its_variants_recipe(folders: Path) -> None:
    recipe = script.RECIPES["joints", "sparse"]
    env = script.make_env(replace(recipe, n_envs=1, n_workers=0))
    model = script.make_model(replace(recipe, n_envs=1), env)
    env.close()
    kept = {"control_type": "joints", "reward_type": "sparse", "gamma": 0.25}
    for config, expected in ((kept, replace(recipe, gamma=0.25)), ({}, script.Config())):
        agents.save(model, folders / "old.zip", config)
        words = [f"--resume={folders / 'old.zip'}"]
        parsed = configs.parse(script.RECIPES, words)
        assert configs.saved(parsed) == configs.saved(expected)


def test_help_shows_the_numbers_of_the_variant() -> None:
    for (control_type, reward_type), recipe in script.RECIPES.items():
        words = ("--control-type", control_type, "--reward-type", reward_type, "--help")
        shown = " ".join(re.sub("[│╭╮╰╯─]", " ", call_train(*words).stdout).split())
        for name in ("total_timesteps", "n_steps", "gamma", "effort_coef"):
            flag = f"--{name.replace('_', '-')}"
            (default,) = re.findall(rf"{flag} (?:INT|FLOAT) .*?\(default: (\S+)\)", shown)
            assert float(default) == getattr(recipe, name), flag


JOINTS = SHIPPED.with_name("PandaReach_PPO_v2_joints_dense.zip")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        # as it was trained: joints
        ([], [f"already has {agents.read(JOINTS).num_timesteps:,} steps"]),
        (["--control-type", "ee", "--total-timesteps", 10**6], ["another kind"]),
        (["--goal-scale", 4, "--total-timesteps", 10**6], ["another kind"]),
    ],
)
def test_resume_counts_all_that_is_given_and_nothing_else(
    given: list[object], words: list[str], folders: Path
) -> None:
    agent = shutil.copy(JOINTS, folders)
    result = call_train("--resume", agent, "--n-workers", 0, *given)
    assert_one_line(result, *words)
    assert not list(files.RUNS.iterdir())


# ------------------------------------------------------------------ numbers


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Mostly such as can be, and some that can't."""
    return st.floats(low, high) | st.floats(low, high) | st.floats()


@pytest.mark.slow
@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.fixed_dictionaries(
        {
            "n_envs": st.integers(-1, 2),
            "n_steps": st.integers(-1, 6),
            "n_epochs": st.integers(0, 2),
        },
        optional={
            "batch_size": st.integers(0, 12),
            "seed": st.integers(),
            "learning_rate": numbers(0, 1000),
            "gamma": numbers(0, 1),
            "gae_lambda": numbers(0, 1),
            "clip_range": numbers(0, 1000),
            "ent_coef": numbers(0, 1000),
            "vf_coef": numbers(0, 1000),
            "max_grad_norm": numbers(0, 10**6),
            "log_std_init": numbers(-20, 5),
            "adam_beta2": numbers(0, 1),
            "goal_scale": numbers(0, 10**6),
            "effort_coef": numbers(0, 1000),
        },
    )
)
def test_any_numbers_are_refused_or_train(flags: dict[str, Any]) -> None:
    rollout = abs(flags["n_envs"] * flags["n_steps"])
    config = script.Config(**{"batch_size": rollout, "n_workers": 0} | flags)
    try:
        configs.check(config)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
        return
    env = script.make_env(config)
    model = script.make_model(config, env)
    try:
        model.learn(rollout)
    except ValueError as error:  # callbacks.Saving makes a UsageError of it
        assert "Expected parameter" in str(error)
    env.close()


def test_a_bug_keeps_its_traceback_and_the_agent_is_saved(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(episodes: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(evaluation, "summary", broken)
    with pytest.raises(ValueError, match="a bug"):
        call_train(*SHORT, "--n-workers", 0)
    assert agents.read(files.AGENTS / f"{RUN}.zip").num_timesteps == 0


def test_training_that_diverges_is_reported_and_the_last_good_agent_saved(folders: Path) -> None:
    result = call_train(
        *("--learning-rate", 1000, "--max-grad-norm", 10**6, "--goal-scale", 10**6),
        *("--total-timesteps", 20_480, "--n-workers", 0),
    )
    assert_one_line(result, "diverged", "--learning-rate", f"{RUN}.zip")
    agent = agents.read(files.AGENTS / f"{RUN}.zip")
    assert all(tensor.isfinite().all() for tensor in agent.weights.values())
