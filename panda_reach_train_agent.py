"""Train PPO to move the Panda's hand to a goal: environment, PPO, learn, save, judge.

    python panda_reach_train_agent.py
    python panda_reach_train_agent.py --control-type joints --reward-type sparse
    python panda_reach_train_agent.py --help

The numbers, each with its reason, are in panda_rl/recipes.py.
"""

import multiprocessing
import time
from functools import partial

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from tqdm import tqdm

from panda_rl import agents, callbacks, cli, evaluation, features, recipes, rewards


def make_env(config: recipes.Config) -> VecEnv:
    multiprocessing.set_forkserver_preload(["stable_baselines3"])  # one import for all processes
    # Several arms, each with its own simulator and its own goals.
    return make_vec_env(
        "PandaReach-v2",
        config.n_envs,
        seed=config.seed,
        env_kwargs={"control_type": config.control_type, "reward_type": config.reward_type},
        wrapper_class=partial(rewards.EffortPenalty, coef=config.effort_coef),
        vec_env_cls=SubprocVecEnv if config.subprocesses else DummyVecEnv,
    )


def make_model(config: recipes.Config, env: VecEnv) -> PPO:
    # The networks are so small that a second thread costs more than it gains. One thread
    # also adds in a fixed order, so the same seed gives the same agent.
    torch.set_num_threads(1)
    policy_kwargs = {
        "net_arch": list(config.net_arch),
        "log_std_init": config.log_std_init,
        # fused: one call for all parameters. (With any argument, SB3 leaves Adam's eps at 1e-8.)
        "optimizer_kwargs": {"betas": (0.9, config.adam_beta2), "fused": True},
    }
    if config.goal_scale:  # the networks see the vector from the hand to the goal
        policy_kwargs["features_extractor_class"] = features.RelativeGoal
        policy_kwargs["features_extractor_kwargs"] = {"scale": config.goal_scale}
    return PPO(
        "MultiInputPolicy",  # a network for observations that are dictionaries
        env,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        learning_rate=LinearSchedule(config.learning_rate, end=0.0, end_fraction=1.0),
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


def train() -> None:
    config = recipes.parse()
    start = time.perf_counter()
    env = make_env(config)
    model = make_model(config, env)
    if config.resume:
        agents.read(config.resume).restore(model)
    watch = callbacks.Watch(config)  # before anything is written, as it may fail

    # Each training is a new run, with an agent and curves of its own.
    variant = f"{config.control_type}_{config.reward_type}"
    path, curves = cli.new_run(f"PandaReach_PPO_v2_{variant}", config.name)
    if config.wandb:
        cli.log_to_wandb(path.stem, config.saved())
    model.set_logger(configure(str(curves), ["tensorboard"]))
    print(f"Training {path.stem} for {config.total_timesteps:,} steps", flush=True)
    try:
        # Until all steps are taken, PPO repeats this:
        #   - Play n_steps in each of n_envs environments. The policy network gives the mean of
        #     each action, and noise is added to it.
        #   - Give each action its advantage: how much more reward it brought than the value
        #     network had predicted.
        #   - Go over these steps n_epochs times, in random minibatches of batch_size. Each makes
        #     actions with a positive advantage a little more likely, the others less, and
        #     teaches the value network what really happened.
        #   - Forget these steps. They show what an older policy did.
        model.learn(
            config.total_timesteps - model.num_timesteps,
            callback=[callbacks.Evaluate(config, path, evaluation.CHOOSING_GOALS[:10]), watch],
            reset_num_timesteps=False,  # a resumed agent counts on
        )
    finally:  # also after Ctrl-C, a cluster's SIGTERM, a closed window or a bug
        agents.save(model, path, config.saved())
        if model.num_timesteps < config.total_timesteps:
            tqdm.write(f"Stopped at {model.num_timesteps:,} steps. To go on:")
            tqdm.write(cli.command("python", __file__, "--resume", path))

    # Judge the saved file, on goals that were used neither to train nor to choose.
    agents.judge(path, config.seed, seconds=time.perf_counter() - start)


if __name__ == "__main__":
    cli.run(train)
