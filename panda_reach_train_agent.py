"""Train PPO to bring the Franka Panda's hand to a goal."""

import inspect
import math
import time
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule

import panda_reach_callbacks as callbacks
import panda_reach_utils as utils
from panda_reach_env import ControlType, RewardType, require_display

# Where the variants want different numbers. All others are the defaults below.
# gamma, gae_lambda: a distance says at once how good an action was, and most of all where an
#   action is the way itself (ee); where only being at the goal is rewarded, look further ahead.
# learning_rate, n_epochs: passes cost time, and fewer of them want larger steps.
# n_steps, batch_size: the more there is to coordinate or to find out, the less noise an
#   update may have. Eight times n_steps is what it learns from.
# log_std_init: noise on three numbers finds the way; as much of it on seven drowns it.
# vf_coef: with 0.5, some seeds of joints stay at 95% of the goals.
# fmt: off
RECIPE: dict[tuple[str, str], dict[str, Any]] = {
    ("ee", "dense"): dict(
        total_timesteps=20_480, gamma=0.5, gae_lambda=0.8, learning_rate=2e-3,
        n_epochs=10, n_steps=32, batch_size=64, log_std_init=-0.25, vf_coef=0.5),
    ("joints", "dense"): dict(
        total_timesteps=20_480, gamma=0.7, gae_lambda=0.8, learning_rate=3e-3,
        n_epochs=6, n_steps=64, batch_size=64, log_std_init=-0.5, vf_coef=0.1),
    ("ee", "sparse"): dict(
        total_timesteps=30_720, gamma=0.8, gae_lambda=0.9, learning_rate=2e-3,
        n_epochs=10, n_steps=128, batch_size=128, log_std_init=-0.5, vf_coef=0.5),
    ("joints", "sparse"): dict(
        total_timesteps=40_960, gamma=0.8, gae_lambda=0.9, learning_rate=2e-3,
        n_epochs=10, n_steps=128, batch_size=128, log_std_init=-0.5, vf_coef=0.1),
}
# fmt: on


@utils.resumable
def train(
    control_type: ControlType = "ee",
    reward_type: RewardType = "dense",
    total_timesteps: utils.OptionalInt = None,
    n_envs: int = 8,
    seed: int = 0,
    render: bool = False,
    name: utils.OptionalStr = None,
    resume: utils.OptionalPath = None,
    wandb: bool = False,
    learning_rate: utils.OptionalFloat = None,
    n_steps: utils.OptionalInt = None,
    batch_size: utils.OptionalInt = None,
    n_epochs: utils.OptionalInt = None,
    gamma: utils.OptionalFloat = None,
    gae_lambda: utils.OptionalFloat = None,
    clip_range: float = 0.3,
    ent_coef: float = 0.0,
    vf_coef: utils.OptionalFloat = None,
    max_grad_norm: float = 0.5,
    log_std_init: utils.OptionalFloat = None,
    adam_beta2: float = 0.99,
    goal_scale: float = 8.0,
) -> int:
    """Train PPO on PandaReach-v2 and save the agent and its curves.

    The agent goes to rl-trained-agents/<run>.zip, its curves to runs/<run>/.

    Args:
        control_type: what an action moves: the hand (ee) or the seven joints.
        reward_type: minus the distance (dense), or -1 away from the goal (sparse).
        total_timesteps: steps of experience; 20,480 (dense), 30,720 (ee
            sparse) or 40,960 (joints sparse).
        n_envs: environments stepped in turn, one action of each at a time.
        seed: of the goals, the weights and the exploration.
        render: open a window with an arm that the policy drives as it learns.
        name: of the run; PandaReach_PPO_v2_<control>_<reward>_<n> if not given.
        resume: a saved agent to go on from, in the same run.
        wandb: log to Weights & Biases as well; offline without a login.
        learning_rate: Adam's at the start, falling linearly to 0; 3e-3 for
            joints dense, else 2e-3.
        n_steps: steps of each environment between updates; 32 for
            ee dense, 64 for joints dense, 128 for sparse.
        batch_size: steps in a minibatch; 64 (dense), 128 (sparse).
        n_epochs: passes over the experience at each update; 6 for
            joints dense, else 10.
        gamma: discount of the next step's reward; 0.5 for
            ee dense, 0.7 for joints dense, 0.8 for sparse.
        gae_lambda: bias (0) or variance (1) of advantages; 0.8 (dense), 0.9 (sparse).
        clip_range: how far an update may move an action's probability.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss; 0.5 (ee), 0.1 (joints).
        max_grad_norm: longest gradient.
        log_std_init: log of the exploration noise's standard deviation at the
            start; -0.25 with ee dense, else -0.5.
        adam_beta2: decay of Adam's mean of squared gradients.
        goal_scale: what the network sees the way to the goal multiplied by,
            per m; 0 for Stable-Baselines3's own input.

    Returns:
        The exit code: 0, or 128 + the signal that stopped it (130 for Ctrl-C or a
        closed window, 143 for SIGTERM); the agent is saved all the same.

    Raises:
        UsageError: an argument that can't be; a run that exists; a folder or a disk
            that can't be written; training that diverged.
        DisplayError: ``render`` without a display.
    """
    hparams = resolve(**locals())
    check(**hparams)
    if resume and name:
        raise utils.UsageError("--resume goes on in the same run: leave out --name")
    if render:
        require_display()
    total_timesteps = hparams["total_timesteps"]
    model = make_model(**hparams)
    vars(model)["arguments"] = hparams  # go into the zip, for --resume

    tracking = callbacks.WeightsAndBiases() if wandb else None
    if resume is None:
        run = utils.new_run(name, f"PandaReach_PPO_v2_{control_type}_{reward_type}")
        agent = utils.AGENTS / f"{run}.zip"
    else:
        run, agent = resume.stem, resume
        utils.restore(model, resume)
        if model.num_timesteps >= total_timesteps:
            raise utils.UsageError(
                f"{resume} has its {model.num_timesteps:,} steps: "
                "to go on, give a larger --total-timesteps"
            )
        # Other goals than at the start, and never the held-out ones.
        model.set_random_seed((seed + model.num_timesteps) % (utils.HELD_OUT_SEED - n_envs))
    if tracking:
        tracking.start(run, hparams)
    model.set_logger(configure(str(utils.RUNS / run), ["tensorboard"]))

    start = time.perf_counter()
    with callbacks.Watchers(model, agent, hparams, render) as watchers:
        model.learn(
            total_timesteps - model.num_timesteps,
            callback=watchers,
            reset_num_timesteps=resume is None,
        )
        seconds = time.perf_counter() - start
        if not watchers.stopped_by:
            policy, env = utils.load_agent(agent)  # what is judged is what was saved
            episodes = utils.evaluate(policy, env, 100)
            env.close()
    model.logger.close()
    if model.env:
        model.env.close()
    if tracking:
        tracking.finish(agent)

    if watchers.stopped_by:
        print(f"Stopped at {model.num_timesteps:,} of {total_timesteps:,} steps. To go on:")
        print(" ", utils.command("python", Path(__file__), "--resume", agent))
        return 128 + watchers.stopped_by
    utils.print_table(
        run,
        episodes,
        steps=f"{model.num_timesteps:,}",
        seconds=f"{seconds:.1f}" + (", since it was resumed" if resume else ""),
        seed=str(seed),
    )
    player = utils.ROOT / "panda_reach_test_agent.py"
    print("Watch it: ", utils.command("python", player, agent))
    print("Its curve:", utils.command("tensorboard", "--logdir", utils.RUNS))
    return 0


