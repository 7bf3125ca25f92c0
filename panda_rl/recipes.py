"""The numbers of a run, and the recipe of each variant and task with its reasons.

A config is what one run is given. A recipe is the config that we recommend for a variant of Reach,
such as ("ee", "dense"), or for a task with a cube. The README explains the words.
"""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro

from panda_rl import agents
from panda_rl.cli import UsageError
from panda_rl.env import ControlType, RewardType
from panda_rl.evaluation import CHOOSING_SEED


@dataclasses.dataclass(frozen=True)
class Run:
    """What PPO and SAC have in common."""

    seed: int = 0  # for the goals, the initial weights and the exploration noise
    n_envs: int = 8  # environments that collect experience side by side

    name: str | None = None  # of the run; by default its task and algorithm, with a number
    render: bool = False  # open a window and watch the policy as it learns
    wandb: bool = False  # log to Weights & Biases as well; offline without a login

    def check(self, *ranges: tuple[str, float, float]) -> None:
        """Raises ValueError for a number outside its range, or a name that is a path.

        Each of ``ranges`` has the names of numbers, the lowest and the highest value. A number may
        also be None.
        """
        # Training never gets a held-out goal.
        seeds = ("seed", 0, CHOOSING_SEED - self.n_envs)
        for names, low, high in (*ranges, ("n_envs", 1, math.inf), seeds):
            for name in names.split():
                given = getattr(self, name)
                for value in given if isinstance(given, tuple) else (given,):
                    if value is not None and not low <= value <= high:
                        raise ValueError(f"{name} is {given}, not from {low} to {high}")
        if self.wandb and not importlib.util.find_spec("wandb"):
            raise ValueError("wandb is not installed: pip install wandb")
        if self.name and Path(self.name).name != self.name:
            raise ValueError(f"name {self.name} must be a plain name, without a folder")

    def saved(self) -> dict[str, Any]:
        """What is saved with the agent. The rest belongs to one run on one machine."""
        left_out = ("resume", "name", "subprocesses", "render", "wandb")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in left_out}


@dataclasses.dataclass(frozen=True)
class Variant:
    """What decides the defaults of the other flags."""

    control_type: ControlType = "ee"  # what an action moves: the hand (ee) or the seven joints
    reward_type: RewardType = "dense"  # minus the distance (dense), or -1 beyond 5 cm (sparse)
    resume: Path | None = None  # a saved agent to go on from: its weights, steps and numbers


@dataclasses.dataclass(frozen=True)
class Config(Run, Variant):  # tyro shows the comments as --help
    """Train PPO on PandaReach-v2, and save the agent and its curves.

    The agent goes to rl-trained-agents/<run>.zip, its curves to runs/<run>/.

    Each variant has its own defaults: --control-type joints --help shows them.
    """

    task: ClassVar = "Reach"
    total_timesteps: int = 20_480  # steps of experience, over all environments
    n_steps: int = 32  # steps in each environment between two updates
    batch_size: int = 64  # steps in a minibatch
    n_epochs: int = 10  # passes over the experience at each update
    learning_rate: float = 2e-3  # Adam's, at the start; it falls linearly to 0
    gamma: float = 0.5  # discount: 0 counts only the next reward, 1 counts all alike
    gae_lambda: float = 0.8  # advantages: 0 for low variance, 1 for low bias
    clip_range: float = 0.3  # an update gains nothing by a larger change of an action's probability
    ent_coef: float = 0.0  # weight of the entropy bonus, a reward for noise
    vf_coef: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # gradients longer than this are scaled down
    log_std_init: float = -0.25  # log of the noise's standard deviation at the start
    adam_beta2: float = 0.99  # decay rate of Adam's average of squared gradients
    net_arch: tuple[int, ...] = (64, 64)  # units in each hidden layer of both networks
    goal_scale: float = 8.0  # scale of the goal vector (1/m); 0: Stable-Baselines3's own input
    effort_coef: float = 3e-3  # the reward lost for an action of length 1

    subprocesses: bool = (os.cpu_count() or 1) >= 4  # simulate each environment in its own process

    def __post_init__(self) -> None:
        """Raises ValueError for what Stable-Baselines3 accepts, but cannot learn from."""
        self.check(
            ("total_timesteps n_steps n_epochs net_arch", 1, math.inf),
            ("gamma gae_lambda", 0, 1),
            ("adam_beta2", 0, 1 - 1e-9),
            ("learning_rate ent_coef vf_coef effort_coef goal_scale", 0, math.inf),
            ("clip_range max_grad_norm", 1e-9, math.inf),
        )
        rollout = self.n_steps * self.n_envs
        if self.batch_size < 2 or rollout % self.batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must divide n_steps x n_envs = {rollout}"
            )


