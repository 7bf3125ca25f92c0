"""An agent's file: nothing run from a stranger's zip, nothing believed, and saved whole."""

import base64
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.torch_layers import CombinedExtractor

import panda_reach_train_agent as script
from panda_rl import agents, recipes
from panda_rl.cli import AGENTS, UsageError
from panda_rl.features import NormReLU
from tests.conftest import SHIPPED, Run, assert_fine, assert_one_line, linux_only

WHOLE = SHIPPED.read_bytes()
CONFIG = agents.read(SHIPPED).config
TEST, TRAIN = "panda_reach_test_agent.py", "panda_reach_train_agent.py"


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


class Mine(CombinedExtractor):
    """A student's own input, which has no weights."""


def members(source: Path = SHIPPED) -> dict[str, bytes]:
    with zipfile.ZipFile(source) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(target: Path, changes: dict[str, bytes]) -> Path:
    """The shipped agent with some other members."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, member in (members() | changes).items():
            archive.writestr(name, member)
    return target


def saved(contents: object) -> bytes:
    torch.save(contents, buffer := io.BytesIO())
    return buffer.getvalue()


def loaded(member: str) -> dict:
    return torch.load(io.BytesIO(members()[member]), weights_only=True)


def with_data(target: Path, **changes: object) -> Path:
    """The shipped agent with something else in Stable-Baselines3's settings."""
    return rezip(target, {"data": json.dumps(json.loads(members()["data"]) | changes).encode()})


def with_config(target: Path, **changes: object) -> Path:
    return rezip(target, {"config.json": json.dumps(CONFIG | changes).encode()})


@pytest.fixture
def assert_refused(call: Run, tmp_path: Path) -> Callable[..., None]:
    """Neither played nor trained further, and no run is started."""

    def assert_refused(agent: Path, *words: str) -> None:
        assert_one_line(call(TEST, agent, "--no-render", "--episodes", 1), str(agent), *words)
        small = ("--n-envs", 1, "--batch-size", 32, "--no-subprocesses")
        result = call(TRAIN, "--resume", agent, "--total-timesteps", 10**6, *small)
        assert_one_line(result, str(agent), *words)
        assert not (tmp_path / "runs").exists()

    return assert_refused


def test_nothing_in_a_strangers_zip_is_run(
    call: Run, tmp_path: Path, assert_refused: Callable[..., None]
) -> None:
    proof = tmp_path / "was run"
    code = pickle.dumps(Bomb(proof))
    serialized = {":type:": "x", ":serialized:": base64.b64encode(code).decode()}
    in_data = with_data(tmp_path / "data.zip", policy_class=serialized)
    with pytest.raises(Exception):  # noqa: B017  Stable-Baselines3's own load does run it
        PPO.load(in_data)
    assert proof.exists()
    proof.unlink()

    # In the settings it is ignored.
    assert_fine(call(TEST, in_data, "--no-render", "--episodes", 1))

    # In a member with numbers, as PyTorch's zip or as a bare pickle: refused.
    for number, contents in enumerate((saved({"log_std": Bomb(proof)}), code)):
        for member in ("policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"):
            bomb = rezip(tmp_path / f"{number}{member}.zip", {member: contents})
            assert_refused(bomb, "not an agent")
    assert not proof.exists()


