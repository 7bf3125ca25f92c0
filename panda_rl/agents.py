"""An agent's file: saved whole, and read without running anything in it.

The file is the zip that Stable-Baselines3's ``model.save`` writes and ``PPO.load`` reads, with
one more member: ``config.json``, the config it was trained with. ``PPO.load`` unpickles, and a
stranger's pickle can run any program. ``read`` takes only tensors and JSON.
"""

import dataclasses
import io
import json
import os
import pickle
import re
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

from panda_rl.cli import UsageError, replacing
from panda_rl.features import RelativeGoal

LARGEST = 100_000_000
"""Bytes, unpacked. An agent from the training script has about 160,000."""


def is_finite(policy: torch.nn.Module) -> bool:
    """Whether all its weights, and the exploration noise e^log_std, are finite numbers."""
    weights = policy.state_dict()
    numbers = [*weights.values(), weights["log_std"].exp()]
    return all(bool(tensor.isfinite().all()) for tensor in numbers)


def save(model: BaseAlgorithm, path: Path, config: dict[str, Any]) -> None:
    """Write ``model`` and its ``config`` to ``path``, whole or not at all.

    Raises:
        UsageError: training diverged. The file keeps the last agent that was sound.
    """
    if not is_finite(model.policy):
        raise UsageError("training diverged")
    contents = io.BytesIO()
    model.save(contents)
    with zipfile.ZipFile(contents, "a") as archive:
        archive.writestr("config.json", json.dumps(config))
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(contents.getvalue())
        file.flush()
        os.fsync(file.fileno())  # a power cut must not leave an empty file


@dataclasses.dataclass(frozen=True)
class SavedAgent:
    """The numbers and the text that ``read`` takes from a file."""

    path: Path
    weights: dict[str, torch.Tensor]
    """The policy's state dict."""
    num_timesteps: int
    """Steps of experience it was trained with."""
    config: dict[str, Any]
    """What is known of its config: all of it, if the training script saved it."""
    layers: dict[str, list[int]]
    """Units in the hidden layers of the policy (``pi``) and of the value function (``vf``)."""
    activation: type[torch.nn.Module]

    def policy(self, env: gym.Env) -> BasePolicy:
        """The policy, ready to ``predict`` in ``env``.

        Raises:
            UsageError: it was trained for other observations or actions, or its weights are broken.
        """
        try:
            policy = MultiInputActorCriticPolicy(
                env.observation_space,  # type: ignore[arg-type]
                env.action_space,
                lr_schedule=lambda _: 0.0,
                net_arch=self.layers,
                activation_fn=self.activation,
                features_extractor_class=_extractor(self.weights),
                use_sde=self.weights["log_std"].ndim == 2,
            )
            policy.load_state_dict(self.weights)
        except Exception:  # a stranger's shapes can make PyTorch fail in any way
            raise self._unlike("the observations of PandaReach-v2") from None
        if not is_finite(policy):
            raise UsageError(f"{self.path} is broken: some of its weights are not finite numbers")
        policy.set_training_mode(False)
        return policy

    def restore(self, model: PPO) -> None:
        """Give ``model`` the weights and the step count. Its optimizer starts anew.

        Raises:
            UsageError: the model is of another kind.
        """
        own = dict(model.policy.named_buffers())  # the goal scale of this run's config
        try:
            model.policy.load_state_dict(self.weights | own)
        except Exception:  # see policy
            raise self._unlike("this run's config") from None
        if self.activation is not model.policy.activation_fn:
            raise self._unlike("tanh networks")
        model.num_timesteps = self.num_timesteps

    def _unlike(self, what: str) -> UsageError:
        return UsageError(
            f"{self.path} does not fit {what}: an agent of another task, or with another kind of "
            "network; Stable-Baselines3's PPO.load may read it, and would run code in it"
        )


def read(path: Path) -> SavedAgent:
    """Read a zip that Stable-Baselines3's PPO saved, without running anything in it.

    Args:
        path: the file; ``.zip`` may be left out.

    Raises:
        UsageError: there is no such file, or it is not such a zip.
    """
    if not path.exists():
        path = path.with_name(f"{path.name}.zip")
    if not path.is_file():
        raise UsageError(f"there is no agent {path}")
    with path.open("rb") as file:
        if file.read(20) == b"version https://git-":
            raise UsageError(f"{path} is a Git LFS pointer, not the agent itself: git lfs pull")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise ValueError
            data = json.loads(archive.read("data"))
            config = {}
            if "config.json" in archive.namelist():
                config = dict(json.loads(archive.read("config.json")))
        # load_data=False: unpickle nothing, and let PyTorch read tensors only.
        _, parameters, _ = load_from_zip_file(path, device="cpu", load_data=False)
        weights = parameters["policy"]
        if sum(tensor.numel() for tensor in weights.values()) > LARGEST / 4:
            raise ValueError
        layers = {net: _units(weights, f"mlp_extractor.{_NETS[net]}") for net in _NETS}
        config |= {
            "control_type": {3: "ee", 7: "joints"}.get(len(weights["action_net.bias"])),
            "goal_scale": float(weights.get("features_extractor.scale", 0)),
            "net_arch": layers["pi"],
        }
        return SavedAgent(
            path, weights, int(data["num_timesteps"]), config, layers, _activation(data)
        )
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path} has something other than numbers in it; nothing in it was run"
        ) from None
    except Exception:  # a stranger's bytes can make any parser fail in any way
        raise UsageError(f"{path} is not an agent that Stable-Baselines3's PPO saved") from None


_NETS = {"pi": "policy_net", "vf": "value_net"}


def _units(weights: dict[str, torch.Tensor], net: str) -> list[int]:
    """Units in each hidden layer: the layers 0, 2, 4, ... of ``net``, between activations."""
    names = [f"{net}.{2 * i}.bias" for i in range(len(weights))]
    return [len(weights[name]) for name in names if name in weights]


def _extractor(weights: dict[str, torch.Tensor]) -> type:
    return RelativeGoal if "features_extractor.scale" in weights else CombinedExtractor


def _activation(data: dict[str, Any]) -> type[torch.nn.Module]:
    """Stable-Baselines3 writes the name of each class beside its pickle."""
    text = str(data["policy_kwargs"].get("activation_fn", "activation.Tanh"))
    return getattr(torch.nn, re.findall(r"activation\.(\w+)", text)[0])
