"""Evaluating, saving and watching while PPO learns. None of it changes what is learned."""

import contextlib
import copy
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panda_rl import agents, cli, configs, evaluation, files, interrupts, tracking
from panda_rl.errors import UsageError, WindowClosed

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.logger import HParam, Image
from stable_baselines3.common.vec_env import VecEnv

EVALUATIONS = 10
"""Evaluations in a run, after the one at its start."""
EVALUATION_GOALS = range(evaluation.CHOOSING_SEED, evaluation.CHOOSING_SEED + 20)
SAVE_SECONDS = 30
"""Seconds between two saves: the most that a power cut can cost."""


@contextlib.contextmanager
def watching(
    model: PPO, held_out: VecEnv, path: Path, curves: Path, config: Any
) -> Iterator[list[BaseCallback]]:
    """The callbacks of a run. Call ``learn`` inside this context, and then save the agent.

    Args:
        model: the model that is about to learn.
        held_out: environments for the evaluations.
        path: the agent's file.
        curves: the folder for TensorBoard.
        config: the run's config.

    Raises:
        Stopped, UsageError: see Saving.
    """
    saving = Saving(model, path, config)
    callbacks = [saving, LiveEvaluation(held_out, config)]
    cli.say(f"Training {path.stem} for {config.total_timesteps:,} steps")
    with contextlib.ExitStack() as stack:
        if sys.stdout.isatty():
            callbacks.append(Progress())
            stack.callback(callbacks[-1].on_training_end)
        if config.render:
            window = TrainingWindow(config.control_type)
            stack.callback(window.close)
            callbacks.append(window)
        if config.wandb:
            numbers = configs.saved(config)
            stack.enter_context(tracking.weights_and_biases(path, curves, numbers))
        stack.enter_context(tracking.tensorboard(model, curves))
        stack.enter_context(saving)
        yield callbacks


