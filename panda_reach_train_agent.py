"""Train PPO to bring the Franka Panda's hand to a goal."""

import time
from pathlib import Path

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule

import panda_reach_callbacks as callbacks
import panda_reach_utils as utils
from panda_reach_env import ControlType, RewardType

# How long to train where --total-timesteps says nothing.
TOTAL_TIMESTEPS = {
    ("ee", "dense"): 20_480,
    ("joints", "dense"): 30_720,
    ("ee", "sparse"): 40_960,
    ("joints", "sparse"): 81_920,
}


@utils.resumable
def train(
    control_type: ControlType = "ee",
    reward_type: RewardType = "dense",
    total_timesteps: int | None = None,
    n_envs: int = 8,
    seed: int = 0,
    render: bool = False,
    name: str | None = None,
    resume: Path | None = None,
    learning_rate: float = 2e-3,
    n_steps: int = 64,
    batch_size: int = 64,
    n_epochs: int = 10,
    gamma: float = 0.7,
    gae_lambda: float = 0.8,
    clip_range: float = 0.3,
    ent_coef: float = 0.0,
    vf_coef: float = 0.5,
    max_grad_norm: float = 0.5,
    log_std_init: float = -0.5,
) -> int:
    """Train PPO on PandaReach-v2 and save the agent and its curves.

    The agent goes to rl-trained-agents/<run>.zip, its curves to runs/<run>/.

    Args:
        control_type: what an action moves: the hand (ee) or the seven joints.
        reward_type: minus the distance (dense), or -1 away from the goal (sparse).
        total_timesteps: steps of experience; None for what the variant needs.
        n_envs: environments stepped in turn, one action of each at a time.
        seed: of the goals, the weights and the exploration.
        render: show an arm that moves as the policy stands.
        name: of the run; None for PandaReach_PPO_v2_<control>_<reward>_<n>.
        resume: a saved agent to go on from, in the same run.
        learning_rate: Adam's at the start; it falls linearly to 0.
        n_steps: steps of each environment between two updates.
        batch_size: steps in a minibatch.
        n_epochs: passes over the experience at each update.
        gamma: discount of the next step's reward.
        gae_lambda: bias (0) against variance (1) of the advantage.
        clip_range: how far an update may move an action's probability.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss.
        max_grad_norm: longest gradient.
        log_std_init: log of the exploration noise's standard deviation at the start.

    Returns:
        The exit code: 0, or 128 + the signal that stopped it (130 for Ctrl-C or a
        closed window, 143 for SIGTERM); the agent is saved all the same.

    Raises:
        UsageError: an argument that can't be; a run that exists; a folder or a disk
            that can't be written; training that diverged.
        DisplayError: ``render`` without a display.
    """
    if total_timesteps is None:
        total_timesteps = TOTAL_TIMESTEPS[control_type, reward_type]
    arguments = {k: v for k, v in locals().items() if k not in ("render", "name", "resume")}
    rollout = n_steps * n_envs
    utils.check_range(1, 10**12, total_timesteps=total_timesteps)
    utils.check_range(1, 1000, n_envs=n_envs, n_epochs=n_epochs)
    utils.check_range(1, 100_000, n_steps=n_steps)
    utils.check_range(2, rollout, batch_size=batch_size)
    utils.check_range(0, utils.HELD_OUT_SEED - n_envs, seed=seed)
    utils.check_range(0, 1, gamma=gamma, gae_lambda=gae_lambda)
    utils.check_range(1e-12, 1e3, learning_rate=learning_rate, clip_range=clip_range)
    utils.check_range(0, 1e3, ent_coef=ent_coef, vf_coef=vf_coef, max_grad_norm=max_grad_norm)
    utils.check_range(-20, 2, log_std_init=log_std_init)
    if rollout % batch_size:
        raise utils.UsageError(
            f"--batch-size {batch_size} must divide --n-steps x --n-envs = {rollout}"
        )

    # The network is so small that a second thread costs more than it brings, and one
    # thread adds up in one order: the same seed gives the same agent on every machine.
    torch.set_num_threads(1)

    env = make_vec_env(
        "PandaReach-v2",
        n_envs,
        seed=seed,
        env_kwargs={"control_type": control_type, "reward_type": reward_type},
    )
    model = PPO(
        "MultiInputPolicy",
        env,
        learning_rate=LinearSchedule(learning_rate, 0.0, 1.0),
        n_steps=n_steps,
        batch_size=batch_size,
        n_epochs=n_epochs,
        gamma=gamma,
        gae_lambda=gae_lambda,
        clip_range=clip_range,
        ent_coef=ent_coef,
        vf_coef=vf_coef,
        max_grad_norm=max_grad_norm,
        policy_kwargs={
            "log_std_init": log_std_init,
            "features_extractor_class": utils.RelativeGoal,
            "optimizer_kwargs": {"betas": (0.9, 0.99)},
        },
        seed=seed,
        device="cpu",
    )
    model.arguments = arguments  # saved in the zip, for --resume

    if resume is None:
        run = utils.new_run(name, f"PandaReach_PPO_v2_{control_type}_{reward_type}")
        agent = utils.AGENTS / f"{run}.zip"
    else:
        run, agent = resume.stem, resume
        utils.restore(model, resume)
    model.set_logger(configure(str(utils.RUNS / run), ["tensorboard"]))

    start, first_step = time.perf_counter(), model.num_timesteps
    with callbacks.Watchers(agent, control_type, total_timesteps, arguments, render) as watchers:
        model.learn(
            total_timesteps - first_step, callback=watchers, reset_num_timesteps=resume is None
        )
    seconds = time.perf_counter() - start
    model.logger.close()
    env.close()

    if watchers.stopped_by:
        print(f"Stopped at {model.num_timesteps:,} of {total_timesteps:,} steps. To go on:")
        print(" ", utils.command("python", Path(__file__), "--resume", agent))
        return 128 + watchers.stopped_by
    policy, env = utils.load_agent(agent)
    utils.print_table(
        run,
        utils.evaluate(policy, env, 100),
        steps=f"{model.num_timesteps:,}",
        seconds=f"{seconds:.1f}",
        seed=str(seed),
    )
    env.close()
    player = utils.ROOT / "panda_reach_test_agent.py"
    print("Watch it: ", utils.command("python", player, agent))
    print("Its curve:", utils.command("tensorboard", "--logdir", utils.RUNS))
    return 0


if __name__ == "__main__":
    utils.cli(train)
