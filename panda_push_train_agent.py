"""Train SAC with HER to move a cube to a goal: environment, SAC, learn, save, judge.

    python panda_push_train_agent.py
    python panda_push_train_agent.py --task PickAndPlace
    python panda_push_train_agent.py --help

Read panda_reach_train_agent.py first. The numbers and their reasons are in panda_rl/recipes.py.
"""

import time
from functools import partial

import torch
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from panda_rl import agents, callbacks, cli, evaluation, features, recipes, starts


def make_env(config: recipes.PushConfig) -> VecEnv:
    # The reward is 0 if the cube is within 5 cm of its goal, else -1. In PickAndPlace, some
    # episodes start at a grasp.
    return make_vec_env(
        f"Panda{config.task}-v2",
        config.n_envs,
        seed=config.seed,
        wrapper_class=partial(starts.GraspStarts, held=config.held, around=config.around),
    )


def make_model(config: recipes.PushConfig, env: VecEnv) -> SAC:
    torch.set_num_threads(1)  # one thread adds in a fixed order: the same seed, the same agent
    policy_kwargs = {
        "net_arch": list(config.net_arch),
        "n_critics": config.n_critics,
        "activation_fn": features.NormReLU,
        "optimizer_kwargs": {"fused": True},  # one call for all parameters
    }
    if config.goal_scale:  # the networks see the ways from hand to cube and from cube to goal
        policy_kwargs["features_extractor_class"] = features.RelativeCube
        policy_kwargs["features_extractor_kwargs"] = {"scale": config.goal_scale}
    rate = config.learning_rate
    return SAC(
        "MultiInputPolicy",
        env,
        # SAC keeps its experience in a replay buffer, and learns from each step many times.
        buffer_size=config.buffer_size or config.total_timesteps,
        # HER learns from failures: for most steps that it replays, it pretends that the goal
        # was where the cube got to later in the episode.
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": config.n_sampled_goal},
        learning_starts=config.learning_starts,
        train_freq=config.train_freq,
        gradient_steps=config.gradient_steps,
        batch_size=config.batch_size,
        # Constant in the first half; then it falls to 0, since the success swings while it is high.
        learning_rate=lambda remaining: rate * min(1.0, max(0.0, 2 * remaining)),
        gamma=config.gamma,
        tau=config.tau,
        ent_coef=f"auto_{config.ent_coef}",
        target_entropy=config.target_entropy,
        policy_kwargs=policy_kwargs,
        seed=config.seed,
        device="cpu",
    )


def train() -> None:
    config = recipes.parse_push()
    start = time.perf_counter()
    env = make_env(config)
    model = make_model(config, env)
    watch = callbacks.Watch(config)  # before anything is written, as it may fail

    # Each training is a new run, with an agent and curves of its own.
    path, curves = cli.new_run(f"Panda{config.task}_SAC_v2", config.name)
    if config.wandb:
        cli.log_to_wandb(path.stem, config.saved())
    model.set_logger(configure(str(curves), ["tensorboard"]))
    print(f"Training {path.stem} for {config.total_timesteps:,} steps", flush=True)
    evaluate = callbacks.Evaluate(config, path, evaluation.CHOOSING_GOALS)
    try:
        # Until all steps are taken, SAC repeats this:
        #   - Play train_freq steps in each of n_envs environments. The actor, a network, gives
        #     the mean and the size of the noise of each action. Keep the steps in the buffer.
        #   - Take gradient_steps random minibatches of batch_size from the buffer. Each teaches
        #     the critic, another network, what return to expect of an action, and makes actions
        #     more likely for which it expects more.
        model.learn(config.total_timesteps, callback=[evaluate, watch])
    finally:  # also after Ctrl-C, a cluster's SIGTERM, a closed window or a bug
        agents.save(model, path, config.saved())
        if model.num_timesteps < config.total_timesteps:
            tqdm.write(f"Stopped at {model.num_timesteps:,} steps. {path.name} is saved.")

    # Judge the saved file, on goals that were used neither to train nor to choose.
    agents.judge(path, config.seed, seconds=time.perf_counter() - start)


if __name__ == "__main__":
    cli.run(train)
