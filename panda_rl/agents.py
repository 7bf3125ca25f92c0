"""An agent's file: saved whole, and read without running anything in it.

The file is the zip that Stable-Baselines3's ``model.save`` writes and ``PPO.load`` reads, with
one more member: ``config.json``, the config the agent was trained with.

``PPO.load`` unpickles, and a stranger's pickle can run any program. ``read`` uses PyTorch's
restricted unpickler for tensors and takes everything else from JSON. That keeps code out, but a
hostile file can still ask for a lot of memory while it is read.
"""

import dataclasses
import io
import itertools
import json
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

from panda_rl import files
from panda_rl.errors import UsageError
from panda_rl.features import RelativeGoal

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor

LARGEST = 32 * 1024**2
"""Bytes, unpacked. An agent from the training script has about 1/200 of that."""

ACTIVATIONS = {
    activation.__name__: activation
    for activation in (
        torch.nn.Tanh,
        torch.nn.ReLU,
        torch.nn.ELU,
        torch.nn.GELU,
        torch.nn.LeakyReLU,
        torch.nn.SiLU,
    )
}


def save(model: BaseAlgorithm, path: Path, config: dict[str, Any]) -> None:
    """Write ``model`` and its ``config`` to ``path``, whole or not at all.

    Raises:
        UsageError: ``path`` can't be written. A file that was there is left as it was.
    """
    contents = io.BytesIO()
    model.save(contents)
    with zipfile.ZipFile(contents, "a") as archive:
        archive.writestr("config.json", json.dumps(config))
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(contents.getvalue())
        file.flush()
        os.fsync(file.fileno())


@dataclasses.dataclass(frozen=True)
class SavedAgent:
    """The numbers and the text that ``read`` takes from a file."""

    path: Path
    weights: dict[str, torch.Tensor]
    """The policy's state dict: dense float32."""
    optimizer: Any
    """Adam's state dict, not yet checked; ``restore`` does that."""
    num_timesteps: int
    config: dict[str, Any]
    """The config it was trained with; empty if another program saved it."""
    layers: dict[str, list[int]]
    """Sizes of the hidden layers of the policy (``pi``) and the value function (``vf``)."""
    activation: type[torch.nn.Module]

    @property
    def control_type(self) -> str:
        """``"ee"`` or ``"joints"``. Raises UsageError if it is an agent for another task."""
        actions = len(self.weights["action_net.bias"])
        if actions not in (3, 7):
            raise UsageError(
                f"{self.path} is an agent for another task: "
                "PandaReach-v2 has 3 actions (ee) or 7 (joints)"
            )
        return "ee" if actions == 3 else "joints"

    def policy(
        self, observation_space: gym.Space, action_space: gym.Space
    ) -> MultiInputActorCriticPolicy:
        """The policy, ready to ``predict``. Raises UsageError if it doesn't fit the spaces."""
        relative = "features_extractor.scale" in self.weights
        try:
            policy = MultiInputActorCriticPolicy(
                observation_space,  # type: ignore[arg-type]
                action_space,
                lr_schedule=lambda _: 0.0,
                net_arch=self.layers,
                ortho_init=False,  # slow for large layers, and the weights are loaded below
                activation_fn=self.activation,
                features_extractor_class=RelativeGoal if relative else CombinedExtractor,
                use_sde=self.weights["log_std"].ndim == 2,
            )
            policy.load_state_dict(self.weights)
        except OSError:  # a fault of the machine, not of the file
            raise
        except Exception:  # a stranger's shapes can make PyTorch fail in any way
            raise UsageError(
                f"{self.path} is an agent of another kind: only PPO's MultiInputPolicy on the "
                "observations of PandaReach-v2 can play here"
            ) from None
        policy.set_training_mode(False)
        return policy


