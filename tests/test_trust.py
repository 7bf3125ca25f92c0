"""Same seed, same agent; nothing lost; nothing run from a stranger's zip."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from conftest import ROOT, Call, Run, assert_one_line
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import panda_reach_callbacks
import panda_reach_train_agent
import panda_reach_utils as utils

SHIPPED = ROOT / "rl-trained-agents" / "PandaReach_PPO_v2_ee_dense.zip"
RUN = "PandaReach_PPO_v2_ee_dense_1"


def weights(agent: Path) -> dict[str, list]:
    return {k: v.tolist() for k, v in utils.read_agent(agent).parameters["policy"].items()}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/")
    }


# ------------------------------------------------------------------ reproducible


def test_same_seed_same_agent_also_at_the_same_moment_on_a_busy_machine(clone: Path) -> None:
    def start(*arguments: str) -> subprocess.Popen:
        script = clone / "panda_reach_train_agent.py"
        more = ("--total-timesteps", "2048", *arguments)
        return subprocess.Popen([sys.executable, script, *more], stdout=subprocess.DEVNULL)

    together = [start(), start(), start("--seed", "1")]
    assert [process.wait(600) for process in together] == [0, 0, 0]
    agents = [clone / "rl-trained-agents" / f"{RUN[:-1]}{n}.zip" for n in (1, 2, 3)]
    by_seed: dict[int, list[Path]] = {}
    for agent in agents:
        by_seed.setdefault(utils.read_agent(agent).arguments["seed"], []).append(agent)
    first, second = by_seed[0]
    (other,) = by_seed[1]
    assert weights(first) == weights(second) != weights(other)
    curves = [scalars(clone / "runs" / agent.stem) for agent in (first, second, other)]
    assert curves[0].keys() >= {"eval/success_rate", "train/loss", "rollout/ep_rew_mean"}
    assert curves[0] == curves[1] != curves[2]


# ------------------------------------------------------------------ interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_saved_and_goes_on(run: Run, clone: Path, number: signal.Signals) -> None:
    process = start_long_training(clone)
    wait_for_events(clone)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + number, "")
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    saved = utils.read_agent(agent)
    assert f"Stopped at {saved.num_timesteps:,} of 100,000 steps" in output
    assert "--resume" in output.splitlines()[-1]
    assert 0 < saved.num_timesteps < 100_000

    goal = saved.num_timesteps + 1024
    result = run("panda_reach_train_agent.py", "--resume", agent, "--total-timesteps", goal)
    assert (result.returncode, result.stderr) == (0, "")
    resumed = utils.read_agent(agent)
    assert resumed.num_timesteps >= goal
    assert resumed.arguments["seed"] == saved.arguments["seed"] == 3
    steps = [step for step, _ in scalars(clone / "runs" / RUN)["train/loss"]]
    assert steps == sorted(steps)
    assert steps[0] < saved.num_timesteps < steps[-1]
    assert not (clone / "runs" / f"{RUN[:-1]}2").exists()


def start_long_training(clone: Path, *arguments: str) -> subprocess.Popen:
    script = clone / "panda_reach_train_agent.py"
    more = ("--total-timesteps", "100000", "--seed", "3", *arguments)
    return subprocess.Popen(
        [sys.executable, script, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_events(clone: Path, updates: int = 3) -> None:
    """Until the run has made some updates."""
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        folder = clone / "runs" / RUN
        if folder.exists() and len(scalars(folder).get("train/loss", [])) >= updates:
            return


def test_a_killed_run_leaves_a_whole_agent_and_no_process(clone: Path) -> None:
    process = start_long_training(clone)
    wait_for_events(clone)
    children = psutil_children(process.pid)
    assert children  # the live evaluation's
    process.kill()
    process.communicate(timeout=60)
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    assert utils.read_agent(agent).arguments["seed"] == 3
    deadline = time.monotonic() + 30
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.2)


def psutil_children(pid: int) -> list:
    import psutil

    return psutil.Process(pid).children(recursive=True)


def test_checkpoints_come_while_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, with a checkpoint after each update instead of each half minute."""
    monkeypatch.setattr(utils, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(utils, "AGENTS", tmp_path / "agents")
    saved: list[int] = []
    save_agent = utils.save_agent

    def save(model: PPO, path: Path) -> None:
        save_agent(model, path)
        saved.append(utils.read_agent(path).num_timesteps)

    monkeypatch.setattr(utils, "save_agent", save)
    monkeypatch.setattr(panda_reach_callbacks.SafeSaving.__init__, "__defaults__", (0.0,))
    assert panda_reach_train_agent.train(total_timesteps=1536) == 0
    assert saved == [0, 0, 512, 1024, 1536]


def test_resume_takes_what_is_given_beside_it(run: Run, clone: Path) -> None:
    short = ("--total-timesteps", 1024, "--control-type", "joints", "--name", "arm")
    assert run("panda_reach_train_agent.py", *short, "--gamma", 0.6).returncode == 0
    agent = clone / "rl-trained-agents" / "arm.zip"
    resume = ("panda_reach_train_agent.py", "--resume", agent)
    assert_one_line(run(*resume), "1,024")  # it has all its steps: ask for more
    more = ("--learning-rate", 0.001, "--adam-beta2", 0.9)
    result = run(*resume, "--total-timesteps", 2048, *more)
    assert (result.returncode, result.stderr) == (0, "")
    arguments = utils.read_agent(agent).arguments
    assert (arguments["control_type"], arguments["gamma"]) == ("joints", 0.6)
    assert arguments["learning_rate"] == 0.001
    assert PPO.load(agent).policy.optimizer.param_groups[0]["betas"] == (0.9, 0.9)


JOINTS = SHIPPED.with_name("PandaReach_PPO_v2_joints_dense.zip")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["has its 40,960 steps"]),  # as it was trained: joints
        ({"control_type": "ee"}, ["another kind"]),  # the default, and given all the same
        ({"goal_scale": 4.0}, ["another kind"]),
        ({"name": "arm"}, ["--name"]),
    ],
)
def test_resume_counts_all_that_is_given_and_nothing_else(
    call: Call, given: dict[str, object], words: list[str]
) -> None:
    flags = [word for name, value in given.items() for word in (f"--{name}", value)]
    assert_one_line(call(panda_reach_train_agent.train, "--resume", JOINTS, *flags), *words)
    with pytest.raises(utils.UsageError, match=words[0]):
        panda_reach_train_agent.train(resume=JOINTS, **given)


