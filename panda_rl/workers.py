"""Environments in several processes, so that every core simulates.

PyBullet simulates on one core, and holds Python's global lock while it does. Stable-Baselines3's
SubprocVecEnv starts a process for each environment. Here each process steps several
environments in turn, and so does the main process instead of waiting, which is faster if there
are more environments than cores. PPO learns exactly the same either way, because each
environment has its own simulator and its own seed.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from panda_rl import processes
from panda_rl.errors import UsageError, WorkerDied
from panda_rl.processes import Process

import gymnasium as gym
import numpy as np
import psutil
from stable_baselines3.common.vec_env import CloudpickleWrapper, DummyVecEnv, VecEnv

# On macOS, forking a process that has imported PyTorch is not safe.
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"

BYTES_PER_ENV = 91_000_000
"""A PyBullet simulator with the Panda in it, as measured on Linux."""
BYTES_PER_STEP = 200
"""In the rollout buffer: at most 12 + 7 + 5 float32, and as much again while it is shuffled."""
EVALUATION_ENVS = 4
"""Environments for evaluations. A training run has them beside its own."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of a container."""


def available_cores() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # a cluster's job or taskset may allow only some
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spread(n_workers: int | None) -> dict[str, Any]:
    """Arguments that make ``make_vec_env`` use ``n_workers`` processes besides this one.

    Args:
        n_workers: number of processes; None for one on each further core.
    """
    if n_workers is None:
        n_workers = available_cores() - 1
    if n_workers == 0:
        return {}
    return {"vec_env_cls": WorkersVecEnv, "vec_env_kwargs": {"n_workers": n_workers}}


def available_memory() -> int:
    """The bytes that this process can still get."""
    available = psutil.virtual_memory().available
    for file in ("memory.max", "memory/memory.limit_in_bytes"):  # a container's, cgroups 2 and 1
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            available = min(available, int((CGROUP / file).read_text()))
    return available


def check_memory(n_envs: int, n_steps: int) -> None:
    """Raises UsageError if a run with ``n_envs`` environments doesn't fit into memory.

    Without this check the kernel would kill the process without a message.
    """
    needed = (n_envs + EVALUATION_ENVS) * BYTES_PER_ENV + n_envs * n_steps * BYTES_PER_STEP
    available = available_memory()
    if needed > available:
        raise UsageError(
            f"--n-envs {n_envs} with --n-steps {n_steps} needs about "
            f"{needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB is available: "
            "try smaller numbers"
        )


class WorkersVecEnv(VecEnv):
    """Stable-Baselines3's DummyVecEnv, spread over this process and ``n_workers`` others.

    Args:
        env_fns: functions that make one environment each, with dictionary observations.
        n_workers: number of other processes, as far as there are environments for them.

    Raises:
        WorkerDied: by any method, if a process has died or no longer answers.
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]], n_workers: int) -> None:
        if START_METHOD == "forkserver":
            processes.preload("panda_rl.evaluation", "panda_rl.rewards", "panda_rl.env")
        n_parts = min(n_workers + 1, len(env_fns))
        bounds = [len(env_fns) * part // n_parts for part in range(n_parts + 1)]
        self._parts = [slice(*part) for part in itertools.pairwise(bounds)]
        self._workers: list[Process] = []
        self._own = None
        try:
            for part in self._parts[1:]:
                work = (_work, CloudpickleWrapper(env_fns[part]))
                self._workers.append(Process(START_METHOD, *work))
            self._own = DummyVecEnv(env_fns[self._parts[0]])
            self._answers(seconds=processes.START_SECONDS)
        except BaseException:
            self.close()
            raise
        super().__init__(len(env_fns), self._own.observation_space, self._own.action_space)

    def reset(self) -> Any:
        if self._seeds[0] is not None:  # this is the first reset after seed()
            self._ask("seed", [(self._seeds[part.start],) for part in self._parts])
            self._reset_seeds()
        return self._stack(self._ask("reset"))

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        answers = self._ask("step", [(self._actions[part],) for part in self._parts])
        observations, rewards, dones, infos = zip(*answers, strict=True)
        return (
            self._stack(observations),
            np.concatenate(rewards),
            np.concatenate(dones),
            [info for part in infos for info in part],
        )

    def close(self) -> None:
        while self._workers:
            self._workers.pop().close()
        if self._own:
            self._own.close()
            self._own = None

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return self._ask_some("get_attr", attr_name, indices=indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        self._ask_some("set_attr", attr_name, value, indices=indices)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        return self._ask_some(
            "env_method", method_name, *method_args, indices=indices, **method_kwargs
        )

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        return self._ask_some("env_is_wrapped", wrapper_class, indices=indices)

    def _ask_some(self, name: str, *args: Any, indices: Any, **kwargs: Any) -> list[Any]:
        """What DummyVecEnv's method ``name`` returns for the environments ``indices``."""
        wanted = list(self._get_indices(indices))
        found: dict[int, Any] = {}
        for worker, part in zip((None, *self._workers), self._parts, strict=True):
            theirs = [i for i in wanted if part.start <= i < part.stop]
            if theirs:
                kwargs["indices"] = [i - part.start for i in theirs]
                if worker is None:
                    answer = getattr(self._own, name)(*args, **kwargs)
                else:
                    self._send(name, [args], kwargs, [worker])
                    answer = self._answers([worker])[0]
                found |= dict(zip(theirs, answer or theirs, strict=True))  # set_attr returns None
        return [found[i] for i in wanted]

    def _ask(self, name: str, args: Sequence[tuple] | None = None) -> list[Any]:
        """What DummyVecEnv's method ``name`` returns in each process."""
        args = args or [()] * len(self._parts)
        self._send(name, args[1:])
        own = getattr(self._own, name)(*args[0])
        return [own, *self._answers()]

    def _send(
        self,
        name: str,
        args: Sequence[tuple],
        kwargs: dict[str, Any] | None = None,
        workers: Sequence[Process] | None = None,
    ) -> None:
        for worker, arguments in zip(workers or self._workers, args, strict=True):
            try:
                worker.send((name, arguments, kwargs or {}))
            except OSError:
                raise WorkerDied("a simulation process died") from None

    def _answers(
        self, workers: Sequence[Process] | None = None, seconds: float | None = None
    ) -> list[Any]:
        answers = []
        for worker in workers or self._workers:
            try:
                answers.append(worker.receive(seconds or processes.ANSWER_SECONDS))
            except TimeoutError:
                raise WorkerDied("a simulation process no longer answers") from None
            except (EOFError, OSError):
                raise WorkerDied("a simulation process died") from None
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    @staticmethod
    def _stack(observations: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {key: np.concatenate([o[key] for o in observations]) for key in observations[0]}


def _work(connection: Connection, env_fns: CloudpickleWrapper) -> None:
    """A worker's process: it calls its environments' methods and sends what they return."""
    answer: Any
    try:
        envs = DummyVecEnv(env_fns.var)
        answer = "ready"
    except Exception as error:
        answer = ExceptionWithTraceback(error, error.__traceback__)
    while True:
        connection.send(answer)
        name, args, kwargs = connection.recv()
        try:
            answer = getattr(envs, name)(*args, **kwargs)
        except Exception as error:
            answer = ExceptionWithTraceback(error, error.__traceback__)