def read(path: Path) -> SavedAgent:
    """Read a zip that Stable-Baselines3's PPO saved, without running anything in it.

    Raises:
        UsageError: the file is missing, unreadable or not such a zip, or its weights are broken.
    """
    try:
        # Reading a pipe or a device may never end. Reading a folder fails with the reason.
        readable = path.is_file() or path.is_dir()
        small = path.stat().st_size <= LARGEST
        contents = path.read_bytes() if readable and small else b""
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the agent {path}: {reason}") from None
    try:
        members = _unzip(contents)
        data = json.loads(members["data"])
        num_timesteps = int(data["num_timesteps"])
        # Agents saved before config.json existed have it in "data".
        config = dict(json.loads(members.get("config.json", "null")) or data.get("arguments", {}))
        # SB3 writes what each pickle holds as text beside it.
        activation = re.search(
            r"activation\.(\w+)", str(data["policy_kwargs"].get("activation_fn"))
        )
        weights = {name: _dense(tensor) for name, tensor in _load(members["policy.pth"]).items()}
        if num_timesteps < 0 or sum(map(torch.numel, weights.values())) > LARGEST // 4:
            raise ValueError
        agent = SavedAgent(
            path=path,
            weights=weights,
            optimizer=_load(members["policy.optimizer.pth"]),
            num_timesteps=num_timesteps,
            config=config,
            layers={
                "pi": _layers(weights, "mlp_extractor.policy_net"),
                "vf": _layers(weights, "mlp_extractor.value_net"),
            },
            activation=ACTIVATIONS[activation[1] if activation else "Tanh"],
        )
        numbers = [*weights.values(), weights["log_std"].exp()]
        finite = all(bool(tensor.isfinite().all()) for tensor in numbers)
        len(weights["action_net.bias"])  # fails if it is missing or a single number
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path} has code in place of an agent's weights; nothing in it was run"
        ) from None
    except Exception:  # a stranger's bytes can make any parser fail in any way
        raise UsageError(f"{path} is not an agent that Stable-Baselines3's PPO saved") from None
    if not finite:
        raise UsageError(f"{path} is a broken agent: some of its weights are not finite numbers")
    return agent


def restore(model: PPO, agent: SavedAgent) -> None:
    """Give ``model`` the weights, the optimizer's state and the step count of ``agent``.

    Raises:
        UsageError: ``agent`` and ``model`` differ in their sizes or their goal scale.
    """
    own = model.policy.state_dict()
    try:
        weights = {name: _dense(agent.weights[name], own[name].shape) for name in own}
        if len(agent.weights) > len(own) or not all(
            weights[name].equal(buffer) for name, buffer in model.policy.named_buffers()
        ):
            raise ValueError
        # Adam's numbers come from this run's config: the user may have changed them.
        optimizer = model.policy.optimizer.state_dict()
        moments = agent.optimizer["state"]
        for i, parameter in enumerate(model.policy.parameters()):
            if moments:  # it has learned something
                step = float(moments[i]["step"])
                if not 0 <= step < 2**24:
                    raise ValueError
                optimizer["state"][i] = {
                    "step": torch.tensor(step),
                    "exp_avg": _dense(moments[i]["exp_avg"], parameter.shape),
                    "exp_avg_sq": _dense(moments[i]["exp_avg_sq"], parameter.shape),
                }
    except Exception:  # see read
        raise UsageError(
            f"{agent.path} is an agent of another kind than this run's: it has another "
            "--control-type or --goal-scale, or this script did not train it"
        ) from None
    parameters: Any = {"policy": weights, "policy.optimizer": optimizer}
    model.set_parameters(parameters)
    model.num_timesteps = agent.num_timesteps


def _dense(tensor: Any, shape: torch.Size | None = None) -> torch.Tensor:
    """A copy with its own memory for each number. Raises ValueError unless it is float32.

    A tensor from a file may be sparse, or claim a terabyte in four bytes with a stride of 0.
    """
    if not (
        isinstance(tensor, torch.Tensor)
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and 0 < tensor.numel() <= LARGEST // 4
        and shape in (None, tensor.shape)
    ):
        raise ValueError
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _layers(weights: dict[str, torch.Tensor], net: str) -> list[int]:
    names = [f"{net}.{2 * i}.weight" for i in range(len(weights))]
    shapes = [tuple(weights[name].shape) for name in names if name in weights]
    # If layers didn't fit each other, PyTorch would allocate far larger ones than were read.
    if any(units != inputs for (units, _), (_, inputs) in itertools.pairwise(shapes)):
        raise ValueError
    return [units for units, _ in shapes]


def _load(contents: bytes) -> Any:
    _unzip(contents)  # this is a zip too: check its size
    return torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True)


def _unzip(contents: bytes) -> dict[str, bytes]:
    """The members of a zip. Raises ValueError beyond LARGEST, whatever its headers claim."""
    members: dict[str, bytes] = {}
    left = LARGEST
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        for member in archive.infolist():
            # Python unpacks other methods without a limit.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError
            with archive.open(member) as file:
                members[member.filename] = file.read(left + 1)
            left -= len(members[member.filename])
            if left < 0:
                raise ValueError
    return members