# Why these numbers? Config has those of ee, dense. The others list what they change.
#
# n_envs: eight arms see eight goals at a time, so that no update favours the goal at hand.
# n_steps, batch_size: the more there is to coordinate (joints) or to find (sparse), the more
#   experience an update should average over.
# gamma: with 0.5, a reward three steps ahead counts for an eighth. That suffices, since going
#   straight to the goal is always right, and a dense reward shows at once whether a step did,
#   best of all when it moves the hand itself (ee). A sparse reward needs a longer view.
# gae_lambda: an action's advantage is one number: how much more reward it brought than the value
#   network had predicted. Counted over one step, it is precise, but trusts that network. Counted
#   to the end of the rollout, it trusts it least, but all later noise is in it. gae_lambda mixes
#   all these lengths: 0 takes the first alone, 1 the last.
# n_epochs, learning_rate: the task is smooth, so steps can be large. They end at 0, for
#   precision. Passes cost time, and fewer passes need larger steps.
# clip_range: an update gains nothing by making an action more than 1.3 times, or less than 0.7
#   times, as likely as it was. So no single rollout can upset the policy.
# log_std_init: the noise has the standard deviation e^log_std, which is learned, and shrinks. It
#   starts at 0.8 (e^-0.25) or 0.6. Joints, or a sparse reward, need less of it.
# ent_coef: entropy says how spread out the actions are. To a sparse reward, all places within
#   5 cm are equally good; only noise, which may carry the hand out again, favours the middle.
# vf_coef: with 0.5, some joints runs got stuck at 95% of the goals. That was before the effort
#   penalty; three seeds with it show no difference.
# adam_beta2: the gradients change fast here, so forget old ones sooner.
# goal_scale: see features.py.
# effort_coef: see rewards.py. A sparse reward forgives more movement, so it must cost more.
_SPARSE = Config(
    reward_type="sparse",
    total_timesteps=30_720,
    n_steps=128,
    batch_size=128,
    gamma=0.8,
    gae_lambda=0.9,
    ent_coef=0.02,
    log_std_init=-0.5,
    effort_coef=3e-2,
)
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
    ("ee", "sparse"): _SPARSE,
    ("joints", "sparse"): dataclasses.replace(
        _SPARSE,
        control_type="joints",
        total_timesteps=40_960,
        vf_coef=0.1,
        effort_coef=2e-2,
    ),
}


def parse(words: Sequence[str] | None = None) -> Config:
    """The config that ``words`` ask for; by default those of the command line.

    What they leave out comes from the agent to resume, or else from the variant's recipe. For
    --help, or for wrong words, tyro prints its text and exits.
    """
    given, _ = tyro.cli(Variant, args=words, return_unknown_args=True, add_help=False)
    if not given.resume:
        return tyro.cli(Config, args=words, default=RECIPES[given.control_type, given.reward_type])
    agent = agents.read_reach(given.resume)
    # Its numbers are parsed as if they had been typed, and so checked in the same way.
    numbers = {"reward_type": given.reward_type} | agent.config
    names = [name for name in Config().saved() if name in numbers and name != "net_arch"]
    flags = [f"--{name}={numbers[name]}" for name in names]
    saved = parse([*flags, "--net_arch", *map(str, numbers["net_arch"])])
    config = tyro.cli(Config, args=words, default=saved)
    if config.total_timesteps <= agent.num_timesteps:
        raise UsageError(
            f"{agent.path} has {agent.num_timesteps:,} steps already: to train it further, give a "
            "larger --total-timesteps"
        )
    return config


@dataclasses.dataclass(frozen=True)
class PushTask:
    """What decides the defaults of the other flags."""

    task: Literal["Push", "PickAndPlace"] = "Push"  # move a cube on the table, or into the air


