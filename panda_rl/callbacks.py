"""Evaluating, saving and watching while an agent learns. None of it changes what is learned."""

import time
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, Image
from tqdm import tqdm

from panda_rl import agents, evaluation
from panda_rl.recipes import Config, PushConfig

FIRST_GAP_STEPS = 2_048
LONGEST_GAP_STEPS = 20_000  # a power cut costs no more


class Evaluate(BaseCallback):
    """Saves the agent and plays held-out goals with it, now and then.

    That is before training, after it, and in between with gaps that triple, up to 20,000 steps,
    since most is learned at first. It writes a line and logs ``eval/success_rate``,
    ``eval/mean_final_distance`` (m) and ``film/episode``, pictures (240, 720, 3) of an episode
    after 0, 6 and 50 steps.
    Raises UsageError if training diverged.

    Args:
        config: of the run.
        path: where to save the agent.
        goals: the seeds of the goals to play.
    """

    TAGS = ("eval/success_rate", "eval/mean_final_distance")

    def __init__(self, config: Config | PushConfig, path: Path, goals: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.path = path
        self.goals = goals
        self.env = gym.make(f"Panda{config.task}-v2", control_type=config.control_type)
        self._next, self._gap = 0, FIRST_GAP_STEPS

    def _on_training_start(self) -> None:
        # TensorBoard shows hyperparameters only together with a metric, and takes no tuple.
        config = self.config.saved() | {"net_arch": str(self.config.net_arch)}
        self.logger.record("hparams", HParam(config, dict.fromkeys(self.TAGS, 0.0)))
        # disable=None: no bar if nobody is watching
        total = self.config.total_timesteps
        self.bar = tqdm(total=total, initial=self.num_timesteps, disable=None, leave=False)

    def _on_rollout_start(self) -> None:  # between two updates
        if self.num_timesteps >= self._next:
            self._evaluate()
            self._next = self.num_timesteps + self._gap
            self._gap = min(3 * self._gap, LONGEST_GAP_STEPS)

    def _on_step(self) -> bool:
        self.bar.update(self.training_env.num_envs)
        return True

    def _on_training_end(self) -> None:
        self._evaluate()
        self.bar.close()

    def _evaluate(self) -> None:
        agents.save(self.model, self.path, self.config.saved())  # type: ignore[arg-type]
        frames: list[np.ndarray] = []

        def film(step: int, distance: float, reached: bool) -> None:
            if step in (0, 6, 50) and len(frames) < 3:
                frames.append(self.env.get_wrapper_attr("picture")(240, 240, closeup=True))

        result = evaluation.summary(
            [evaluation.play(self.model, self.env, goal, film) for goal in self.goals]
        )
        success, distance = result["success_rate"], result["mean_final_distance"]
        for tag, value in zip(self.TAGS, (success, distance), strict=True):
            self.logger.record(tag, value)
        self.logger.record("film/episode", Image(np.hstack(frames), "HWC"))
        self.logger.dump(self.num_timesteps)
        self.bar.write(
            f"{self.num_timesteps:>9,}/{self.config.total_timesteps:,} steps: "
            f"{success:4.0%} of the goals reached, {distance * 1000:5.1f} mm off on average"
        )


class Watch(BaseCallback):
    """With ``--render``, shows an arm in a window, moved by the policy as it learns.

    It has its own simulation and moves at most every 1/25 s, so training hardly waits for it.
    Raises UsageError if no window can be opened, and WindowClosed when it is closed.
    """

    def __init__(self, config: Config | PushConfig) -> None:
        super().__init__()
        self.env: gym.Env | None = None
        self._next_frame = 0.0
        if config.render:
            name, control_type = f"Panda{config.task}-v2", config.control_type
            self.env = gym.make(name, render_mode="human", control_type=control_type)
            self._observation, _ = self.env.reset(seed=evaluation.CHOOSING_SEED)

    def _on_step(self) -> bool:
        if self.env and time.perf_counter() >= self._next_frame:
            self._next_frame = time.perf_counter() + 1 / self.env.metadata["render_fps"]
            action, _ = self.model.predict(self._observation, deterministic=True)
            self._observation, _, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:
                self._observation, _ = self.env.reset()
        return True