NO_AGENTS = {
    "empty": b"",
    "random": bytes(range(256)) * 100,
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
    **{f"cut at {n} of 4": WHOLE[: len(WHOLE) * n // 4] for n in range(1, 4)},
}


@pytest.mark.parametrize("name", NO_AGENTS)
def test_what_is_no_agent_is_refused(
    name: str, tmp_path: Path, assert_refused: Callable[..., None]
) -> None:
    agent = tmp_path / f"ä {name}.zip"
    agent.write_bytes(NO_AGENTS[name])
    assert_refused(agent, "not an agent")


def test_other_zips_and_what_is_no_file_are_refused(
    tmp_path: Path, assert_refused: Callable[..., None]
) -> None:
    agent = tmp_path / "other.zip"
    for member, contents in (("data", bytes(500_000_000)), ("holiday.txt", b"sun")):
        with zipfile.ZipFile(agent, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, contents)
        assert_refused(agent, "not an agent")
    (tmp_path / "folder.zip").mkdir()
    for missing in (tmp_path / "folder.zip", tmp_path / "nowhere.zip", tmp_path / "nowhere"):
        assert_refused(missing, "there is no agent")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # nobody will ever write to it
        assert_refused(tmp_path / "pipe", "there is no agent")


def test_agents_of_other_tasks_and_kinds_are_refused(
    tmp_path: Path, assert_refused: Callable[..., None]
) -> None:
    kwargs: dict[str, Any] = {"device": "cpu"}
    for model in (
        PPO("MlpPolicy", "Pendulum-v1", **kwargs),
        PPO("MultiInputPolicy", "panda_rl:PandaPush-v2", **kwargs),
        PPO("MultiInputPolicy", "panda_rl:PandaPickAndPlace-v2", **kwargs),
        SAC("MultiInputPolicy", "panda_rl:PandaReach-v2", buffer_size=10, **kwargs),
    ):
        model.save(tmp_path / "theirs.zip")
        assert_refused(tmp_path / "theirs.zip")


@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {"activation_fn": torch.nn.Identity},
        {"activation_fn": partial(torch.nn.LeakyReLU, 0.5)},
        {"features_extractor_class": Mine},
        {"squash_output": True},
    ],
    ids=str,
)
def test_an_agent_whose_parts_are_not_in_its_weights_is_refused(
    policy_kwargs: dict[str, Any], tmp_path: Path, assert_refused: Callable[..., None]
) -> None:
    """Another activation in their place would play, and be another policy."""
    use_sde = "squash_output" in policy_kwargs
    env = "panda_rl:PandaReach-v2"
    model = PPO("MultiInputPolicy", env, use_sde=use_sde, policy_kwargs=policy_kwargs, device="cpu")
    model.save(tmp_path / "theirs.zip")
    assert_refused(tmp_path / "theirs.zip", "not an agent")