class LiveEvaluation(BaseCallback):
    """Evaluates the deterministic policy on held-out goals at regular intervals.

    Logs the scalars ``eval/success_rate`` and ``eval/mean_final_distance`` (m) and the image
    ``eval/episode``, frames of one episode side by side. It also prints a line.

    Args:
        env: environments for the evaluations; training never uses them.
        config: the run's config, for TensorBoard's HParams tab.
    """

    TAGS = ("eval/success_rate", "eval/mean_final_distance")
    FRAMES = (0, 3, 6, 12, 49)

    def __init__(self, env: VecEnv, config: Any) -> None:
        super().__init__()
        self.env = env
        self.config = config
        self._next = 0

    def _on_training_start(self) -> None:
        # TensorBoard shows hyperparameters only together with a metric.
        hparam = HParam(configs.saved(self.config), dict.fromkeys(self.TAGS, 0.0))
        self.logger.record("hparams", hparam)

    def _on_rollout_start(self) -> None:  # the policy has just been updated
        if self.num_timesteps >= self._next:
            self._evaluate()
            every = max(self.config.total_timesteps // EVALUATIONS, 2048)
            self._next = self.num_timesteps + every

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._evaluate()

    def _evaluate(self) -> None:
        strip: list[np.ndarray] = []

        def film(step: int) -> None:
            if step in self.FRAMES and len(strip) < len(self.FRAMES):
                strip.extend(self.env.env_method("picture", 240, 160, indices=[0]))

        episodes = evaluation.evaluate(self.model, self.env, EVALUATION_GOALS, film)
        result = evaluation.summary(episodes)
        success, distance = result["success_rate"], result["mean_final_distance"]
        for tag, value in zip(self.TAGS, (success, distance), strict=True):
            self.logger.record(tag, value)
        self.logger.record("eval/episode", Image(np.hstack(strip), "HWC"))  # (160, 1200, 3)
        self.logger.dump(self.num_timesteps)
        cli.say(
            f"{self.num_timesteps:>9,}/{self.config.total_timesteps:,} steps: "
            f"{success:4.0%} of the goals reached, {distance * 1000:5.1f} mm off on average"
        )


class Progress(ProgressBarCallback):
    """Stable-Baselines3's progress bar, which also ends if training fails."""

    pbar: Any = None

    def _on_training_end(self) -> None:
        if self.pbar is not None:
            super()._on_training_end()
            self.pbar = None


class TrainingWindow(BaseCallback):
    """Shows an arm in real time, moved by the policy as it learns.

    The arm has its own simulation and moves at most every 1/25 s, so training neither waits
    for it nor is changed by it.
    """

    def __init__(self, control_type: str) -> None:
        super().__init__()
        self._env = gym.make("PandaReach-v2", render_mode="human", control_type=control_type)
        self._observation, _ = self._env.reset(seed=evaluation.CHOOSING_SEED)
        self._next_frame = 0.0

    def _on_step(self) -> bool:
        if time.perf_counter() >= self._next_frame:
            self._next_frame = time.perf_counter() + 1 / self._env.metadata["render_fps"]
            action = evaluation.act(self.model, self._observation)
            self._observation, _, terminated, truncated, _ = self._env.step(action)
            if terminated or truncated:
                self._observation, _ = self._env.reset()
        return True

    def close(self) -> None:
        self._env.close()


class Saving(BaseCallback):
    """A context manager that saves the agent regularly, and when ``learn`` is stopped or fails.

    Ctrl-C and SIGTERM (a cluster's time limit) stop training after the current step or
    minibatch. The agent is then saved as its last complete update left it.

    Args:
        model: the model that is about to learn.
        path: the agent's file.
        config: the run's config, saved with the agent.

    Raises:
        Stopped: a signal or a closed window ended training.
        UsageError: training diverged, or a file can't be written.
    """

    def __init__(self, model: PPO, path: Path, config: Any) -> None:
        super().__init__()
        self.model: PPO = model
        self.path = path
        self.config = config
        self._signal: int | None = None

    def __enter__(self) -> "Saving":
        self._remember()
        self.save()  # find out about a full disk now, not after minutes of training
        self._exits = contextlib.ExitStack()
        self._exits.enter_context(interrupts.handled_by(self._receive))
        # An update may take minutes, and a signal should not wait until it ends.
        optimizer = self.model.policy.optimizer
        self._exits.callback(
            optimizer.register_step_post_hook(lambda *_: self._stop_if_asked()).remove
        )
        return self

    def _receive(self, signum: int) -> None:
        self._signal = signum

    def _stop_if_asked(self) -> None:
        if self._signal is not None:
            raise interrupts.Stopped(self._signal)

    def _on_rollout_start(self) -> None:  # an update is complete
        self._remember()
        if time.monotonic() >= self._next_save:
            self.save()

    def _on_step(self) -> bool:
        self._stop_if_asked()
        return True

    def _on_training_end(self) -> None:
        self._remember()

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        diverged = isinstance(error, ValueError) and not self._is_sound()
        with self._exits:
            if error:
                parameters: Any
                parameters, self.model.num_timesteps = self._good
                self.model.set_parameters(parameters)
                self.save()
        self._explain(error, diverged)

    def _explain(self, error: BaseException | None, diverged: bool) -> None:
        """Raise an error that tells the user what ended training. A bug stays as it is."""
        steps = f"{self.model.num_timesteps:,}"
        saved = f"the agent of {steps} steps is saved in {self.path}"
        if error is None and self._signal is not None:  # it has all its steps
            raise interrupts.Stopped(self._signal)
        if isinstance(error, (interrupts.Stopped, WindowClosed)):
            signum = getattr(error, "signum", signal.SIGINT)
            script = files.ROOT / "panda_reach_train_agent.py"
            resume = cli.command("python", script, "--resume", self.path)
            stopped = f"Stopped at {steps} of {self.config.total_timesteps:,} steps"
            raise interrupts.Stopped(signum, f"{stopped}. To continue:\n  {resume}") from None
        if isinstance(error, OSError) and error.strerror:
            raise UsageError(f"cannot write the curves: {error.strerror}; {saved}") from None
        if diverged:
            raise UsageError(f"training diverged; {saved}; try a smaller --learning-rate") from None

    def save(self) -> None:
        agents.save(self.model, self.path, configs.saved(self.config))
        self._next_save = time.monotonic() + SAVE_SECONDS

    def _remember(self) -> None:
        """Keep a copy of the policy and the optimizer, in case the next update breaks them."""
        if not self._is_sound():
            raise ValueError("the policy has numbers that are not finite")
        self._good = copy.deepcopy(self.model.get_parameters()), self.model.num_timesteps

    def _is_sound(self) -> bool:
        """Whether the policy can act. Weights may be finite and still too large for that."""
        policy, observation = self.model.policy, self.model._last_obs
        try:
            if observation is not None:
                evaluation.act(policy, observation)
        except UsageError:
            return False
        numbers = [*policy.parameters(), policy.state_dict()["log_std"].exp()]
        return all(bool(number.isfinite().all()) for number in numbers)