# ------------------------------------------------------------------ never half a file


def test_a_full_disk_leaves_the_agent_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = tmp_path / "agent.zip"
    agent.write_bytes(b"whole")
    model = PPO("MlpPolicy", "Pendulum-v1", device="cpu")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(utils.UsageError, match="No space left"):
        utils.save_agent(model, agent)
    assert agent.read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


@pytest.mark.parametrize("folder", ["runs", "rl-trained-agents"])
def test_no_room_to_write_is_told_before_training(run: Run, clone: Path, folder: str) -> None:
    """A file where the folder should be: that stops root, too."""
    for path in sorted((clone / folder).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    if (clone / folder).exists():
        (clone / folder).rmdir()
    (clone / folder).write_text("in the way")
    result = run("panda_reach_train_agent.py", "--total-timesteps", 10**9, timeout=60)
    assert_one_line(result, "cannot write", folder)


# ------------------------------------------------------------------ a stranger's zip


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def rezip(source: Path, target: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.replace(".", "_"), old.read(name)))
    return target


def test_nothing_in_a_strangers_zip_is_run(run: Run, tmp_path: Path) -> None:
    import base64

    proof = tmp_path / "was run"
    code = pickle.dumps(Bomb(proof))
    data = json.loads(zipfile.ZipFile(SHIPPED).read("data"))
    data["policy_class"] = {":type:": "x", ":serialized:": base64.b64encode(code).decode()}
    in_data = rezip(SHIPPED, tmp_path / "a.zip", data=json.dumps(data).encode())
    with pytest.raises(Exception):  # noqa: B017  Stable-Baselines3's own load does run it
        PPO.load(in_data)
    assert proof.exists()
    proof.unlink()

    # In the settings: passed over, and the person is told that nothing was run.
    result = run("panda_reach_test_agent.py", in_data, "--episodes", 1)
    assert (result.returncode, result.stderr) == (0, "")
    assert "nothing in it was run" in result.stdout

    # In the weights, as PyTorch's zip or as a bare pickle: refused.
    buffer = io.BytesIO()
    torch.save({"log_std": Bomb(proof)}, buffer)
    for number, weights_file in enumerate((buffer.getvalue(), code)):
        agent = rezip(SHIPPED, tmp_path / f"b{number}.zip", policy_pth=weights_file)
        assert_one_line(run("panda_reach_test_agent.py", agent), agent.name)
        assert_one_line(run("panda_reach_train_agent.py", "--resume", agent), agent.name)
    assert not proof.exists()


