"""An agent's policy as one ONNX file, for a computer without PyTorch: see docs/ROBOT.md.

pip install onnx onnxscript
python -m panda_rl.export rl-trained-agents/PandaReach_PPO_v2_ee_dense.zip agent.onnx
"""

import importlib.metadata
import json
import logging
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from stable_baselines3.common.policies import ActorCriticPolicy

from panda_rl import agents, cli

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
    """
    import onnx

    control_type = agent.config["control_type"]
    env = gym.make("PandaReach-v2", control_type=control_type)
    policy = agent.policy(env)
    env.close()
    hand, goal = np.random.default_rng(0).uniform(GOAL_LOW, GOAL_HIGH, (2, 1000, 3))
    sample = {
        "achieved_goal": torch.tensor(hand, dtype=torch.float32),
        "desired_goal": torch.tensor(goal, dtype=torch.float32),
        "observation": torch.tensor(np.hstack((hand, 0 * hand)), dtype=torch.float32),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own calls
        logging.disable(logging.WARNING)  # about the missing torchvision
        program = torch.onnx.export(
            Deterministic(policy).eval(),
            kwargs=sample,
            output_names=["action"],
            opset_version=OPSET,
            dynamic_shapes={name: {0: torch.export.Dim("batch")} for name in sample},
            dynamo=True,
            verbose=False,
        )
        logging.disable(logging.NOTSET)
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, which name this computer's folders
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    about = {"agent": agent.path.stem, "control_type": control_type, **CONTRACT}
    about |= {"action": ACTION[control_type], "versions": json.dumps(versions)}
    onnx.helper.set_model_props(model, about)
    with cli.replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def export(agent: tyro.conf.Positional[Path], path: tyro.conf.Positional[Path]) -> None:
    """Write an agent's policy as an ONNX file, for a robot's computer. See docs/ROBOT.md.

    Args:
        agent: the agent's zip. Only numbers are read from it; nothing in it is run.
        path: the .onnx file to write.
    """
    if path.suffix != ".onnx":
        raise cli.UsageError(f"{path} must end in .onnx")
    saved = agents.read(agent)
    export_onnx(saved, path)
    print(f"Wrote {path} ({path.stat().st_size / 1e3:.0f} kB), the policy of {saved.path.name}.")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(export))
