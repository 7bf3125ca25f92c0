"""Machinery of a training run that a learner may skip, as Stable-Baselines3 callbacks.

Live evaluation on held-out goals, progress, a window, safe saving and stopping: all of
them look on, and none changes what is learned.
"""

import collections
import contextlib
import copy
import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import rich.progress
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

import panda_reach_utils as utils
from panda_reach_env import WindowClosed


class HeldOutEvaluation(BaseCallback):
    """Play the deterministic policy on held-out goals as it learns, for TensorBoard.

    Scalars ``eval/success_rate`` and ``eval/mean_final_distance`` (m), and the image
    ``eval/episode``: frames of one episode, side by side. A process of its own plays
    snapshots of the policy, so that training goes on meanwhile and its random numbers
    stay what they are; every result is logged at its snapshot's step.

    Args:
        control_type: of the environment to play in.
        every: steps between two snapshots.
        episodes: goals each snapshot is tried on, always the same ones.
        hparams: shown beside the results in TensorBoard's HParams tab.
    """

    TAGS = ("eval/success_rate", "eval/mean_final_distance")

    def __init__(
        self, control_type: str, every: int, hparams: dict[str, Any], episodes: int = 20
    ) -> None:
        super().__init__()
        self.every = every
        self.hparams = hparams
        self.results: list[tuple[int, float, float]] = []  # step, success rate, distance (m)
        self._last_step = 0
        self._snapshots: collections.deque[tuple[int, bytes]] = collections.deque()
        self._busy = True  # until it says that it is ready
        spawn = multiprocessing.get_context("spawn")
        # A pipe, and not a queue: it ends with the process at its other end, however that ends.
        self._connection, self._theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_evaluate_snapshots, args=(self._theirs, control_type, episodes), daemon=True
        )

    def _on_training_start(self) -> None:
        self._writer = next(
            output.writer
            for output in self.logger.output_formats
            if isinstance(output, TensorBoardOutputFormat)
        )
        # TensorBoard shows hyperparameters only beside at least one metric's tag.
        hparam = HParam(self.hparams, dict.fromkeys(self.TAGS, 0.0))
        self.logger.record("hparams", hparam, exclude=("stdout", "log", "json", "csv"))
        self.logger.dump(self.num_timesteps)
        with _ignored_interrupt():  # inherited: Ctrl-C is for this process to handle
            self._process.start()
        self._theirs.close()
        self._evaluate()

    def _on_rollout_start(self) -> None:  # the policy has just been updated
        self._exchange(wait=False)
        if self.num_timesteps - self._last_step >= self.every:
            self._evaluate()

    def _on_training_end(self) -> None:
        stopped = self.num_timesteps < self.locals["total_timesteps"]
        if not stopped and self._last_step != self.num_timesteps:
            self._evaluate()  # its answer is for finish() to wait for
        self._writer.flush()  # raises what became of a full disk

    def finish(self) -> None:
        """Wait for what is still being played, and log it."""
        self._exchange(wait=True)
        self._writer.flush()

    def _on_step(self) -> bool:
        return True

    def _evaluate(self) -> None:
        snapshot = io.BytesIO()
        self.model.policy.save(snapshot)  # type: ignore[arg-type]  # a buffer does, too
        self._snapshots.append((self.num_timesteps, snapshot.getvalue()))
        self._last_step = self.num_timesteps
        self._hand_out()

    def _hand_out(self) -> None:
        """The next snapshot, once the other process is there to take it."""
        if self._snapshots and not self._busy:
            self._connection.send(self._snapshots.popleft())
            self._busy = True

    def _exchange(self, wait: bool) -> None:
        """Log the answers that are there; with ``wait``, until all have come."""
        while self._busy and (wait or self._connection.poll()):
            try:
                answer = self._connection.recv()
            except EOFError:
                raise RuntimeError("the process of the live evaluation died") from None
            self._busy = False
            if answer is not None:
                self._log(*answer)
            self._hand_out()

    def _log(self, step: int, success: float, distance: float, strip: np.ndarray) -> None:
        self.results.append((step, success, distance))
        for tag, value in zip(self.TAGS, (success, distance), strict=True):
            self._writer.add_scalar(tag, value, step)
        self._writer.add_image("eval/episode", strip, step, dataformats="HWC")

    def close(self) -> None:
        """End the process, whatever it is at."""
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()


