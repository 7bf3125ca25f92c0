"""An agent's file: nothing run from a stranger's zip, and nothing believed."""

import base64
import io
import json
import os
import pickle
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import panda_reach_train_agent as script
from panda_rl import agents, configs, evaluation
from panda_rl.errors import UsageError
from tests.conftest import SHIPPED, Run, assert_one_line, call_test, call_train, linux_only

import gymnasium as gym
import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from stable_baselines3 import PPO

WHOLE = SHIPPED.read_bytes()
CONFIG = agents.read(SHIPPED).config


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def members(source: Path = SHIPPED) -> dict[str, bytes]:
    with zipfile.ZipFile(source) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(target: Path, **changes: bytes) -> Path:
    """The shipped agent with other members; policy_pth stands for policy.pth."""
    contents = members() | {name.replace("_", "."): value for name, value in changes.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, member in contents.items():
            archive.writestr(name, member)
    return target


def saved(contents: object) -> bytes:
    torch.save(contents, buffer := io.BytesIO())
    return buffer.getvalue()


def loaded(member: str) -> dict:
    return torch.load(io.BytesIO(members()[member]), weights_only=True)


def with_data(tmp_path: Path, **changes: object) -> Path:
    """The shipped agent with something else in Stable-Baselines3's settings."""
    data = json.loads(members()["data"]) | changes
    return rezip(tmp_path / "data.zip", data=json.dumps(data).encode())


def with_config(tmp_path: Path, **changes: object) -> Path:
    config = json.dumps(CONFIG | changes).encode()
    return rezip(tmp_path / "config.zip", config_json=config)


def with_weights(tmp_path: Path, **changes: object) -> Path:
    weights = saved(loaded("policy.pth") | changes)
    return rezip(tmp_path / "weights.zip", policy_pth=weights)


def assert_refused(agent: Path, *words: str) -> None:
    more = ("--total-timesteps", 10**6, "--n-workers", 0)
    for result in (call_test(agent), call_train("--resume", agent, *more)):
        assert_one_line(result, str(agent), *words)


def test_nothing_in_a_strangers_zip_is_run(run: Run, tmp_path: Path) -> None:
    proof = tmp_path / "was run"
    code = pickle.dumps(Bomb(proof))
    in_data = with_data(
        tmp_path,
        policy_class={":type:": "x", ":serialized:": base64.b64encode(code).decode()},
    )
    with pytest.raises(Exception):  # noqa: B017  Stable-Baselines3's own load does run it
        PPO.load(in_data)
    assert proof.exists()
    proof.unlink()

    # In the settings it is ignored, and the script says that nothing was run.
    result = run("panda_reach_test_agent.py", in_data, "--no-render", "--episodes", 1)
    assert (result.returncode, result.stderr) == (0, "")
    assert "nothing in it was run" in result.stdout

    # In the weights or the optimizer, as PyTorch's zip or as a bare pickle: refused.
    bomb = saved({"log_std": Bomb(proof)})
    for number, (contents, words) in enumerate(((bomb, "code"), (code, "not an agent"))):
        for member in ("policy_pth", "policy_optimizer_pth"):
            agent = rezip(tmp_path / f"{member}{number}.zip", **{member: contents})
            assert_refused(agent, words)
    assert not proof.exists()


def test_hostile_weights_are_refused(tmp_path: Path) -> None:
    nan = with_weights(tmp_path, log_std=torch.full((3,), float("nan")))
    assert_refused(nan, "not finite")
    for name, shape, words in [
        ("action_net.weight", (3, 5), "another kind"),
        ("action_net.bias", (), "not an agent"),
        ("value_net.weight", (0,), "not an agent"),
        # weights of a terabyte, and layers that would need one between them
        ("action_net.weight", (3, 10**12), "not an agent"),
        ("mlp_extractor.policy_net.0.weight", (10**6, 12), "not an agent"),
    ]:
        agent = with_weights(tmp_path, **{name: torch.zeros(()).expand(shape)})
        assert_refused(agent, words)


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


@linux_only
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
    assert_one_line(call_test("a\nb.zip"), "a b.zip")


@pytest.mark.parametrize(
    "config",
    [{"n_envs": "many"}, {"n_envs": 1.5}, {"control_type": "arm"}, {"seed": None}, {"gamma": [1]}],
)
def test_the_config_of_a_strangers_zip_is_checked(
    tmp_path: Path, config: dict[str, object]
) -> None:
    agent = with_config(tmp_path, **config)
    flags = [f"--{name.replace('_', '-')}" for name in config]
    assert_one_line(call_train("--resume", agent), str(agent), *flags)


def test_a_strangers_zip_opens_no_window_and_sends_nothing(tmp_path: Path) -> None:
    hostile = {"render": True, "wandb": True, "name": "mine", "resume": "x", "return": 1}
    data = json.loads(members()["data"]) | {"num_timesteps": 10**9}
    agent = rezip(
        tmp_path / "hostile.zip",
        data=json.dumps(data).encode(),
        config_json=json.dumps(CONFIG | hostile).encode(),
    )
    assert_one_line(call_train("--resume", agent), "already has 1,000,000,000 steps")


def mutated(data: st.DataObject) -> bytes:
    """The shipped agent with bytes changed, cut out or put in."""
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    upto = data.draw(st.integers(at, min(len(WHOLE), at + 200)))
    return WHOLE[:at] + data.draw(st.binary(max_size=200)) + WHOLE[upto:]


def rebuilt(data: st.DataObject) -> bytes:
    """The shipped agent, as a zip without a fault, with some of its values exchanged."""
    contents = members()
    settings = json.loads(contents["data"])
    config = dict(CONFIG)
    policy, optimizer = loaded("policy.pth"), loaded("policy.optimizer.pth")
    texts = [settings, config]
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
    contents["data"] = json.dumps(settings).encode()
    contents["config.json"] = json.dumps(config).encode()
    contents["policy.pth"] = saved(policy)
    contents["policy.optimizer.pth"] = saved(optimizer)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, member in contents.items():
            archive.writestr(name, member)
    return buffer.getvalue()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS)


