"""Simulation processes: the same agent with any number of them, and what happens if one dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import panda_reach_train_agent as script
from panda_rl import agents, files, processes, workers
from panda_rl.errors import WorkerDied
from panda_rl.workers import WorkersVecEnv
from tests.conftest import RUN, assert_one_line, call_train, eventually, linux_only

import gymnasium as gym
import numpy as np
import psutil
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

CONFIG = script.Config(n_envs=3, n_steps=60, batch_size=30, n_epochs=2, total_timesteps=360)


def trained(n_workers: int) -> dict[str, list]:
    """The weights after two updates."""
    config = replace(CONFIG, n_workers=n_workers)
    env = script.make_env(config)
    assert isinstance(env, WorkersVecEnv if n_workers else DummyVecEnv)
    model = script.make_model(config, env)
    model.learn(config.total_timesteps)
    env.close()
    return {name: tensor.tolist() for name, tensor in model.policy.state_dict().items()}


def test_any_number_of_workers_trains_the_same_agent_to_the_bit() -> None:
    alone = trained(0)
    for n_workers in (1, 2, 3):
        assert trained(n_workers) == alone, n_workers
    assert not multiprocessing.active_children()


class Numbered(gym.Env):
    """Says which one it is."""

    observation_space = gym.spaces.Dict({"number": gym.spaces.Box(0, 9, (1,))})
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, number: int) -> None:
        if number < 0:
            raise ZeroDivisionError("no such number")
        self.number = number

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return {"number": np.full(1, self.number, np.float32)}, {}

    def fail(self) -> None:
        raise ZeroDivisionError("it failed")

    def add(self, more: int, times: int = 1) -> int:
        return self.number + more * times


def numbered(*numbers: int) -> list[Callable[[], gym.Env]]:
    return [lambda n=n: Numbered(n) for n in numbers]  # type: ignore[misc]


def test_each_environment_is_asked_by_its_own_number() -> None:
    env = WorkersVecEnv(numbered(0, 1, 2, 3, 4), n_workers=2)
    assert env.reset()["number"].ravel().tolist() == [0, 1, 2, 3, 4]
    assert env.get_attr("number") == [0, 1, 2, 3, 4]
    assert env.get_attr("number", [3, 0, 2]) == [3, 0, 2]
    assert env.env_method("add", 10, times=2, indices=4) == [24]
    env.set_attr("number", 8, indices=[1, 4])
    assert env.env_method("add", 0) == [0, 8, 2, 3, 8]
    assert env.env_is_wrapped(gym.Wrapper, indices=[2]) == [False]
    with pytest.raises(ZeroDivisionError, match="it failed") as failure:
        env.env_method("fail", indices=4)
    assert "in fail" in str(failure.value.__cause__)  # the worker's own traceback
    env.close()
    env.close()


def test_an_environment_that_can_not_be_made_raises_here() -> None:
    for numbers in ((0, -1), (-1, 0)):
        with pytest.raises(ZeroDivisionError, match="no such number"):
            WorkersVecEnv(numbered(*numbers), n_workers=2)
        assert not multiprocessing.active_children()


def test_processes_are_used_where_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, given, expected in ((1, None, 0), (4, None, 3), (4, 0, 0), (1, 2, 2)):
        monkeypatch.setattr(workers, "available_cores", lambda cores=cores: cores)
        spread = workers.spread(given)
        assert spread.get("vec_env_kwargs", {"n_workers": 0}) == {"n_workers": expected}
        assert bool(spread) == bool(expected)


GONE = {"SIGKILL": "died", "SIGSTOP": "no longer answers"}


@linux_only
@pytest.mark.parametrize("name", GONE)
def test_a_worker_that_is_gone_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = WorkersVecEnv(numbered(0, 1, 2), n_workers=2)
    monkeypatch.setattr(processes, "ANSWER_SECONDS", 5)
    _, second = multiprocessing.active_children()
    assert second.pid
    os.kill(second.pid, signal.Signals[name])
    with pytest.raises(WorkerDied, match=GONE[name]):
        for _ in range(2):
            env.reset()
    env.close()
    assert not multiprocessing.active_children()


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("name", GONE)
def test_training_without_one_of_its_workers_ends_with_a_word_and_the_agent(
    folders: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ANSWER_SECONDS", 10)
    agent = files.AGENTS / f"{RUN}.zip"

    def take_one() -> None:
        eventually(agent.exists)
        taken = multiprocessing.active_children()[0]
        assert taken.pid
        os.kill(taken.pid, signal.Signals[name])

    thread = threading.Thread(target=take_one)
    thread.start()
    result = call_train("--total-timesteps", 200_000, "--n-workers", 2)
    thread.join()
    assert_one_line(result, GONE[name], "is saved in", str(agent), code=1)
    assert agents.read(agent).num_timesteps < 200_000
    assert not multiprocessing.active_children()


def test_more_environments_than_memory_are_refused_in_one_line(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = SimpleNamespace(available=65 * 10**8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    assert_one_line(call_train("--n-envs", 1000), "--n-envs 1000", "6.5 GB", "memory")
    assert_one_line(call_train("--n-envs", 64, "--n-steps", 100_000), "--n-steps 100000", "memory")
    assert not list(folders.glob("*/*"))
    workers.check_memory(n_envs=8, n_steps=128)


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_limit_counts(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CGROUP", tmp_path)
    machine = workers.available_memory()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("1000000000\n")
    assert workers.available_memory() == 10**9
    # Its own eight environments need less; with those for evaluations it is too much.
    assert_one_line(call_train("--n-envs", 8), "1.1 GB of memory", "1.0 GB is available")
    (tmp_path / file).write_text("max\n")  # no limit
    assert workers.available_memory() == pytest.approx(machine, rel=0.5)


@linux_only
def test_the_server_imports_once_for_all_wherever_the_program_runs(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(files.ROOT)!r})
import psutil
from panda_rl import processes
processes.preload("panda_rl.evaluation")
while sum(c.memory_info().rss for c in psutil.Process().children()) < 150_000_000:
    time.sleep(0.1)
"""
    command = [sys.executable, "-c", program]  # PyTorch alone takes more than that
    subprocess.run(command, cwd=tmp_path, timeout=120, check=True)