@contextlib.contextmanager
def _ignored_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # elsewhere Python sets no signal handlers
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _evaluate_snapshots(connection: Connection, control_type: str, episodes: int) -> None:
    """The other process: says that it is ready, then answers each snapshot."""
    torch.set_num_threads(1)
    env = gym.make("PandaReach-v2", reward_type="dense", control_type=control_type)
    answer = None
    with contextlib.suppress(EOFError, ConnectionError):  # training has ended, or was killed
        while True:
            connection.send(answer)
            step, snapshot = connection.recv()
            contents: Any = io.BytesIO(snapshot)
            policy = MultiInputActorCriticPolicy.load(contents, device="cpu")
            answer = None
            with contextlib.suppress(utils.UsageError):  # training has diverged, and will say so
                result = utils.summary(utils.evaluate(policy, env, episodes))
                strip = film_strip(policy, env)
                answer = (step, result["success_rate"], result["mean_final_distance"], strip)


def film_strip(policy: MultiInputActorCriticPolicy, env: gym.Env) -> np.ndarray:
    """Five frames of one held-out episode, side by side: (160, 1200, 3) uint8."""
    frames = []

    def on_step(step: int, distance: float, reached: bool) -> None:
        if step in (0, 3, 6, 12, 50):
            frames.append(env.get_wrapper_attr("picture")(240, 160))

    utils.play_episode(policy, env, utils.HELD_OUT_SEED, on_step)
    return np.hstack(frames)


