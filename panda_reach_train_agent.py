"""Train PPO to move the Panda's hand to a goal: environment, PPO, learn, save, judge.

    python panda_reach_train_agent.py
    python panda_reach_train_agent.py --control-type joints --reward-type sparse
    python panda_reach_train_agent.py --gamma 0.99 --seed 1 --name my_first_change
    python panda_reach_train_agent.py --help

The numbers, each with its reason, are in panda_rl/recipes.py.
"""

import multiprocessing
import sys
import time
from functools import partial

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from panda_rl import agents, cli, evaluation, recipes
from panda_rl.callbacks import Evaluate, Watch
from panda_rl.features import RelativeGoal
from panda_rl.recipes import Config
from panda_rl.rewards import EffortPenalty
from panda_rl.window import WindowClosed


def make_env(config: Config) -> VecEnv:
    # Several arms, each with its own simulator and its own goals.
    multiprocessing.set_forkserver_preload(["panda_rl.env"])
    return make_vec_env(
        "PandaReach-v2",
        config.n_envs,
        seed=config.seed,
        env_kwargs={"control_type": config.control_type, "reward_type": config.reward_type},
        wrapper_class=partial(EffortPenalty, coef=config.effort_coef),
        vec_env_cls=SubprocVecEnv if config.subprocesses else DummyVecEnv,
    )


def make_model(config: Config, env: VecEnv) -> PPO:
    # The networks are so small that a second thread costs more than it gains. One thread
    # also adds in a fixed order, so the same seed gives the same agent.
    torch.set_num_threads(1)
    policy_kwargs = {
        "net_arch": list(config.net_arch),
        "log_std_init": config.log_std_init,
        # fused: one call updates all parameters, which is faster when they are few
        "optimizer_kwargs": {"betas": (0.9, config.adam_beta2), "fused": True},
    }
    # The networks see the vector from the hand to the goal.
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


def train() -> None:
    config = recipes.parse()
    start = time.perf_counter()
    env = make_env(config)
    model = make_model(config, env)
    if config.resume:
        agents.read(config.resume).restore(model)
        # Go on with new goals, but never with held-out ones.
        model.set_random_seed(
            (config.seed + model.num_timesteps) % (evaluation.CHOOSING_SEED - config.n_envs)
        )
    if model.num_timesteps >= config.total_timesteps:
        raise cli.UsageError(
            f"{config.resume} has {model.num_timesteps:,} steps already: "
            "to train it further, give a larger --total-timesteps"
        )

    # Every training is a new run, with an agent and curves of its own.
    path, curves = cli.new_run(f"PandaReach_PPO_v2_{config.variant}", config.name)
    print(f"Training {path.stem} for {config.total_timesteps:,} steps", flush=True)
    model.set_logger(configure(str(curves), ["tensorboard"]))

    # Evaluate plays and saves the agent now and then.
    watching = [Evaluate(config, path), *([Watch(config)] if config.render else [])]
    try:
        # PPO repeats this until all steps are taken:
        #   - Play n_steps in each of n_envs environments. The policy network gives the mean of
        #     each action, and noise is added to it.
        #   - Compute each action's advantage: how much better it turned out than the value
        #     network had predicted.
        #   - Go n_epochs times through these steps in random minibatches of batch_size. Each
        #     minibatch makes actions with a positive advantage a little more likely, and the
        #     others less, and teaches the value network what really happened.
        #   - Forget these steps: they show what an older policy did.
        model.learn(
            config.total_timesteps - model.num_timesteps,
            callback=watching,
            reset_num_timesteps=not config.resume,
            progress_bar=sys.stdout.isatty(),
        )
    except (KeyboardInterrupt, WindowClosed):  # Ctrl-C, a cluster's SIGTERM, a closed window
        agents.save(model, path, config.saved())
        print(f"Stopped at {model.num_timesteps:,} of {config.total_timesteps:,} steps. To go on:")
        print(cli.command(__file__, "--resume", path))
        raise KeyboardInterrupt from None
    except ValueError:
        if agents.is_finite(model.policy):
            raise
        raise cli.UsageError(
            f"training diverged: try a smaller --learning-rate than {config.learning_rate}. "
            f"{path} is from the last evaluation."
        ) from None
    seconds = time.perf_counter() - start

    # Judge the saved file, on goals that were used neither to train nor to choose.
    print("Judging the saved agent on 100 goals", flush=True)
    judge = gym.make("PandaReach-v2", control_type=config.control_type)
    policy = agents.read(path).policy(judge)
    episodes = [evaluation.play(policy, judge, goal) for goal in evaluation.JUDGING_GOALS]
    evaluation.print_table(
        path.stem,
        evaluation.JUDGING_SEED,
        episodes,
        steps=f"{model.num_timesteps:,}",
        seconds=f"{seconds:.1f}",
        seed=f"{config.seed}",
    )
    print("Watch it: ", cli.command(cli.ROOT / "panda_reach_test_agent.py", path))
    print("Its curve:", cli.command("-m", "tensorboard.main", "--logdir", cli.RUNS))


if __name__ == "__main__":
    cli.run(train)