@pytest.fixture(scope="module")
def small() -> PPO:
    """A model to restore agents into, with updates of two steps."""
    config = script.Config(n_envs=1, n_steps=2, batch_size=2, n_epochs=1, n_workers=0)
    return script.make_model(config, script.make_env(config))


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
        agent = agents.read(path)
        env = evaluation.RecordEpisode(
            gym.make("PandaReach-v2", control_type=agent.control_type)  # type: ignore[arg-type]
        )
        try:
            policy = agent.policy(env.observation_space, env.action_space)
            assert all(torch.isfinite(p).all() for p in policy.parameters())
            evaluation.play_episode(policy, env, 0)
        finally:
            env.close()

    def train() -> None:
        configs.check(configs.parse(script.RECIPES, [f"--resume={path}"]))
        agents.restore(small, agents.read(path))
        small.learn(2, reset_num_timesteps=False)

    for use in (test, train):
        try:
            use()
        except UsageError as error:
            assert len(str(error).splitlines()) == 1
        except ValueError as error:  # callbacks.Saving makes a UsageError of it
            assert use is train and "Expected parameter" in str(error)


# ------------------------------------------------------------------ crafted zips


def stride_0(shape: torch.Size) -> torch.Tensor:
    """As many numbers as it claims, and four bytes for all of them."""
    return torch.zeros(()).expand(shape)


def with_moments(
    tmp_path: Path, change: Callable[[torch.Tensor], object], name: str = "exp_avg"
) -> Path:
    """The shipped agent, with what Adam remembers of each gradient changed."""
    optimizer = loaded("policy.optimizer.pth")
    for moments in optimizer["state"].values():
        moments[name] = change(moments[name])
    return rezip(tmp_path / "optimizer.zip", policy_optimizer_pth=saved(optimizer))


@pytest.fixture
def default_model() -> Iterator[PPO]:
    env = script.make_env(script.Config(n_envs=1, n_workers=0))
    yield script.make_model(script.Config(n_envs=1, batch_size=32), env)
    env.close()