class Progress(BaseCallback):
    """How far training is and how good the agent is by now: a bar, or lines in a pipe."""

    def __init__(self, evaluation: HeldOutEvaluation) -> None:
        super().__init__()
        self.evaluation = evaluation
        self._printed = 0  # of its results
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.description}"),
        )

    def _on_training_start(self) -> None:
        self._total = self.locals["total_timesteps"]
        self._task = self._bar.add_task("", total=self._total)
        if self._bar.console.is_terminal:
            self._bar.start()
        else:
            self._print(f"Training for {self._total:,} steps")

    def _on_step(self) -> bool:
        self._bar.update(self._task, completed=self.num_timesteps)
        return True

    def _on_rollout_start(self) -> None:
        for step, success, distance in self.evaluation.results[self._printed :]:
            quality = f"{success:4.0%} reached, {distance * 1000:5.1f} mm off"
            self._bar.update(self._task, description=quality)
            if not self._bar.console.is_terminal:
                self._print(f"{step:>9,}/{self._total:,} steps: {quality}")
        self._printed = len(self.evaluation.results)

    @staticmethod
    def _print(line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody reads on: train on
            print(line, flush=True)

    def _on_training_end(self) -> None:
        self._on_step()

    def close(self) -> None:
        self._on_rollout_start()  # the last results
        if self._bar.live.is_started:  # else it would write a line of its own
            self._bar.stop()


class Window(BaseCallback):
    """Shows one arm driven by the policy as it learns, in real time.

    It has a simulation of its own and moves when 1/25 s has gone by, so that training
    neither waits for it nor differs by it.
    """

    def __init__(self, control_type: str) -> None:
        super().__init__()
        self._env = gym.make("PandaReach-v2", render_mode="human", control_type=control_type)
        self._observation, _ = self._env.reset(seed=utils.HELD_OUT_SEED)
        self._next_frame = 0.0

    def _on_step(self) -> bool:
        if time.perf_counter() >= self._next_frame:
            self._next_frame = time.perf_counter() + 1 / self._env.metadata["render_fps"]
            action, _ = self.model.predict(self._observation, deterministic=True)
            self._observation, _, _, truncated, _ = self._env.step(action)
            if truncated:
                self._observation, _ = self._env.reset()
        return True

    def close(self) -> None:
        self._env.close()


class Diverged(RuntimeError):
    """A number in training is NaN or infinite; the message says which."""


class SafeSaving(BaseCallback):
    """Saves now and then, keeps the last good parameters, and stops when asked to.

    Ctrl-C and SIGTERM (a cluster's time limit) end training after the step it is at.

    Args:
        model: to be saved.
        path: the agent's zip, always whole: see ``save_agent``.
        every: s between two saves: what a power cut can cost at most.
    """

    def __init__(self, model: PPO, path: Path, every: float = 30.0) -> None:
        super().__init__()
        self.model = model
        self.path = path
        self.every = every
        self.stopped_by: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def _on_training_start(self) -> None:
        self.save()  # a full disk shows here, not after minutes of training
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        self.stopped_by = signal.Signals(number)
        self.close()  # who asks a second time means at once

    def _on_rollout_start(self) -> None:  # the policy has just been updated
        self._check()
        parameters: Any = copy.deepcopy(self.model.get_parameters())
        self._good = parameters, self.num_timesteps
        if time.monotonic() >= self._next_save:
            self.save()

    def _on_step(self) -> bool:
        if not all(np.isfinite(values).all() for values in self.locals["new_obs"].values()):
            raise Diverged("an observation")
        return self.stopped_by is None

    def _on_training_end(self) -> None:
        self._check()
        self.save()
        self.close()

    def _check(self) -> None:
        policy = self.model.policy
        numbers = [*policy.parameters(), policy.state_dict()["log_std"].exp()]
        if not all(bool(number.isfinite().all()) for number in numbers):
            raise Diverged("the weights")

    def restore_last_good(self) -> None:
        """Set the model back to where its last sound update had left it."""
        parameters, self.model.num_timesteps = self._good
        self.model.set_parameters(parameters)

    def save(self) -> None:
        utils.save_agent(self.model, self.path)
        self._next_save = time.monotonic() + self.every

    def close(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


class WeightsAndBiases:
    """Sends what TensorBoard gets to Weights & Biases as well; offline without a login.

    Raises:
        UsageError: the package is not installed.
    """

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError:
            raise utils.UsageError("--wandb needs one more package: pip install wandb") from None
        self._wandb: Any = wandb  # its types leave out wandb.tensorboard

    def start(self, run: str, hparams: dict[str, Any]) -> None:
        """To be called before the TensorBoard writer, which is followed, is made."""
        online = os.environ.get("WANDB_MODE") != "offline" and self._wandb.login(prompt=False)
        self._wandb.tensorboard.patch(root_logdir=str(utils.RUNS / run), pytorch=True)
        self._run = self._wandb.init(
            project="panda-reach",
            name=run,
            config=hparams,
            dir=utils.ROOT,
            mode="online" if online else "offline",
            settings=self._wandb.Settings(silent=True, console="off"),
        )
        self._offline = not online

    def finish(self, agent: Path) -> None:
        """Add the agent as an artifact, and say where all that is."""
        artifact = self._wandb.Artifact(agent.stem.replace(" ", "_"), type="model")
        artifact.add_file(str(agent))
        self._run.log_artifact(artifact)
        if self._offline:
            sync = utils.command("wandb", "sync", Path(self._run.dir).parent)
            print(f"Weights & Biases was offline, for want of a login. To send it: {sync}")
        else:
            print("Weights & Biases:", self._run.url)
        self._run.finish()
        self._wandb.tensorboard.unpatch()


class Watchers(CallbackList):
    """All of the above for one run.

    The agent is saved when training ends, and where the ``with`` block is left early,
    whatever happened. Its end waits for the live evaluation's last result.

    Args:
        model: about to be trained.
        path: of the agent's zip.
        hparams: the run's, for TensorBoard; ``control_type`` and ``total_timesteps``
            among them.
        render: whether to show a window.

    Raises:
        DisplayError: ``render`` without a display.
        UsageError: on leaving, when a number in training was no longer finite; the
            agent is saved as the last sound update had left it.
    """

    def __init__(self, model: PPO, path: Path, hparams: dict[str, Any], render: bool) -> None:
        self._saving = SafeSaving(model, path)
        every = max(2048, hparams["total_timesteps"] // 25)
        self._evaluation = HeldOutEvaluation(hparams["control_type"], every, hparams)
        progress = Progress(self._evaluation)
        watchers: list[Any] = [self._saving, self._evaluation, progress]
        if render:
            watchers.append(Window(hparams["control_type"]))
        self._watchers = watchers
        super().__init__(watchers)

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The signal that ended training early; SIGINT for a closed window."""
        return self._saving.stopped_by

    def __enter__(self) -> "Watchers":
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> bool:
        saving = self._saving
        try:
            # PyTorch's distributions have words of their own for what is no finite number.
            diverged = isinstance(error, Diverged) or "Expected parameter" in str(error)
            if diverged:
                saving.restore_last_good()
            if error:  # else training has ended, and saved
                saving.save()
            if diverged:
                raise utils.UsageError(
                    f"training diverged: {error if isinstance(error, Diverged) else 'the weights'} "
                    f"came to be no finite number; the agent of {saving.model.num_timesteps:,} "
                    f"steps is saved in {saving.path}; try a smaller --learning-rate"
                ) from None
            if not (error or saving.stopped_by):  # who presses Ctrl-C does not want to wait
                self._evaluation.finish()
        finally:
            for watcher in self._watchers:
                watcher.close()
        if isinstance(error, WindowClosed):
            saving.stopped_by = signal.SIGINT
            return True
        return False
