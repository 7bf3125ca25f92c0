"""The numbers of a run, and the recipe of each variant with its reasons.

A config is what one run is given. A recipe is the config that we recommend for a variant, such as
``("ee", "dense")``. The README's terms explain the words.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from panda_rl import agents
from panda_rl.env import ControlType, RewardType
from panda_rl.evaluation import CHOOSING_SEED


@dataclasses.dataclass(frozen=True)
class Variant:
    """What decides the defaults of the other flags."""

    control_type: ControlType = "ee"
    """What an action moves: the hand (ee) or the seven joints."""
    reward_type: RewardType = "dense"
    """Minus the distance (dense), or -1 beyond 5 cm (sparse)."""
    resume: Path | None = None
    """A saved agent to start from: its weights, its step count and its numbers."""


@dataclasses.dataclass(frozen=True)
class Config(Variant):
    """Train PPO on PandaReach-v2, and save the agent and its curves.

    The agent goes to rl-trained-agents/<run>.zip, its curves to runs/<run>/.

    Each variant has its own defaults: --control-type joints --help shows them.
    """

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
    """How far an update may usefully change an action's probability: 0.3 is by 30%."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus, a reward for noise."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients longer than this are scaled down."""
    log_std_init: float = -0.25
    """Log of the initial standard deviation of the exploration noise."""
    adam_beta2: float = 0.99
    """Decay rate of Adam's average of squared gradients."""
    net_arch: tuple[int, ...] = (64, 64)
    """Units in each hidden layer, of the policy and of the value function."""
    goal_scale: float = 8.0
    """Scale of the goal-vector input (1/m). 0: Stable-Baselines3's own input."""
    effort_coef: float = 3e-3
    """Effort penalty: the reward lost for an action of length 1."""

    name: str | None = None
    """Name of the run; by default PandaReach_PPO_v2_<control>_<reward>_<n>."""
    subprocesses: bool = (os.cpu_count() or 1) >= 4
    """Simulate each environment in a process of its own. By default with four cores or more."""
    render: bool = False
    """Open a window and watch the policy as it learns."""
    wandb: bool = False
    """Log to Weights & Biases as well; offline without a login."""

    def __post_init__(self) -> None:
        """Refuse what Stable-Baselines3 would accept, and then learn nothing from.

        Raises:
            ValueError: a number is out of range.
        """
        for names, low, high in (
            ("total_timesteps n_envs n_steps n_epochs", 1, math.inf),
            ("gamma gae_lambda", 0, 1),
            ("learning_rate ent_coef vf_coef effort_coef goal_scale", 0, math.inf),
            ("clip_range max_grad_norm", 1e-9, math.inf),
            # the seeds of training stay below those of the held-out goals
            ("seed", 0, CHOOSING_SEED - 1001),
        ):
            for name in names.split():
                value = getattr(self, name)
                if not low <= value <= high:
                    flag = f"--{name.replace('_', '-')}"
                    raise ValueError(f"{flag} is {value}, but must be from {low:,} to {high:,}")
        rollout = self.n_steps * self.n_envs
        if self.batch_size < 2 or rollout % self.batch_size:
            raise ValueError(
                f"--batch-size {self.batch_size} must divide --n-steps x --n-envs = {rollout}"
            )
        if self.name and Path(self.name).name != self.name:
            raise ValueError(f"--name {self.name} must be a plain name, without a folder")

    @property
    def variant(self) -> str:
        return f"{self.control_type}_{self.reward_type}"

    def saved(self) -> dict[str, Any]:
        """What is saved with the agent. The rest belongs to one run on one machine."""
        config = dataclasses.asdict(self)
        for name in ("resume", "name", "subprocesses", "render", "wandb"):
            del config[name]
        return config


# Why these numbers? All recipes start from Config; those after the first list what they change.
#
# gamma, gae_lambda. The critic (the value function) predicts the discounted return from here.
#   An action's advantage is one number: how much better it turned out than predicted. Measured
#   one step ahead it is precise but trusts the critic; measured to the end of the episode it trusts
#   nobody and is full of noise. gae_lambda mixes all these lengths: 0 is the first, 1 the last.
#   With gamma 0.5 a reward three steps ahead counts for an eighth, and this suffices: going
#   straight to the goal is always right, and a dense reward shows at once whether a step did so,
#   best of all when it moves the hand itself (ee). A sparse reward needs a longer view.
# n_envs. Eight arms see eight goals at a time, so an update does not favour the goal at hand.
# n_steps, batch_size. The more there is to coordinate (joints) or to find (sparse), the more
#   experience an update should average over.
# n_epochs, learning_rate. The task is smooth, so steps can be large. They fall to 0 for
#   precision. Passes cost time, and fewer passes need larger steps.
# clip_range. An update gains nothing by making an action more than 1.3 times, or less than 0.7
#   times, as likely as it was. So no single rollout can upset the policy.
# log_std_init. The noise has the standard deviation e^log_std, which is learned and shrinks. It
#   starts at 0.8 (e^-0.25) or 0.6: actions beyond 1 are clipped, and seven joints, or a sparse
#   reward, need less.
# ent_coef. Entropy is how spread out the actions are. Once within 5 cm, all places are equally
#   good to a sparse reward; only noise, which may carry the hand out again, favours the middle.
# vf_coef. With 0.5 and no effort penalty, some joints runs got stuck at 95% of the goals.
# adam_beta2. The gradients change fast here, so forget old ones sooner.
# goal_scale. The networks see the vector to the goal: see features.py.
# effort_coef. What costs nothing trembles (ee) or drifts (joints): see rewards.py. A sparse
#   reward forgives more of it, so the cost must be higher.
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


def parse(words: Sequence[str] | None = None) -> Config:
    """The config that ``words`` ask for; by default those of the command line.

    What they leave out comes from the agent to resume, or else from the variant's recipe.

    Raises:
        SystemExit: after --help, or after tyro has said what is wrong with the words.
        UsageError: there is no such agent to resume.
    """
    given, _ = tyro.cli(Variant, args=words, return_unknown_args=True, add_help=False)
    default = RECIPES[given.control_type, given.reward_type]
    if given.resume:
        # As if its numbers had been typed, so that they are checked in the same way.
        saved = agents.read(given.resume).config
        known = {name: saved[name] for name in default.saved() if name in saved}
        default = parse([word for item in known.items() for word in _typed(*item)])
    return tyro.cli(Config, args=words, default=default)


def _typed(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [f"--{name.replace('_', '-')}", *map(str, values)]
