"""An agent's file: saved whole, and read without running anything in it.

The file is the zip that Stable-Baselines3's ``model.save`` writes and ``PPO.load`` or ``SAC.load``
reads, and ``config.json`` in it is the config of its training. ``load`` unpickles, and a stranger's
pickle can run any program. ``read`` takes only tensors and JSON.
"""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.sac.policies import Actor

from panda_rl import cli, evaluation
from panda_rl.cli import UsageError, replacing
from panda_rl.features import NormReLU, RelativeCube, RelativeGoal

NOT_FINITE = "it has weights that are not finite numbers"
PUSH_TASKS = ("Push", "PickAndPlace")  # another name could make Gymnasium import any module
LARGEST = 100_000_000  # bytes, unpacked; the shipped agents have at most a million
# What has no weights can't be told from them, so its name, which Stable-Baselines3 writes beside
# each class's pickle, must be one of these.
ACTIVATIONS = {str(kind): kind for kind in (*vars(torch.nn.modules.activation).values(), NormReLU)}
EXTRACTORS = tuple(map(str, (CombinedExtractor, RelativeGoal, RelativeCube)))


def check_finite(policy: BasePolicy, message: str) -> None:
    """Raises UsageError(message) if a weight or the noise, e^log_std, is not a finite number."""
    weights = policy.state_dict()
    noise = [weights["log_std"].exp()] if "log_std" in weights else []  # SAC's is a layer
    if not all(tensor.isfinite().all() for tensor in (*weights.values(), *noise)):
        raise UsageError(message)


def save(model: BaseAlgorithm, path: Path, config: dict[str, Any]) -> None:
    """Write ``model`` and its ``config`` to ``path``, whole or not at all.

    Raises UsageError if training diverged. The file then keeps the last agent that was sound.
    """
    last = f"; {path} has the last sound agent" if path.exists() else ""
    check_finite(model.policy, f"training diverged: try a smaller --learning-rate{last}")
    with replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr("config.json", json.dumps(config))


@dataclasses.dataclass(frozen=True)
class SavedAgent:
    """The numbers and the text that ``read`` takes from a file."""

    path: Path
    weights: dict[str, torch.Tensor]  # the state dict of PPO's policy, or of SAC's actor
    activation: type[torch.nn.Module]  # between its layers
    num_timesteps: int  # steps of experience it was trained with
    config: dict[str, Any]  # if another program saved it: only what the weights tell

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """Its task's environment with its control type. The reward does not matter to playing."""
        name, control_type = f"Panda{self.config['task']}-v2", self.config["control_type"]
        return gym.make(name, render_mode=render_mode, control_type=control_type)

    def policy(self, env: gym.Env) -> BasePolicy:
        """The policy, ready to ``predict`` in ``env``.

        Raises UsageError if it was trained for another task, or its weights are broken.
        """
        try:
            policy = self._actor(env) if "mu.bias" in self.weights else self._actor_critic(env)
            policy.load_state_dict(self.weights)
        except Exception as error:  # a stranger's shapes can make PyTorch fail in any way
            raise self._misfit("the task") from error
        check_finite(policy, f"{self.path} is broken: {NOT_FINITE}")
        policy.set_training_mode(False)
        return policy

    def _actor_critic(self, env: gym.Env) -> BasePolicy:
        relative = "features_extractor.scale" in self.weights
        return MultiInputActorCriticPolicy(
            env.observation_space,  # type: ignore[arg-type]
            env.action_space,
            lr_schedule=lambda _: 0.0,
            net_arch={
                "pi": _units(self.weights, "mlp_extractor.policy_net"),
                "vf": _units(self.weights, "mlp_extractor.value_net"),
            },
            activation_fn=self.activation,
            features_extractor_class=RelativeGoal if relative else CombinedExtractor,
            use_sde=self.weights["log_std"].ndim == 2,
        )

    def _actor(self, env: gym.Env) -> BasePolicy:
        relative = "features_extractor.scale" in self.weights
        space: Any = env.observation_space
        extractor = RelativeCube(space) if relative else CombinedExtractor(space)
        return Actor(
            space,
            env.action_space,  # type: ignore[arg-type]
            _units(self.weights, "latent_pi"),
            extractor,
            extractor.features_dim,
            self.activation,
        )

    def restore(self, model: PPO) -> None:
        """Give ``model`` the weights, the step count and new goals. Adam starts anew.

        Raises UsageError if the agent's networks are of another kind than the model's.
        """
        policy: Any = model.policy
        scale = float(getattr(policy.features_extractor, "scale", 0))
        noise = self.config.get("log_std_init", policy.log_std_init)
        mine = (policy.activation_fn, scale, policy.log_std_init)
        if (self.activation, self.config["goal_scale"], noise) != mine:
            raise self._misfit("this run")
        try:
            policy.load_state_dict(self.weights)
        except Exception as error:  # see policy
            raise self._misfit("this run") from error
        check_finite(policy, f"{self.path} is broken: {NOT_FINITE}")
        model.num_timesteps = self.num_timesteps
        # Other goals than before, but never held-out ones.
        seed = (model.seed or 0) + self.num_timesteps
        model.set_random_seed(seed % (evaluation.CHOOSING_SEED - model.n_envs))

    def _misfit(self, what: str) -> UsageError:
        return UsageError(
            f"{self.path} does not fit {what}: its task, control type or networks differ. "
            "Stable-Baselines3's own load may read it, but runs any code that is in it"
        )


