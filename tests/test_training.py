"""Training, as a person does it: files, tables, numbers; the same seed, the same agent."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import PIL.Image
import pytest
import torch
from stable_baselines3 import PPO

import panda_reach_train_agent as script
from panda_rl import agents, cli, evaluation, recipes
from panda_rl.env import PandaEnv
from panda_rl.features import RelativeGoal
from panda_rl.rewards import EffortPenalty
from tests.conftest import (
    RUN,
    SHIPPED,
    VARIANTS,
    Run,
    assert_fine,
    assert_one_line,
    curves,
    linux_only,
    row,
    scalars,
    weights,
)

TRAIN, TEST = "panda_reach_train_agent.py", "panda_reach_test_agent.py"
SMALL = ("--n-envs", 2, "--n-steps", 32, "--batch-size", 32, "--n-epochs", 2, "--no-subprocesses")
JOINTS = SHIPPED.with_name("PandaReach_PPO_v2_joints_dense.zip")


@pytest.mark.slow
def test_the_default_run_reaches_the_goals(run: Run, call: Run, clone: Path) -> None:
    result = run(TRAIN)
    assert_fine(result)
    assert float(row(result.stdout, "success rate").split("%")[0]) >= 99
    assert "\x1b" not in result.stdout  # in a pipe: no control characters
    assert len(result.stdout.splitlines()) < 40

    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    with zipfile.ZipFile(agent) as archive:
        data, config = (json.loads(archive.read(name)) for name in ("data", "config.json"))
    assert config["seed"] == data["seed"] == 0
    logged = curves(clone / "runs" / RUN)
    evaluations = logged.Scalars("eval/success_rate"), logged.Scalars("eval/mean_final_distance")
    for logs in (*evaluations, logged.Images("film/episode")):
        assert [log.step for log in logs] == [0, 2_048, 8_192, 20_480]
    assert data["num_timesteps"] == 20_480  # the end was not left out
    printed = re.findall(r"([\d,]+)/20,480 steps: +(\d+)% .* ([\d.]+) mm off", result.stdout)
    for line, success, distance in zip(printed, *evaluations, strict=True):
        expected = f"{success.step:,}", f"{success.value:.0%}"[:-1], f"{distance.value * 1000:.1f}"
        assert line == expected
    watch, curve = (shlex.split(line) for line in result.stdout.splitlines()[-2:])
    assert watch == ["Watch", "it:", "python", str(clone / TEST), str(agent)]
    assert curve == ["Its", "curve:", "tensorboard", "--logdir", str(clone / "runs")]

    # The test script plays it on the same goals, to the same table.
    again = call(TEST, agent, "--no-render")
    assert_fine(again)
    rows = """episodes; success rate; mean return, dense; mean return, sparse; mean final distance;
        worst final distance; mean steps to the goal; mean effort; mean change of action"""
    for name in re.split(r";\s+", rows):
        assert row(again.stdout, name) == row(result.stdout, name)
    assert row(result.stdout, "steps") == "20,480"
    assert row(result.stdout, "seed") == "0"
    assert float(row(result.stdout, "seconds")) > 0


@pytest.mark.parametrize(("control_type", "reward_type"), VARIANTS)
def test_each_variant_trains_and_plays(
    call: Run, tmp_path: Path, control_type: str, reward_type: str
) -> None:
    variant = ("--control-type", control_type, "--reward-type", reward_type)
    assert_fine(call(TRAIN, *variant, *SMALL, "--total-timesteps", 128))
    name = f"PandaReach_PPO_v2_{control_type}_{reward_type}_1"
    assert (tmp_path / "runs" / name).is_dir()
    agent = tmp_path / "agents" / f"{name}.zip"
    assert PPO.load(agent).num_timesteps == 128
    result = call(TEST, agent, "--no-render", "--episodes", 2)
    assert_fine(result)
    assert row(result.stdout, "episodes") == "2  (held-out goals, seeds from 2,000,000)"


def test_the_film_shows_the_first_goal_after_0_6_and_50_steps(call: Run, tmp_path: Path) -> None:
    assert_fine(call(TRAIN, *SMALL, "--total-timesteps", 64, "--name", "arm"))
    agent = agents.read(tmp_path / "agents" / "arm.zip")
    env = agent.make_env()
    pictures = []

    def film(step: int, distance: float, reached: bool) -> None:
        if step in (0, 6, 50):
            pictures.append(env.get_wrapper_attr("picture")(240, 240, closeup=True))

    evaluation.play(agent.policy(env), env, evaluation.CHOOSING_SEED, film)
    env.close()
    logged = curves(tmp_path / "runs" / "arm").Images("film/episode")[-1]
    shown = PIL.Image.open(io.BytesIO(logged.encoded_image_string))
    assert np.array_equal(np.asarray(shown), np.hstack(pictures))


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_same_seed_same_agent_also_at_the_same_moment_and_in_processes(clone: Path) -> None:
    """To the bit; and each run has a name of its own."""

    def start(*words: str) -> subprocess.Popen:
        small = ("--n-envs", "2", "--total-timesteps", "512")
        command = [sys.executable, str(clone / TRAIN), *small, *words]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    other = start("--no-subprocesses", "--seed", "1", "--name", "other")
    together = [other, start("--no-subprocesses"), start("--subprocesses")]
    assert [process.wait(600) for process in together] == [0, 0, 0]
    trained = []
    for n in (1, 2):
        agent = clone / "rl-trained-agents" / f"{RUN[:-1]}{n}.zip"
        logged = scalars(clone / "runs" / agent.stem)
        assert logged.keys() >= {"eval/success_rate", "train/loss", "rollout/ep_rew_mean"}
        trained.append((weights(agent), logged))
    assert trained[0] == trained[1]
    assert weights(clone / "rl-trained-agents" / "other.zip") != trained[0][0]


def test_name_and_hyperparameters_reach_the_agent_and_nothing_is_overwritten(
    call: Run, tmp_path: Path
) -> None:
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
    more = ("--learning-rate", 0.003, "--adam-beta2", 0.9, "--net-arch", 16, 8, "--goal-scale", 0)
    arguments = (*words, *more, "--total-timesteps", 240, "--name", "mein Arm ä")
    assert_fine(call(TRAIN, *arguments))
    agent = tmp_path / "agents" / "mein Arm ä.zip"
    model = PPO.load(agent)
    assert {name: getattr(model, name) for name in flags} == flags
    (adam,) = model.policy.optimizer.param_groups
    assert (adam["betas"], adam["fused"]) == ((0.9, 0.9), True)
    assert not isinstance(model.policy.features_extractor, RelativeGoal)
    assert [n for n, w in weights(agent).items() if "policy_net" in n and len(w) in (16, 8)]
    config = agents.read(agent).config
    assert config.items() >= (flags | {"total_timesteps": 240, "net_arch": [16, 8]}).items()

    # The learning rate falls linearly to 0: this run has two updates.
    logged = scalars(tmp_path / "runs" / agent.stem)
    assert [rate for _, rate in logged["train/learning_rate"]] == pytest.approx([0.0015, 0.0])

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert_one_line(call(TRAIN, *arguments), "mein Arm ä", "--name")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_runs_count_up_around_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNS", "AGENTS"):
        monkeypatch.setattr(cli, name, tmp_path / name)
        (tmp_path / name).mkdir()
    (cli.AGENTS / "arm_1.zip").write_bytes(b"mine")
    (cli.RUNS / "arm_2").mkdir()
    for name in ("arm_3", "arm_4"):
        path, folder = cli.new_run("arm", None)
        assert (path, folder) == (cli.AGENTS / f"{name}.zip", cli.RUNS / name)
    for name in ("arm_1", "arm_2", "arm_3"):
        with pytest.raises(cli.UsageError, match="--name"):
            cli.new_run("arm", name)


# ------------------------------------------------------------------ whose goals, whose reward


def test_a_run_and_its_continuation_use_goals_of_their_own(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    reset = PandaEnv.reset

    def reset_and_tell(self: PandaEnv, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            seeds.append(seed)
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(PandaEnv, "reset", reset_and_tell)
    assert_fine(call(TRAIN, *SMALL, "--seed", 7, "--total-timesteps", 128))
    training = {7, 8}
    choosing = set(range(1_000_000, 1_000_004))  # the fixture's four goals
    judging = set(range(2_000_000, 2_000_004))
    assert set(seeds) == training | choosing | judging
    assert max(seeds.index(s) for s in choosing) < min(seeds.index(s) for s in judging)

    # Resumed: other goals than before, and still not held-out ones.
    agent = tmp_path / "agents" / f"{RUN}.zip"
    for steps in (64, 10**6, 2 * 10**6 - 7, 10**12):
        seeds.clear()
        copied = tmp_path / f"after {steps}.zip"
        model = PPO.load(agent)
        model.num_timesteps = steps
        agents.save(model, copied, agents.read(agent).config)
        assert_fine(call(TRAIN, "--resume", copied, "--total-timesteps", steps + 64))
        again = set(seeds) - choosing - judging
        assert len(again) == 2 and not again & training
        assert max(again) < 1_000_000


def test_effort_is_paid_for_in_training_and_nowhere_else() -> None:
    config = recipes.Config(control_type="joints", n_envs=2, effort_coef=0.5, subprocesses=False)
    paying, free = script.make_env(config), script.make_env(replace(config, effort_coef=0.0))
    paying.reset(), free.reset()
    actions = np.full((2, 7), 0.5, np.float32)
    actions[1] = 2  # clipped to 1, as the robot does
    over = [False, False]
    while not all(over):
        _, rewards, over, infos = paying.step(actions)  # type: ignore[assignment]
        _, plain, _, plain_infos = free.step(actions)
        np.testing.assert_allclose(plain - rewards, [0.5 * 7 * 0.25, 0.5 * 7], rtol=1e-5)
    # What is logged as the episode's reward is the task's own.
    assert [i["episode"]["r"] for i in infos] == [i["episode"]["r"] for i in plain_infos]
    judge = agents.read(SHIPPED).make_env()
    assert paying.env_is_wrapped(EffortPenalty) == [True, True]
    assert "EffortPenalty" not in str(judge)
    for env in (paying, free, judge):
        env.close()


def test_the_network_sees_the_hand_and_the_way_to_the_goal_scaled() -> None:
    env: Any = gym.make("PandaReach-v2")
    features = RelativeGoal(env.observation_space, scale=5.0)
    env.close()
    seen = {"achieved_goal": [[0.1, 0.2, 0.3]], "desired_goal": [[0.2, 0.2, 0.1]]}
    seen["observation"] = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    expected = [0.5, 1.0, 1.5, 0.5, 0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    tensors = {name: torch.tensor(numbers) for name, numbers in seen.items()}
    assert features(tensors).tolist() == [pytest.approx(expected)]
    assert "scale" in features.state_dict()  # saved with the weights


# ------------------------------------------------------------------ resumed


def test_resume_takes_weights_steps_and_config_and_flags_typed_now_win(
    call: Run, tmp_path: Path
) -> None:
    first = ("--control-type", "joints", "--gamma", 0.6, "--net-arch", 16, "--seed", 9)
    assert_fine(call(TRAIN, *first, *SMALL, "--total-timesteps", 128, "--name", "arm"))
    agent = tmp_path / "agents" / "arm.zip"
    before = agent.read_bytes()
    # It has all its steps: ask for more.
    assert_one_line(call(TRAIN, "--resume", agent), "128 steps already", "--total-timesteps")
    more = ("--learning-rate", 0, "--adam-beta2", 0.9, "--no-subprocesses")
    result = call(TRAIN, "--resume", agent.with_suffix(""), "--total-timesteps", 192, *more)
    assert_fine(result)
    resumed = tmp_path / "agents" / "PandaReach_PPO_v2_joints_dense_1.zip"
    changed = {"total_timesteps": 192, "learning_rate": 0, "adam_beta2": 0.9}
    assert agents.read(resumed).config == agents.read(agent).config | changed
    assert agents.read(resumed).num_timesteps == 192
    assert weights(resumed) == weights(agent)  # it went on from these, and learned nothing
    assert agent.read_bytes() == before
    logged = scalars(tmp_path / "runs" / resumed.stem)
    assert [step for step, _ in logged["eval/success_rate"]] == [128, 192]


@pytest.mark.parametrize(
    "given",
    [
        ["--control-type", "ee"],
        ["--goal-scale", 0],
        ["--goal-scale", 4],
        ["--net-arch", 32],
        ["--log-std-init", -3],
    ],
    ids=str,
)
def test_an_agent_that_does_not_fit_the_flags_is_one_line(
    given: list[object], call: Run, tmp_path: Path
) -> None:
    agent = shutil.copy(JOINTS, tmp_path)
    more = ("--total-timesteps", 10**6, "--n-envs", 1, "--no-subprocesses")
    assert_one_line(call(TRAIN, "--resume", agent, *given, *more), str(agent), "does not fit")
    assert not (tmp_path / "runs").exists()


LAST = evaluation.CHOOSING_SEED - 3 - agents.read(SHIPPED).num_timesteps  # with two environments


@pytest.mark.parametrize("seed, wraps", [(0, False), (1, False), (LAST, False), (LAST + 1, True)])
def test_a_resumed_agent_gets_other_goals_but_never_held_out_ones(seed: int, wraps: bool) -> None:
    agent = agents.read(SHIPPED)
    recipe = recipes.RECIPES["ee", "dense"]
    config = replace(recipe, seed=seed, n_envs=2, subprocesses=False)
    env = script.make_env(config)
    agent.restore(script.make_model(config, env))
    first = 0 if wraps else seed + agent.num_timesteps
    alone = gym.make("PandaReach-v2")
    expected = [alone.reset(seed=first + n)[0]["desired_goal"] for n in range(2)]
    seen: Any = env.reset()
    assert np.array_equal(seen["desired_goal"], expected)
    env.close()
    alone.close()


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    "numbers",
    [
        ("--reward-type", "sparse", "--learning-rate", 1),
        ("--learning-rate", 1000, "--max-grad-norm", 10**6, "--goal-scale", 10**6),
        ("--learning-rate", 1e30),
    ],
    ids=str,
)
def test_training_that_diverges_says_so_and_leaves_the_last_sound_agent(
    numbers: tuple, call: Run, tmp_path: Path
) -> None:
    result = call(TRAIN, *numbers, "--no-subprocesses")
    (agent,) = (tmp_path / "agents").glob("*.zip")
    assert_one_line(result, "diverged", "--learning-rate", str(agent))
    assert all(tensor.isfinite().all() for tensor in agents.read(agent).weights.values())
    assert_fine(call(TEST, agent, "--no-render", "--episodes", 1))


@linux_only
@pytest.mark.slow
def test_a_full_disk_fails_and_what_was_saved_is_whole(run: Run, clone: Path) -> None:
    """No file can grow beyond 50 kB, which is too little for the film strips alone."""
    import resource  # Windows has none

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))

    before = set(clone.rglob("*.zip"))
    small = ("--n-envs", 2, "--batch-size", 32, "--total-timesteps", 10_000, "--net-arch", 8)
    result = run(TRAIN, *small, "--no-subprocesses", preexec_fn=limit)
    assert result.returncode not in (0, 130)
    assert result.stderr
    (agent,) = set(clone.rglob("*.zip")) - before
    agents.read(agent)


@linux_only
@pytest.mark.slow
def test_on_a_read_only_mount_training_fails_and_playing_works(clone: Path) -> None:
    read_only = "mount --bind . . && mount -o remount,ro,bind . && cd . && exec"
    unshare = ["unshare", "--mount", "sh", "-c", f'cd "{clone}" && {read_only} "$@"', "sh"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    before = {path: path.stat().st_size for path in clone.rglob("*")}
    for words, fails in (
        ([TRAIN], True),
        ([TEST, "--episodes", "1", "--no-render"], False),
    ):
        program = [*unshare, sys.executable, *words]
        env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(program, capture_output=True, text=True, env=env, timeout=300)
        assert bool(result.returncode) == bool(result.stderr) == fails, result.stderr
    assert {path: path.stat().st_size for path in clone.rglob("*")} == before


def test_a_bug_keeps_its_traceback_and_the_agent_is_saved(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(episodes: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(evaluation, "summary", broken)
    with pytest.raises(ValueError, match="a bug"):
        call(TRAIN, *SMALL, "--total-timesteps", 64)
    assert agents.read(tmp_path / "agents" / f"{RUN}.zip").num_timesteps == 0
