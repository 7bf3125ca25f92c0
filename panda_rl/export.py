"""An agent's policy as one ONNX file, for a computer without PyTorch: see docs/ROBOT.md."""

import importlib.metadata
import json
import logging
import warnings
from pathlib import Path

from panda_rl import agents, evaluation, files
from panda_rl.errors import UsageError

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

OPSET = 18
GOAL_LOW, GOAL_HIGH = (-0.15, -0.15, 0.0), (0.15, 0.15, 0.3)
CONTRACT = {  # the numbers come from panda-gym's Reach, Panda and PyBullet classes
    "rate_hz": "25",
    "frame": "world: m, z up, z = 0 on the table; the robot's base is at (-0.6, 0, 0), not rotated",
    "start_joints": "[0.0, 0.41, 0.0, -1.85, 0.0, 2.26, 0.79]",
    "achieved_goal": "the hand's position (m): between the fingertips, panda_hand + 0.105 m",
    "desired_goal": "where the hand should go (m): from goal_low to goal_high",
    "observation": "the hand's position (m) and its linear velocity (m/s)",
    "goal_low": json.dumps(GOAL_LOW),
    "goal_high": json.dumps(GOAL_HIGH),
    "action_scale": "0.05",
}
ACTION = {
    "ee": "x, y, z in [-1, 1]; times action_scale: how far to move the hand (m) from where it is; "
    "the hand points down",
    "joints": "joints 1 to 7 in [-1, 1]; times action_scale: how far to turn each joint (rad) "
    "from where it is",
}
PACKAGES = ("torch", "stable-baselines3", "panda-gym", "pybullet", "onnx", "onnxscript")


class Deterministic(torch.nn.Module):
    """``policy.predict(..., deterministic=True)`` as one PyTorch module."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(
        self, achieved_goal: torch.Tensor, desired_goal: torch.Tensor, observation: torch.Tensor
    ) -> torch.Tensor:
        """Actions (batch, 3 or 7) from (batch, 3), (batch, 3) and (batch, 6)."""
        seen = {
            "achieved_goal": achieved_goal,
            "desired_goal": desired_goal,
            "observation": observation,
        }
        features = self.policy.pi_features_extractor(seen)
        latent = self.policy.mlp_extractor.forward_actor(features)
        return self.policy.action_net(latent).clamp(-1, 1)


def export_onnx(agent: agents.SavedAgent, path: Path) -> None:
    """Write the deterministic policy of ``agent`` to ``path``, whole or not at all.

    The file's metadata says what its inputs and its output mean.

    Raises:
        UsageError: packages are missing, ``path`` can't be written, or the agent is broken.
    """
    if path.suffix != ".onnx":
        raise UsageError(f"{path} must end in .onnx")
    try:
        import onnx
        import onnxscript  # noqa: F401  PyTorch's exporter needs it
    except ImportError:
        raise UsageError("--export needs two more packages: pip install onnx onnxscript") from None
    files.check_writable(path)

    env = gym.make("PandaReach-v2", control_type=agent.control_type)
    policy = agent.policy(env.observation_space, env.action_space)
    env.close()
    hand, goal = np.random.default_rng(0).uniform(GOAL_LOW, GOAL_HIGH, (2, 1000, 3))
    sample = {
        "achieved_goal": hand.astype(np.float32),
        "desired_goal": goal.astype(np.float32),
        "observation": np.hstack((hand, 0 * hand)).astype(np.float32),
    }
    evaluation.act(policy, sample)  # finite weights can still give infinite actions

    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own calls
        logging.disable(logging.WARNING)  # about the missing torchvision
        try:
            program = torch.onnx.export(
                Deterministic(policy).eval(),
                kwargs={name: torch.tensor(array) for name, array in sample.items()},
                output_names=["action"],
                opset_version=OPSET,
                dynamic_shapes={name: {0: batch} for name in sample},
                dynamo=True,
                verbose=False,
            )
        finally:
            logging.disable(logging.NOTSET)
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, which name this computer's folders
    name = agent.path.stem.encode(errors="backslashreplace").decode()  # it may be any bytes
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    onnx.helper.set_model_props(
        model,
        {
            "agent": name,
            "control_type": agent.control_type,
            **CONTRACT,
            "action": ACTION[agent.control_type],
            "versions": json.dumps(versions),
        },
    )
    with files.replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