def read(path: Path) -> SavedAgent:
    """Read a zip that Stable-Baselines3 saved, without running anything in it.

    It is an agent of one of the training scripts, or any PPO agent for PandaReach-v2.

    ``.zip`` may be left out. Raises UsageError if there is no such file, or not such a zip.
    """
    if not path.exists() and (longer := path.with_name(f"{path.name}.zip")).exists():
        path = longer
    if not path.is_file():
        raise UsageError(f"there is no agent {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise ValueError
            data = json.loads(archive.read("data"))
            own = "config.json" in archive.namelist()
            config = dict(json.loads(archive.read("config.json"))) if own else {}
        # load_data=False: unpickle nothing, and let PyTorch read tensors only.
        parameters: Any = load_from_zip_file(path, device="cpu", load_data=False)[1]
        weights = parameters["policy"]
        # A tensor can claim more numbers than are in the file. Each takes four bytes.
        if 4 * sum(tensor.numel() for tensor in weights.values()) > LARGEST:
            raise ValueError
        task, head, net = "Reach", "action_net", "mlp_extractor.policy_net"
        default: type[torch.nn.Module] = torch.nn.Tanh
        if "actor.mu.bias" in weights:  # SAC's. Its critics are for training alone.
            actor = [name for name in weights if name.startswith("actor.")]
            weights = {name.removeprefix("actor."): weights[name] for name in actor}
            task, head, net = str(config["task"]), "mu", "latent_pi"
            default = torch.nn.ReLU
            if task not in PUSH_TASKS:
                raise ValueError
        kwargs = data["policy_kwargs"]
        activation = ACTIVATIONS[kwargs.get("activation_fn", str(default))]
        extractor = kwargs.get("features_extractor_class", str(CombinedExtractor))
        if extractor not in EXTRACTORS or kwargs.get("squash_output"):
            raise ValueError
        config |= {
            "task": task,
            "control_type": {3: "ee", 4: "ee", 7: "joints"}[len(weights[f"{head}.bias"])],
            "goal_scale": float(weights.get("features_extractor.scale", 0)),
            "net_arch": _units(weights, net),
        }
        return SavedAgent(path, weights, activation, int(data["num_timesteps"]), config)
    except Exception as error:  # a stranger's bytes can make any parser fail in any way
        raise UsageError(
            f"{path} is not an agent of the training scripts, nor of PPO for PandaReach-v2 with "
            "PyTorch's activations"
        ) from error


def read_reach(path: Path) -> SavedAgent:
    """``read``, where only an agent for Reach will do. Raises UsageError for another task's."""
    agent = read(path)
    if agent.config["task"] != "Reach":
        raise UsageError(f"{agent.path} is for {agent.config['task']}, not for Reach")
    return agent


def judge(path: Path, seed: int, seconds: float) -> None:
    """Print how good the agent at ``path`` is on the goals for judging, and how to watch it."""
    print(f"Judging it on {len(evaluation.JUDGING_GOALS)} other goals", flush=True)
    agent = read(path)
    env = agent.make_env()
    policy = agent.policy(env)
    episodes = [evaluation.play(policy, env, goal) for goal in evaluation.JUDGING_GOALS]
    about = {"steps": f"{agent.num_timesteps:,}", "seconds": f"{seconds:.1f}", "seed": f"{seed}"}
    evaluation.print_table(path.stem, evaluation.JUDGING_SEED, episodes, **about)
    print("Watch it: ", cli.command("python", cli.ROOT / "panda_reach_test_agent.py", path))
    print("Its curve:", cli.command("tensorboard", "--logdir", cli.RUNS))


def _units(weights: dict[str, torch.Tensor], net: str) -> list[int]:
    """Units in each hidden layer of ``net``: its layers 0, 2, 4, ..., between activations."""
    names = [f"{net}.{2 * i}.bias" for i in range(len(weights))]
    return [len(weights[name]) for name in names if name in weights]
