"""Evaluating, saving and watching while PPO learns. None of it changes what is learned."""

import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, Image

from panda_rl import agents, evaluation
from panda_rl.recipes import Config

FIRST_EVALUATION_STEPS = 2_048
LONGEST_GAP_STEPS = 50_000
"""A minute or so: what a power cut can cost."""


class Evaluate(BaseCallback):
    """Plays held-out goals now and then, and saves the agent.

    It plays before training and after it. In between, each gap is twice as long as the last one,
    since most is learned at first. Logs ``eval/success_rate``, ``eval/mean_final_distance`` (m)
    and the image ``eval/episode``, frames of one episode side by side. It also prints a line.

    Args:
        config: the run's config.
        path: the agent's file.

    Raises:
        UsageError: by training, if it diverged. The file keeps the last agent that was sound.
    """

    TAGS = ("eval/success_rate", "eval/mean_final_distance")
    FRAMES = (0, 4, 50)
    """The steps of an episode that the film strip shows."""

    def __init__(self, config: Config, path: Path) -> None:
        super().__init__()
        self.config = config
        self.path = path
        self.env = gym.make("PandaReach-v2", control_type=config.control_type)
        self._next = 0
        self._gap = FIRST_EVALUATION_STEPS

    def _on_training_start(self) -> None:
        # TensorBoard shows hyperparameters only together with a metric.
        numbers = {
            name: value if isinstance(value, int | float) else str(value)
            for name, value in self.config.saved().items()
        }
        self.logger.record("hparams", HParam(numbers, dict.fromkeys(self.TAGS, 0.0)))

    def _on_rollout_start(self) -> None:  # the policy has just been updated
        if self.num_timesteps >= self._next:
            self._evaluate()
            self._next = self.num_timesteps + self._gap
            self._gap = min(2 * self._gap, LONGEST_GAP_STEPS)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._evaluate()
        self.env.close()

    def _evaluate(self) -> None:
        agents.save(self.model, self.path, self.config.saved())
        frames: list[np.ndarray] = []

        def film(step: int, distance: float, reached: bool) -> None:
            if step in self.FRAMES and len(frames) < len(self.FRAMES):
                frames.append(self.env.get_wrapper_attr("picture")(240, 240, fov=25))

        episodes = [
            evaluation.play(self.model, self.env, goal, film) for goal in evaluation.CHOOSING_GOALS
        ]
        result = evaluation.summary(episodes)
        success, distance = result["success_rate"], result["mean_final_distance"]
        for tag, value in zip(self.TAGS, (success, distance), strict=True):
            self.logger.record(tag, value)
        self.logger.record("eval/episode", Image(np.hstack(frames), "HWC"))  # (240, 720, 3)
        self.logger.dump(self.num_timesteps)
        print(
            f"{self.num_timesteps:>9,}/{self.config.total_timesteps:,} steps: "
            f"{success:4.0%} of the goals reached, {distance * 1000:5.1f} mm off on average",
            flush=True,
        )


class Watch(BaseCallback):
    """Shows an arm in real time, moved by the policy as it learns.

    The arm has its own simulation and moves at most every 1/25 s, so training neither waits
    for it nor is changed by it.

    Raises:
        DisplayError: no window can be opened.
        WindowClosed: by training, when the window is closed.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.env = gym.make("PandaReach-v2", render_mode="human", control_type=config.control_type)
        self._observation, _ = self.env.reset(seed=evaluation.CHOOSING_SEED)
        self._next_frame = 0.0

    def _on_step(self) -> bool:
        if time.perf_counter() >= self._next_frame:
            self._next_frame = time.perf_counter() + 1 / self.env.metadata["render_fps"]
            action, _ = self.model.predict(self._observation, deterministic=True)
            self._observation, _, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:
                self._observation, _ = self.env.reset()
        return True

    def _on_training_end(self) -> None:
        self.env.close()