def test_what_is_restored_has_memory_for_each_of_its_numbers(
    tmp_path: Path, default_model: PPO
) -> None:
    """Fused Adam writes to all of them."""
    agent = with_moments(tmp_path, lambda tensor: stride_0(tensor.shape))
    agents.restore(default_model, agents.read(agent))
    optimizer = default_model.policy.optimizer
    tensors = [m[name] for m in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert len(tensors) == 2 * len(list(default_model.policy.parameters()))
    for tensor in [*tensors, *default_model.policy.state_dict().values()]:
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() >= 4 * tensor.numel()


STRANGE: dict[str, Callable[[torch.Tensor], object]] = {
    "sparse": torch.Tensor.to_sparse,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "float64": torch.Tensor.double,
    "without memory": lambda tensor: tensor.to("meta"),
    "float16": torch.Tensor.half,
    "whole numbers": torch.Tensor.int,
    "of another shape": lambda tensor: tensor[..., :1],
    "empty": lambda tensor: tensor[:0],
    "a number": lambda tensor: 1.0,
    "a list": torch.Tensor.tolist,
}


@pytest.mark.parametrize("change", STRANGE)
def test_strange_tensors_are_refused(tmp_path: Path, default_model: PPO, change: str) -> None:
    for name in ("exp_avg", "exp_avg_sq"):
        agent = with_moments(tmp_path, STRANGE[change], name)
        with pytest.raises(UsageError, match="another kind"):
            agents.restore(default_model, agents.read(agent))
    name = "mlp_extractor.value_net.2.weight"
    agent = with_weights(tmp_path, **{name: STRANGE[change](loaded("policy.pth")[name])})
    with pytest.raises(UsageError, match="not an agent"):
        agents.read(agent)


@pytest.mark.parametrize("step", [-1.0, 2.0**24, float("nan"), float("inf")])
def test_a_step_count_that_can_not_be_is_refused(
    tmp_path: Path, default_model: PPO, step: float
) -> None:
    optimizer = loaded("policy.optimizer.pth")
    optimizer["state"][0]["step"] = torch.tensor(step)
    agent = rezip(tmp_path / "step.zip", policy_optimizer_pth=saved(optimizer))
    with pytest.raises(UsageError, match="another kind"):
        agents.restore(default_model, agents.read(agent))


@pytest.mark.parametrize("log_std", [100.0, 80.0, -200.0])
def test_noise_beyond_all_numbers_is_reported_in_one_line(folders: Path, log_std: float) -> None:
    agent = with_weights(folders, log_std=torch.full((3,), log_std))
    result = call_train("--resume", agent, "--total-timesteps", 10**6, "--n-workers", 0)
    assert_one_line(result, "not finite" if log_std == 100 else "diverged")


ZEROS = bytes(100_000_000)


def bomb(path: Path, method: int, copies: int = 1, claimed: int = len(ZEROS)) -> Path:
    """A zip whose ``data`` has 100 MB of zeros, and that says otherwise."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("data", ZEROS if copies == 1 else ZEROS[: 20 * 1024**2])
        (member,) = archive.filelist
        archive.filelist.extend([member] * (copies - 1))  # one stream, many entries
        member.file_size = min(claimed, member.file_size)
    return path


@pytest.mark.parametrize(
    ("method", "copies", "claimed"),
    [
        (zipfile.ZIP_DEFLATED, 1, len(ZEROS)),
        (zipfile.ZIP_DEFLATED, 1, 1000),
        (zipfile.ZIP_DEFLATED, 30, len(ZEROS)),
        (zipfile.ZIP_BZIP2, 1, 1000),
        (zipfile.ZIP_LZMA, 1, 1000),
    ],
)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, method: int, copies: int, claimed: int
) -> None:
    agent = bomb(tmp_path / "bomb.zip", method, copies, claimed)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="not an agent"):
            agents.read(agent)
        assert tracemalloc.get_traced_memory()[1] < 3 * agents.LARGEST
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------ saved whole


def test_a_saved_agent_comes_back(tmp_path: Path, default_model: PPO) -> None:
    default_model.num_timesteps = 77
    path = tmp_path / "agent.zip"
    agents.save(default_model, path, {"gamma": 0.25})
    agent = agents.read(path)
    assert (agent.num_timesteps, agent.config) == (77, {"gamma": 0.25})
    assert (agent.control_type, agent.activation) == ("ee", torch.nn.Tanh)
    assert agent.layers == {"pi": [64, 64], "vf": [64, 64]}
    assert not agent.optimizer["state"]  # it has not learned yet
    agents.restore(default_model, agent)
    assert not default_model.policy.optimizer.state
    assert PPO.load(path).num_timesteps == 77


def test_an_agent_saved_before_there_was_a_config_json_keeps_its_config(tmp_path: Path) -> None:
    contents = members()
    contents.pop("config.json", None)
    data = json.loads(contents["data"]) | {"arguments": {"gamma": 0.125}}
    contents["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        for name, value in contents.items():
            archive.writestr(name, value)
    assert agents.read(tmp_path / "old.zip").config == {"gamma": 0.125}


def test_several_may_save_to_one_path_while_others_read_it(
    tmp_path: Path, default_model: PPO
) -> None:
    path = tmp_path / "agent.zip"
    agents.save(default_model, path, {})
    failed: list[BaseException] = []

    def repeat(action: Callable[[], object]) -> None:
        try:
            for _ in range(20):
                action()
        except BaseException as error:
            failed.append(error)

    actions = [lambda: agents.save(default_model, path, {})] * 3 + [lambda: agents.read(path)]
    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list(tmp_path.iterdir()) == [path]


@linux_only
def test_a_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path, default_model: PPO) -> None:
    target, link = tmp_path / "elsewhere.zip", tmp_path / "agent.zip"
    target.touch(0o640)
    target.chmod(0o640)
    link.symlink_to(target)
    agents.save(default_model, link, {})
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert agents.read(target).num_timesteps == 0
    before = os.umask(0o027)
    try:
        agents.save(default_model, tmp_path / "new.zip", {})
    finally:
        os.umask(before)
    assert (tmp_path / "new.zip").stat().st_mode & 0o777 == 0o640
