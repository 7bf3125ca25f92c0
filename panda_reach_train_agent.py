"""Train PPO to move the Panda's hand to a goal.

Read it from top to bottom: the numbers, the environment, PPO, then learn, save and judge.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from panda_rl import agents, callbacks, cli, configs, evaluation, files, workers
from panda_rl.env import ControlType, RewardType
from panda_rl.errors import UsageError
from panda_rl.features import RelativeGoal
from panda_rl.rewards import EffortPenalty

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv


@dataclass(frozen=True)
class Config:
    """Train PPO on PandaReach-v2, and save the agent and its curves.

    The agent goes to rl-trained-agents/<run>.zip, its curves to runs/<run>/.

    Each variant has its own defaults: --control-type joints --help shows them.
    """

    control_type: ControlType = "ee"
    """What an action moves: the hand (ee) or the seven joints."""
    reward_type: RewardType = "dense"
    """Minus the distance (dense), or -1 beyond 5 cm (sparse)."""
    total_timesteps: int = 20_480
    """Steps of experience, over all environments."""
    seed: int = 0
    """Random seed: it fixes the goals, the initial weights and the exploration noise."""

    n_envs: int = 8
    """Environments that collect experience side by side."""
    n_steps: int = 32
    """Steps in each environment between two updates."""
    batch_size: int = 64
    """Steps in a minibatch."""
    n_epochs: int = 10
    """Passes over the experience at each update."""
    learning_rate: float = 2e-3
    """Adam's initial learning rate. It falls linearly to 0."""
    gamma: float = 0.5
    """Discount. 0 counts only the next reward; 1 counts all rewards equally."""
    gae_lambda: float = 0.8
    """Advantage estimation: 0 for low variance, 1 for low bias."""
    clip_range: float = 0.3
    """How far an update may usefully change an action's probability."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients longer than this are scaled down."""
    log_std_init: float = -0.25
    """Log of the initial standard deviation of the exploration noise."""
    adam_beta2: float = 0.99
    """Decay rate of Adam's average of squared gradients."""
    goal_scale: float = 8.0
    """Scale of the goal-vector input (1/m). 0: Stable-Baselines3's own input."""
    effort_coef: float = 3e-3
    """Effort penalty: the reward lost for an action of length 1."""

    name: cli.OptionalStr = None
    """Name of the run; by default PandaReach_PPO_v2_<control>_<reward>_<n>."""
    resume: cli.OptionalPath = None
    """A saved agent to continue training."""
    n_workers: cli.OptionalInt = None
    """More processes that simulate; by default one for each further core."""
    render: cli.Flag = False
    """Open a window and watch the policy as it learns."""
    wandb: cli.Flag = False
    """Log to Weights & Biases as well; offline without a login."""


# The recipe of each variant. Those after the first list only what they change.
#   gamma, gae_lambda: a dense reward shows at once how good an action was, best of all when
#     the action moves the hand itself (ee). A sparse one needs a longer view.
#   n_epochs, learning_rate: passes cost time, and fewer passes need larger steps.
#   n_steps, batch_size: the more there is to coordinate or to explore, the more experience
#     an update should average over.
#   log_std_init: seven joints, or a sparse reward, need less exploration noise.
#   ent_coef: once at the goal, nothing but noise makes a sparse reward favour its middle.
#   vf_coef: with 0.5 and no effort penalty, some joints runs got stuck at 95% of the goals.
#   effort_coef: what costs nothing chatters (ee) or drifts (joints). A sparse reward forgives
#     more of it, so the cost must be higher.
RECIPES = {
    ("ee", "dense"): Config(),
    ("joints", "dense"): Config(
        control_type="joints",
        n_steps=64,
        n_epochs=6,
        learning_rate=3e-3,
        gamma=0.7,
        log_std_init=-0.5,
        vf_coef=0.1,
    ),
    ("ee", "sparse"): Config(
        reward_type="sparse",
        total_timesteps=30_720,
        n_steps=128,
        batch_size=128,
        gamma=0.8,
        gae_lambda=0.9,
        ent_coef=0.02,
        log_std_init=-0.5,
        effort_coef=3e-2,
    ),
    ("joints", "sparse"): Config(
        control_type="joints",
        reward_type="sparse",
        total_timesteps=40_960,
        n_steps=128,
        batch_size=128,
        gamma=0.8,
        gae_lambda=0.9,
        ent_coef=0.02,
        log_std_init=-0.5,
        vf_coef=0.1,
        effort_coef=2e-2,
    ),
}


