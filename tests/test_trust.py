"""Same seed, same agent; nothing lost; nothing run from a stranger's zip."""

import functools
import inspect
import io
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from conftest import ROOT, Run, assert_one_line, call, eventually
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import panda_reach_callbacks
import panda_reach_random_agent
import panda_reach_test_agent
import panda_reach_train_agent
import panda_reach_utils as utils

SHIPPED = ROOT / "rl-trained-agents" / "PandaReach_PPO_v2_ee_dense.zip"
RUN = "PandaReach_PPO_v2_ee_dense_1"

play = panda_reach_test_agent.test_agent


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    folder = clone / "runs" / RUN
    eventually(folder.exists, seconds=120)
    eventually(lambda: len(scalars(folder).get("train/loss", [])) >= updates, seconds=120)


@pytest.mark.slow
def test_a_killed_run_leaves_a_whole_agent_and_no_process(clone: Path) -> None:
    process = start_long_training(clone)
    wait_for_events(clone)
    children = psutil_children(process.pid)
    assert children  # the live evaluation's
    process.kill()
    process.communicate(timeout=60)
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    assert utils.read_agent(agent).arguments["seed"] == 3
    eventually(
        lambda: all(not c.is_running() or c.status() == "zombie" for c in children),
        "a process was left behind",
        seconds=30,
    )


def psutil_children(pid: int) -> list:
    import psutil

    return psutil.Process(pid).children(recursive=True)


@pytest.mark.slow
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
    assert panda_reach_train_agent.train(total_timesteps=1536, n_steps=64) == 0
    assert saved == [0, 0, 512, 1024, 1536]


@pytest.mark.slow
def test_resume_takes_what_is_given_beside_it(run: Run, clone: Path) -> None:
    short = ("--total-timesteps", 1024, "--control-type", "joints", "--name", "arm")
    assert run("panda_reach_train_agent.py", *short, "--gamma", 0.6).returncode == 0
    agent = clone / "rl-trained-agents" / "arm.zip"
    resume = ("panda_reach_train_agent.py", "--resume", agent)
    assert_one_line(run(*resume), "1,024")  # it has all its steps: ask for more
    more = ("--learning-rate", 0.001, "--adam-beta2", 0.9)
    result = run(*resume, "--total-timesteps", 2048, *more)
    assert (result.returncode, result.stderr) == (0, "")
    assert "since it was resumed" in result.stdout
    arguments = utils.read_agent(agent).arguments
    assert (arguments["control_type"], arguments["gamma"]) == ("joints", 0.6)
    assert arguments["learning_rate"] == 0.001
    assert PPO.load(agent).policy.optimizer.param_groups[0]["betas"] == (0.9, 0.9)


JOINTS = SHIPPED.with_name("PandaReach_PPO_v2_joints_dense.zip")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {},
            [f"has its {utils.read_agent(JOINTS).num_timesteps:,} steps"],
        ),  # as it was trained: joints
        ({"control_type": "ee"}, ["another kind"]),  # the default, and given all the same
        ({"goal_scale": 4.0}, ["another kind"]),
        ({"name": "arm"}, ["--name"]),
    ],
)
def test_resume_counts_all_that_is_given_and_nothing_else(
    given: dict[str, object], words: list[str], tmp_path: Path
) -> None:
    agent = shutil.copy(JOINTS, tmp_path)  # what fails here trains, and saves
    flags = [word for name, value in given.items() for word in (f"--{name}", value)]
    assert_one_line(call(panda_reach_train_agent.train, "--resume", agent, *flags), *words)
    with pytest.raises(utils.UsageError, match=words[0]):
        panda_reach_train_agent.train(resume=Path(agent), **given)


# ------------------------------------------------------------------ never half a file


def test_a_full_disk_leaves_the_agent_that_was_there(tmp_path: Path) -> None:
    agent = tmp_path / "agent.zip"
    agent.write_bytes(b"whole")
    (tmp_path / ".agent.zip.tmp").symlink_to("/dev/full")
    model = PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    with pytest.raises(utils.UsageError, match="No space left"):
        utils.save_agent(model, agent)
    assert agent.read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


@pytest.mark.slow
def test_no_room_for_the_curves_is_told_and_the_agent_saved(run: Run, clone: Path) -> None:
    """Files of up to 190,000 bytes: enough for the agent, too little for the film strips."""
    result = run(
        *("panda_reach_train_agent.py", "--total-timesteps", 10_000),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (190_000, 190_000)),
    )
    assert_one_line(result, "cannot write")
    agent = clone / "rl-trained-agents" / f"{RUN}.zip"
    assert utils.read_agent(agent).num_timesteps >= 2048