def saved_with(tmp_path: Path, **changes: object) -> Path:
    """The shipped agent with some of its weights replaced."""
    parameters = torch.load(
        io.BytesIO(zipfile.ZipFile(SHIPPED).read("policy.pth")), weights_only=True
    )
    parameters.update(changes)
    buffer = io.BytesIO()
    torch.save(parameters, buffer)
    return rezip(SHIPPED, tmp_path / "changed.zip", policy_pth=buffer.getvalue())


def test_hostile_zips_get_one_line(run: Run, tmp_path: Path) -> None:
    nan = saved_with(tmp_path, log_std=torch.full((3,), float("nan")))
    assert_one_line(run("panda_reach_test_agent.py", nan), "not finite")
    wrong = saved_with(tmp_path, **{"action_net.weight": torch.zeros(3, 5)})
    assert_one_line(run("panda_reach_test_agent.py", wrong), "another kind")
    huge = saved_with(tmp_path, **{"action_net.weight": torch.zeros(1).expand(3, 10**12)})
    assert_one_line(run("panda_reach_test_agent.py", huge), "not an agent")

    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(500_000_000))
    assert_one_line(run("panda_reach_test_agent.py", bomb), "not an agent")

    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("holiday.txt", "sun")
    assert_one_line(run("panda_reach_test_agent.py", other), "not an agent")
    assert_one_line(run("panda_reach_test_agent.py", "/dev/null"), "not an agent")


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(st.data())
def test_the_reader_takes_any_bytes_without_a_crash(data: st.DataObject) -> None:
    """Bytes at random, and the shipped agent with bytes changed, cut out or put in."""
    whole = SHIPPED.read_bytes()
    if data.draw(st.booleans()):
        contents = data.draw(st.binary(max_size=2000))
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        upto = data.draw(st.integers(at, min(len(whole), at + 200)))
        contents = whole[:at] + data.draw(st.binary(max_size=200)) + whole[upto:]
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"panda-{os.getpid()}.zip"
    path.write_bytes(contents)
    try:
        policy, env = utils.load_agent(path)
        env.close()
        assert all(torch.isfinite(p).all() for p in policy.parameters())
    except utils.UsageError as error:
        assert len(str(error).splitlines()) == 1
    finally:
        path.unlink()


# ------------------------------------------------------------------ broken surroundings


def test_a_reader_that_goes_away_is_no_error(run: Run, clone: Path) -> None:
    flags = {"random": "", "test": "--episodes 2", "train": "--total-timesteps 512"}
    for script, more in flags.items():
        command = f"{sys.executable} '{clone}/panda_reach_{script}_agent.py' {more} | head -1"
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=300
        )
        assert (result.returncode, result.stderr) == (0, ""), script
    assert utils.read_agent(clone / "rl-trained-agents" / f"{RUN}.zip").num_timesteps == 512


# ------------------------------------------------------------------ numbers


def test_nan_in_training_is_told_and_the_last_good_agent_saved(run: Run, clone: Path) -> None:
    result = run(
        "panda_reach_train_agent.py",
        *("--learning-rate", 1000, "--max-grad-norm", 10**6, "--goal-scale", 10**6),
        *("--total-timesteps", 20_480),
    )
    assert_one_line(result, "diverged", "--learning-rate", f"{RUN}.zip")
    agent = utils.read_agent(clone / "rl-trained-agents" / f"{RUN}.zip")
    assert all(np.isfinite(v).all() for v in agent.parameters["policy"].values())