def make_env(config: Config) -> VecEnv:
    """``n_envs`` copies of PandaReach-v2.

    Each has its own simulator and its own seed, so what PPO learns does not depend on the
    number of processes.
    """
    return make_vec_env(
        "PandaReach-v2",
        config.n_envs,
        seed=config.seed,
        env_kwargs={"control_type": config.control_type, "reward_type": config.reward_type},
        wrapper_class=partial(EffortPenalty, coef=config.effort_coef),
        **workers.spread(config.n_workers),
    )


def make_model(config: Config, env: VecEnv) -> PPO:
    # The networks are so small that a second thread costs more than it gains. One thread
    # also adds in a fixed order, so the same seed gives the same agent.
    torch.set_num_threads(1)
    policy_kwargs: dict[str, Any] = {
        "log_std_init": config.log_std_init,
        # fused: one call updates all parameters, which is faster when they are few
        "optimizer_kwargs": {"betas": (0.9, config.adam_beta2), "fused": True},
    }
    if config.goal_scale:
        policy_kwargs["features_extractor_class"] = RelativeGoal
        policy_kwargs["features_extractor_kwargs"] = {"scale": config.goal_scale}
    return PPO(
        "MultiInputPolicy",
        env,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        learning_rate=LinearSchedule(config.learning_rate, 0.0, 1.0),
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs=policy_kwargs,
        seed=config.seed,
        device="cpu",
    )


def train(config: Config) -> Path:
    """Train, save and judge an agent.

    Returns:
        The agent's file.

    Raises:
        Stopped: Ctrl-C, SIGTERM or a closed window ended training; the agent is saved.
        UsageError: a number is out of range, the run exists, something can't be written,
            there is no display to render on, or training diverged.
        WorkerDied: a simulation process died; the agent is saved.
    """
    configs.check(config)
    agent = agents.read(config.resume) if config.resume else None
    if agent and agent.num_timesteps >= config.total_timesteps:
        raise UsageError(
            f"{config.resume} already has {agent.num_timesteps:,} steps: "
            "to continue, give a larger --total-timesteps"
        )
    name = f"PandaReach_PPO_v2_{config.control_type}_{config.reward_type}"
    start = time.perf_counter()
    with (
        files.run(config.name, name, config.resume) as (path, curves),
        closing(make_env(config)) as env,
        closing(evaluation.make_env(config.control_type, config.n_workers)) as held_out,
    ):
        model = make_model(config, env)
        if agent:
            agents.restore(model, agent)
            # Continue on new goals, but never on held-out ones.
            n_seeds = evaluation.CHOOSING_SEED - config.n_envs
            model.set_random_seed((config.seed + agent.num_timesteps) % n_seeds)

        # Evaluate and save regularly, and save if training is stopped or fails.
        with callbacks.watching(model, held_out, path, curves, config) as watching:
            model.learn(
                config.total_timesteps - model.num_timesteps,
                callback=watching,
                reset_num_timesteps=agent is None,
            )
            agents.save(model, path, configs.saved(config))
        seconds = time.perf_counter() - start

        # Judge the saved file, on goals that were used neither to train nor to choose.
        policy = agents.read(path).policy(env.observation_space, env.action_space)
        episodes = evaluation.evaluate(policy, held_out, evaluation.JUDGING_GOALS)
    evaluation.print_table(
        path.stem,
        evaluation.JUDGING_GOALS,
        episodes,
        steps=f"{model.num_timesteps:,}",
        seconds=f"{seconds:.1f}" + (", since it was resumed" if agent else ""),
        seed=f"{config.seed}",
    )
    print("Watch it: ", cli.command("python", files.ROOT / "panda_reach_test_agent.py", path))
    print("Its curve:", cli.command("tensorboard", "--logdir", files.RUNS))
    return path


if __name__ == "__main__":
    cli.run(train, partial(configs.parse, RECIPES))