NAN, HUGE = float("nan"), torch.zeros(()).expand(3, 10**12)  # a terabyte
HOSTILE: dict[str, dict[str, Any]] = {
    "not finite: noise": {"log_std": torch.full((3,), NAN)},
    "not finite: e^noise": {"log_std": torch.full((3,), 100.0)},
    "not finite: value": {"value_net.bias": torch.full((1,), NAN)},
    "not finite: action": {"action_net.bias": torch.full((3,), float("inf"))},
    "other shape": {"action_net.weight": torch.zeros(3, 5)},
    "no shape": {"action_net.bias": torch.zeros(())},
    "huge": {"action_net.weight": HUGE},
    "no memory": {"action_net.bias": torch.zeros(3, device="meta")},
    "one more": {"extra": torch.zeros(3)},
    "text": {"value_net.bias": "text"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_weights_are_refused(
    name: str, tmp_path: Path, assert_refused: Callable[..., None]
) -> None:
    agent = rezip(tmp_path / "x.zip", {"policy.pth": saved(loaded("policy.pth") | HOSTILE[name])})
    assert_refused(agent, "finite" if "finite" in name else "")


@pytest.mark.parametrize(
    "config",
    [
        {"n_envs": "many"},
        {"n_envs": 1.5},
        {"reward_type": "big"},
        {"seed": None},
        {"gamma": [1, 2]},
        {"gamma": 2},
        {"n_steps": -1},
        {"batch_size": 77},
        {"gamma": [0.5, "--wandb"]},
        {"gamma": [0.5, "--name", "mine"]},
        {"gamma": [0.5, "--resume", "config.zip"]},
        {"reward_type": "--help"},
    ],
    ids=str,
)
def test_the_config_of_a_strangers_zip_is_checked_as_if_typed(
    config: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    agent = with_config(tmp_path / "config.zip", **config)
    result = call(TRAIN, "--resume", agent, "--total-timesteps", 10**6)
    assert result.returncode == 2
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------ agents of others, and older


@pytest.mark.parametrize(
    "path", sorted(AGENTS.glob("PandaReach_PPO_v2_??*e.zip")), ids=lambda p: p.stem
)
def test_the_shipped_agents_still_load_and_act_as_in_stable_baselines3(path: Path) -> None:
    """They were saved before this version."""
    agent = agents.read(path.with_suffix(""))  # without .zip, too
    theirs = PPO.load(path)
    assert theirs.num_timesteps == agent.num_timesteps
    env = agent.make_env()
    observation, _ = env.reset(seed=0)
    ours = agent.policy(env).predict(observation, deterministic=True)[0]
    assert (theirs.predict(observation, deterministic=True)[0] == ours).all()
    env.close()


PLAIN: list[dict[str, Any]] = [
    {},
    {"policy_kwargs": {"net_arch": [32, 32, 32]}},
    {"policy_kwargs": {"net_arch": {"pi": [32], "vf": [48, 16]}}},
    {"policy_kwargs": {"net_arch": []}},
    {"policy_kwargs": {"activation_fn": torch.nn.ReLU}},
    {"policy_kwargs": {"activation_fn": NormReLU}},
    {"policy_kwargs": {"activation_fn": torch.nn.ELU, "net_arch": [16]}},
    {"use_sde": True},
]


@pytest.mark.parametrize("kwargs", PLAIN, ids=str)
def test_an_agent_of_plain_stable_baselines3_plays_and_resumes_or_says_why_not(
    kwargs: dict[str, Any], tmp_path: Path, call: Run
) -> None:
    env = gym.make("PandaReachJointsDense-v2")
    model = PPO("MultiInputPolicy", env, seed=0, device="cpu", **kwargs)
    path = tmp_path / "theirs.zip"
    model.save(path)
    assert_fine(call(TEST, path, "--no-render", "--episodes", 1))
    observation, _ = env.reset(seed=0)
    ours = agents.read(path).policy(env).predict(observation, deterministic=True)[0]
    assert (model.predict(observation, deterministic=True)[0] == ours).all()
    env.close()

    small = ("--n-envs", 1, "--n-steps", 32, "--batch-size", 32, "--n-epochs", 1)
    result = call(TRAIN, "--resume", path, "--total-timesteps", 32, *small)
    other_input = ("--goal-scale", 8, "--total-timesteps", 32, *small)
    assert_one_line(call(TRAIN, "--resume", path, *other_input), str(path), "does not fit")
    layers = kwargs.get("policy_kwargs", {}).get("net_arch")
    if "activation_fn" in str(kwargs) or "use_sde" in kwargs or isinstance(layers, dict):
        assert_one_line(result, str(path), "own load")
    else:
        assert_fine(result)
        (resumed,) = (tmp_path / "agents").iterdir()
        assert agents.read(resumed).config["net_arch"] == (
            layers if layers is not None else [64] * 2
        )
        assert agents.read(resumed).config["control_type"] == "joints"


# ------------------------------------------------------------------ saved whole


@pytest.fixture
def model() -> PPO:
    config = recipes.Config(n_envs=1, batch_size=32, subprocesses=False)
    return script.make_model(config, script.make_env(config))


def test_an_agent_that_is_not_sound_is_not_saved(tmp_path: Path, model: PPO) -> None:
    next(model.policy.parameters()).data[0] = torch.nan
    with pytest.raises(UsageError, match=r"--learning-rate$"):
        agents.save(model, tmp_path / "agent.zip", {})
    assert not list(tmp_path.iterdir())


@linux_only
@pytest.mark.parametrize("size", [0, 10_000, 60_000])
def test_a_full_disk_leaves_the_agent_that_was_there(size: int, tmp_path: Path, model: PPO) -> None:
    import resource  # Windows has none

    path = tmp_path / "agent.zip"
    agents.save(model, path, {})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            agents.save(model, path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