@dataclasses.dataclass(frozen=True)
class PushConfig(Run, PushTask):
    """Train SAC with HER to move a cube, and save the agent and its curves.

    The agent goes to rl-trained-agents/<run>.zip, its curves to runs/<run>/.

    Each task has its own defaults: --task PickAndPlace --help shows them.

    There is no --resume: the experience that SAC learns from is not saved.
    """

    control_type: ClassVar = "ee"

    total_timesteps: int = 148_000  # steps of experience, over all environments
    buffer_size: int | None = None  # steps to keep, 0.24 MB for 1,000; by default all of the run
    n_sampled_goal: int = 4  # HER: steps with a made-up goal for each with the real one
    learning_starts: int = 2_000  # random steps before the first update
    train_freq: int = 4  # steps in each environment between two updates
    gradient_steps: int = 16  # minibatches at each update
    batch_size: int = 256  # steps in a minibatch
    learning_rate: float = 1e-3  # Adam's; in the second half it falls linearly to 0
    gamma: float = 0.9  # discount: 0 counts only the next reward, 1 counts all alike
    tau: float = 0.05  # how far the target critic follows the critic at each update
    ent_coef: float = 0.1  # weight of the entropy bonus at first; it adapts to target_entropy
    target_entropy: float = -1.0  # how spread out the actions should stay
    n_critics: int = 1  # networks that say what return to expect; the lowest counts
    net_arch: tuple[int, ...] = (128, 128)  # units in each hidden layer of all networks
    goal_scale: float = 8.0  # scale of the two vectors (1/m); 0: Stable-Baselines3's own input
    held: float = 0.0  # share of training's episodes that start with the cube in the hand
    around: float = 0.0  # share that start with the open hand around the cube

    def __post_init__(self) -> None:
        """Raises ValueError for what Stable-Baselines3 accepts, but cannot learn from."""
        self.check(
            ("total_timesteps train_freq gradient_steps n_critics net_arch", 1, math.inf),
            ("batch_size", 2, math.inf),
            ("n_sampled_goal learning_rate goal_scale", 0, math.inf),
            # HER needs one whole episode in each environment.
            ("learning_starts buffer_size", 50 * self.n_envs, math.inf),
            ("gamma tau held around", 0, 1),
            ("ent_coef", 1e-9, math.inf),
        )
        if self.held + self.around > (self.task == "PickAndPlace"):
            raise ValueError("held + around must be at most 1; and 0 in Push, with closed fingers")


# Why these numbers?
#
# n_sampled_goal: random actions hardly ever bring the cube to its goal. So of five steps in a
#   minibatch, four pretend that the goal was where the cube got to later in their episode.
# train_freq, gradient_steps, batch_size: with an update for every two steps, each step is replayed
#   128 times on average. An update takes as long as four steps in the simulator.
# gamma: with 0.9, a reward 20 steps ahead counts for an eighth. A cube that must be grasped first
#   takes longer.
# tau: the target critic follows within 20 updates. SB3's 0.005 is meant for far longer trainings.
# ent_coef, target_entropy: SB3 starts with 1, and aims for minus the number of the action's
#   components. So the agent is all noise for long, and later has almost none. With -1, it keeps
#   learning what happens when a cube is not touched quite as planned.
# n_critics: SAC's authors take the lower of two, since one alone can grow too optimistic. Here
#   one learned as fast, perhaps as its layers are normalized, and updates take a quarter less time.
# net_arch: wider layers cost more time than they gained.
# goal_scale: see features.py. held, around: see starts.py.
PUSH_RECIPES = {
    "Push": PushConfig(),
    "PickAndPlace": PushConfig(
        task="PickAndPlace",
        total_timesteps=208_000,
        gamma=0.95,
        held=0.25,
        around=0.35,
    ),
}


def parse_push(words: Sequence[str] | None = None) -> PushConfig:
    """The config that ``words`` ask for, or the command line. See parse."""
    given, _ = tyro.cli(PushTask, args=words, return_unknown_args=True, add_help=False)
    return tyro.cli(PushConfig, args=words, default=PUSH_RECIPES[given.task])