def resolve(**flags: Any) -> dict[str, Any]:
    """A run's hyperparameters: the flags that are given, else the recipe's, else the defaults."""
    flags = {name: p.default for name, p in inspect.signature(train).parameters.items()} | flags
    given = {n: v for n, v in flags.items() if v is not None and n not in utils.NOT_SAVED}
    return RECIPE[flags["control_type"], flags["reward_type"]] | given


def make_model(
    *,
    control_type: ControlType,
    reward_type: RewardType,
    total_timesteps: int,  # learn()'s
    n_envs: int,
    seed: int,
    learning_rate: float,
    log_std_init: float,
    adam_beta2: float,
    goal_scale: float,
    **hparams: Any,
) -> PPO:
    """The lesson: what PPO is given. What is not named here goes to it as it is."""
    # The network is so small that a second thread costs more than it brings, and one
    # thread adds up in one order: the same seed gives the same agent.
    torch.set_num_threads(1)
    policy_kwargs: dict[str, Any] = {
        "log_std_init": log_std_init,
        # fused: all parameters in one call, which is faster for small ones
        "optimizer_kwargs": {"betas": (0.9, adam_beta2), "fused": True},
    }
    if goal_scale:
        policy_kwargs["features_extractor_class"] = utils.RelativeGoal
        policy_kwargs["features_extractor_kwargs"] = {"scale": goal_scale}
    # All in this process: of two cores, the other one plays the live evaluation meanwhile.
    env = make_vec_env(
        "PandaReach-v2",
        n_envs,
        seed=seed,
        env_kwargs={"control_type": control_type, "reward_type": reward_type},
    )
    return PPO(
        "MultiInputPolicy",
        env,
        learning_rate=LinearSchedule(learning_rate, 0.0, 1.0),
        policy_kwargs=policy_kwargs,
        seed=seed,
        device="cpu",
        **hparams,
    )


def check(**hparams: float) -> None:
    """Raises UsageError for a number with which PPO can't run, or not in this memory."""
    between = {
        "total_timesteps": (1, 10**12),
        "n_envs": (1, 1000),
        "n_steps": (1, 100_000),
        "n_epochs": (1, 1000),
        "batch_size": (2, 10**8),
        # the held-out goals are drawn from HELD_OUT_SEED on
        "seed": (0, utils.HELD_OUT_SEED - 1000),
        "learning_rate": (0, 1000),
        "gamma": (0, 1),
        "gae_lambda": (0, 1),
        "clip_range": (1e-6, 1000),
        "ent_coef": (0, 1000),
        "vf_coef": (0, 1000),
        "max_grad_norm": (1e-6, 10**6),
        "log_std_init": (-20, 5),
        "adam_beta2": (0, 1 - 1e-9),
        "goal_scale": (0, 10**6),
    }
    for name, (low, high) in between.items():
        utils.check_range(low, high, **{name: hparams[name]})
    rollout = hparams["n_steps"] * hparams["n_envs"]
    if rollout % hparams["batch_size"]:
        divisor = math.gcd(int(hparams["batch_size"]), int(rollout))
        raise utils.UsageError(
            f"--batch-size {hparams['batch_size']} must divide --n-steps x --n-envs = {rollout}: "
            f"try --batch-size {divisor if divisor > 1 else rollout}"
        )


if __name__ == "__main__":
    utils.cli(train)