@pytest.fixture
def recording(tmp_path: Path, request: pytest.FixtureRequest) -> panda_reach_test_agent.Recording:
    recording = panda_reach_test_agent.Recording(tmp_path / f"film.{request.param}")
    rng = np.random.default_rng(0)
    for _ in range(30):
        picture = rng.integers(0, 256, (480, 720, 3), np.uint8)
        recording.add(picture, "caption", reached=True)
    return recording


@pytest.mark.parametrize("recording", ["gif", "mp4"], indirect=True)
def test_a_film_that_finds_no_room_leaves_nothing_behind(
    recording: panda_reach_test_agent.Recording, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(utils.UsageError, match="cannot write"):
            recording.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(recording.path.parent.iterdir())
    assert capfd.readouterr() == ("", "")  # ffmpeg's words


@pytest.mark.parametrize("recording", ["gif", "mp4"], indirect=True)
def test_a_film_that_is_interrupted_leaves_nothing_behind(
    recording: panda_reach_test_agent.Recording,
) -> None:
    folder = recording.path.parent

    def interrupt() -> None:
        while not any(folder.iterdir()):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            recording.save()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not list(folder.iterdir())


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
        assert_refused(agent, "not an agent" if number else "code")
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


def assert_refused(agent: Path, *words: str) -> None:
    for more in ([agent], ["--resume", agent]):
        script = panda_reach_train_agent.train if "--resume" in more else play
        assert_one_line(call(script, *more), str(agent), *words)


def test_hostile_weights_are_refused(tmp_path: Path) -> None:
    nan = saved_with(tmp_path, log_std=torch.full((3,), float("nan")))
    assert_refused(nan, "not finite")
    for name, shape, words in [
        ("action_net.weight", (3, 5), "another kind"),
        ("action_net.bias", (), "not an agent"),
        ("value_net.weight", (0,), "not an agent"),
        # weights of a terabyte, and layers that would need one between them
        ("action_net.weight", (3, 10**12), "not an agent"),
        ("mlp_extractor.policy_net.0.weight", (10**6, 12), "not an agent"),
    ]:
        assert_refused(saved_with(tmp_path, **{name: torch.zeros(()).expand(shape)}), words)


WHOLE = SHIPPED.read_bytes()
NO_AGENTS = {
    "empty": b"",
    "text": b"not a zip\n",
    "bytes": bytes(range(256)) * 100,
    **{f"cut at {n} of 10": WHOLE[: len(WHOLE) * n // 10] for n in range(1, 10)},
}


@pytest.mark.parametrize("name", NO_AGENTS)
def test_what_is_no_agent_is_refused(tmp_path: Path, name: str) -> None:
    agent = tmp_path / f"ä {name}.zip"
    agent.write_bytes(NO_AGENTS[name])
    assert_refused(agent, "not an agent")


def test_other_zips_and_other_files_are_refused(tmp_path: Path) -> None:
    agent = tmp_path / "other.zip"
    for member, contents in (("data", bytes(500_000_000)), ("holiday.txt", b"sun")):
        with zipfile.ZipFile(agent, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, contents)
        assert_refused(agent, "not an agent")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # nobody will ever write to it
    for strange in (pipe, Path("/dev/zero")):
        assert_refused(strange, "not an agent")
    assert_refused(tmp_path, "Is a directory")
    assert_refused(tmp_path / "nowhere.zip", "No such file")
    assert_refused(tmp_path / ("long" * 100), "File name too long")
    assert_one_line(call(play, "a\nb.zip"), "a b.zip")


@pytest.mark.parametrize(
    "arguments",
    [{"n_envs": "many"}, {"n_envs": 1.5}, {"control_type": "arm"}, {"seed": None}, {"gamma": [1]}],
)
def test_arguments_of_a_strangers_zip_are_looked_at(
    tmp_path: Path, arguments: dict[str, object]
) -> None:
    agent = resaved(tmp_path, arguments=arguments)
    result = call(panda_reach_train_agent.train, "--resume", agent)
    assert_one_line(result, str(agent), *arguments)


def test_a_strangers_zip_opens_no_window_and_sends_nothing(tmp_path: Path) -> None:
    hostile = {"render": True, "wandb": True, "name": "mine", "resume": "x", "return": 1}
    agent = resaved(tmp_path, arguments=hostile, num_timesteps=10**9)
    result = call(panda_reach_train_agent.train, "--resume", agent)
    assert_one_line(result, "has its 1,000,000,000 steps")


def only_parsed(script: Callable[..., object], given: dict[str, object]) -> Callable[..., None]:
    """A function with ``script``'s command line that only puts its arguments into ``given``."""
    return functools.wraps(script)(lambda **arguments: given.update(arguments))


def resaved(tmp_path: Path, **changes: object) -> Path:
    """The shipped agent with something else in its settings."""
    data = json.loads(zipfile.ZipFile(SHIPPED).read("data")) | changes
    return rezip(SHIPPED, tmp_path / "settings.zip", data=json.dumps(data).encode())


def mutated(data: st.DataObject) -> bytes:
    """The shipped agent with bytes changed, cut out or put in."""
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    upto = data.draw(st.integers(at, min(len(WHOLE), at + 200)))
    return WHOLE[:at] + data.draw(st.binary(max_size=200)) + WHOLE[upto:]


def rebuilt(data: st.DataObject) -> bytes:
    """The shipped agent, as a zip without a fault, with some of its values exchanged."""
    with zipfile.ZipFile(SHIPPED) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    settings = json.loads(files["data"])
    policy = torch.load(io.BytesIO(files["policy.pth"]), weights_only=True)
    optimizer = torch.load(io.BytesIO(files["policy.optimizer.pth"]), weights_only=True)
    texts = [settings, settings["arguments"]]
    tensors = [policy, optimizer, *optimizer["state"].values()]
    for _ in range(data.draw(st.integers(1, 2))):
        in_text = data.draw(st.booleans())
        place = data.draw(st.sampled_from(texts if in_text else tensors))
        name = data.draw(st.sampled_from(sorted(place)) | st.just("more"))
        if in_text:
            place[name] = data.draw(JSON)
        elif data.draw(st.booleans()):
            place.pop(name, None)
        else:
            shape = data.draw(st.lists(st.integers(0, 3) | st.just(64), max_size=3))
            value = data.draw(st.floats(width=32) | st.integers(-9, 9) | st.booleans())
            place[name] = data.draw(st.sampled_from([torch.full(shape, value), value, "text"]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        files["data"] = json.dumps(settings).encode()
        for name, contents in (("policy.pth", policy), ("policy.optimizer.pth", optimizer)):
            torch.save(contents, saved := io.BytesIO())
            files[name] = saved.getvalue()
        for name, contents in files.items():
            archive.writestr(name, contents)
    return buffer.getvalue()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS)


@pytest.fixture(scope="module")
def small() -> PPO:
    """A model to restore agents into, with updates of two steps."""
    hparams = panda_reach_train_agent.resolve(n_envs=1, n_steps=2, batch_size=2, n_epochs=1)
    return panda_reach_train_agent.make_model(**hparams)


@pytest.mark.slow
@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(st.data())
def test_whatever_is_in_the_file_it_is_refused_or_plays_and_trains(
    tmp_path_factory: pytest.TempPathFactory, small: PPO, data: st.DataObject
) -> None:
    make = data.draw(st.sampled_from([lambda d: d.draw(st.binary()), mutated, rebuilt]))
    path = tmp_path_factory.getbasetemp() / "any.zip"
    path.write_bytes(make(data))

    def test() -> None:
        policy, env = utils.load_agent(path)
        assert all(torch.isfinite(p).all() for p in policy.parameters())
        utils.play_episode(policy, env)
        env.close()

    def train() -> None:
        given: dict[str, object] = {}
        utils.resumable(only_parsed(panda_reach_train_agent.train, given))(resume=path)
        panda_reach_train_agent.check(**panda_reach_train_agent.resolve(**given))
        utils.restore(small, path)
        small.learn(2, reset_num_timesteps=False)

    for use in (test, train):
        try:
            use()
        except utils.UsageError as error:
            assert len(str(error).splitlines()) == 1
        except ValueError as error:  # Watchers makes a UsageError of it
            assert use is train and "Expected parameter" in str(error)


# ------------------------------------------------------------------ broken surroundings


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(run: Run, clone: Path) -> None:
    flags = {"random": "", "test": "--episodes 2", "train": "--total-timesteps 512"}
    for script, more in flags.items():
        command = f"{sys.executable} '{clone}/panda_reach_{script}_agent.py' {more} | head -1"
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=300
        )
        assert (result.returncode, result.stderr) == (0, ""), script
    assert utils.read_agent(clone / "rl-trained-agents" / f"{RUN}.zip").num_timesteps == 512


def test_stdout_may_be_closed_or_full(clone: Path) -> None:
    command = f"{sys.executable} '{clone}/panda_reach_random_agent.py' --episodes 1"
    for end, code, lines in (">&-", 0, 0), (">/dev/full", 2, 1):
        result = subprocess.run(
            ["bash", "-c", f"{command} {end}"], stderr=subprocess.PIPE, text=True, timeout=300
        )
        assert (result.returncode, len(result.stderr.splitlines())) == (code, lines), result.stderr


@pytest.mark.slow
def test_without_the_right_to_read_or_write(clone: Path) -> None:
    """Also for root, who here gives up reading and writing whatever he likes."""
    unread = clone / "unread.zip"
    unread.touch(0)
    own = clone / "rl-trained-agents" / SHIPPED.name
    for path in (clone, *clone.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = sorted(clone.rglob("*"))
    lines = {
        ("test", unread): "cannot read",
        ("test", "--record", clone / "film.gif"): "cannot write",
        ("train", "--resume", unread): "cannot read",
        ("train", "--resume", own, "--total-timesteps", 10**6): "cannot write",
        ("train",): "cannot write",
        ("random", "--episodes", 1): None,
        ("test", "--episodes", 1): None,
    }
    give_up = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    for (script, *arguments), words in lines.items():
        program: list[Any] = [
            sys.executable,
            clone / f"panda_reach_{script}_agent.py",
            *map(str, arguments),
        ]
        result = subprocess.run(
            [*(give_up if os.geteuid() == 0 else []), *program],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if words:
            assert_one_line(result, words, "Permission denied")
        else:
            assert (result.returncode, result.stderr) == (0, "")
    assert sorted(clone.rglob("*")) == before


# ------------------------------------------------------------------ the command line


SCRIPTS: list[Callable[..., Any]] = [
    panda_reach_random_agent.random_agent,
    play,
    panda_reach_train_agent.train,
]
FLAGS = sorted({f"--{n}" for s in SCRIPTS for n in inspect.signature(s).parameters} | {"--help"})
WORDS = st.sampled_from([*FLAGS, "ee", "joints", "dense", "1", "-1", "1e400", "None", "", "--"])


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    st.sampled_from(SCRIPTS),
    st.lists(WORDS | st.text(max_size=5).filter(lambda word: "\0" not in word), max_size=4),
)
def test_any_command_line_is_a_call_or_one_line(
    script: Callable[..., object], words: list[str]
) -> None:
    given: dict[str, object] = {}
    result = call(only_parsed(script, given), *words)
    if result.returncode:
        assert_one_line(result)
    else:
        assert result.stderr == ""
        inspect.signature(script).bind(**given)


def test_ctrl_c_where_nothing_is_to_be_saved_is_told_in_one_word() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = call(interrupted)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "Stopped.\n")


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
        },
    )
)
def test_any_numbers_are_refused_or_train(flags: dict[str, Any]) -> None:
    rollout = abs(flags["n_envs"] * flags["n_steps"])
    hparams = panda_reach_train_agent.resolve(**{"batch_size": rollout} | flags)
    try:
        panda_reach_train_agent.check(**hparams)
    except utils.UsageError as error:
        assert len(str(error).splitlines()) == 1
        return
    model = panda_reach_train_agent.make_model(**hparams)
    try:
        model.learn(rollout)
    except ValueError as error:  # Watchers makes a UsageError of it
        assert "Expected parameter" in str(error)
    if model.env:
        model.env.close()


@pytest.mark.slow
def test_nan_in_training_is_told_and_the_last_good_agent_saved(run: Run, clone: Path) -> None:
    result = run(
        "panda_reach_train_agent.py",
        *("--learning-rate", 1000, "--max-grad-norm", 10**6, "--goal-scale", 10**6),
        *("--total-timesteps", 20_480),
    )
    assert_one_line(result, "diverged", "--learning-rate", f"{RUN}.zip")
    agent = utils.read_agent(clone / "rl-trained-agents" / f"{RUN}.zip")
    assert all(np.isfinite(v).all() for v in agent.parameters["policy"].values())
