"""An agent's policy as one ONNX file, for a computer without PyTorch: see docs/ROBOT.md.

pip install onnx onnxscript
python -m panda_rl.export rl-trained-agents/PandaReach_PPO_v2_ee_dense.zip agent.onnx
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import tyro
from stable_baselines3.common.policies import ActorCriticPolicy

from panda_rl import agents, cli

GOAL_LOW, GOAL_HIGH = (-0.15, -0.15, 0.0), (0.15, 0.15, 0.3)  # m, panda-gym's
CONTRACT = {  # from panda-gym's Reach and Panda
    "rate_hz": "25",
    "goal_low": json.dumps(GOAL_LOW),
    "goal_high": json.dumps(GOAL_HIGH),
    "action_scale": "0.05",  # m or rad
}


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

    The file's metadata has the numbers that a robot's program needs to use it.
    """
    import onnx

    policy: Any = agent.policy(agent.make_env())
    sizes = {"achieved_goal": 3, "desired_goal": 3, "observation": 6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own calls
        logging.disable(logging.WARNING)  # about the missing torchvision
        program: Any = torch.onnx.export(
            Deterministic(policy).eval(),
            kwargs={name: torch.zeros(2, size) for name, size in sizes.items()},
            output_names=["action"],
            opset_version=18,
            dynamic_shapes={name: {0: torch.export.Dim("batch")} for name in sizes},
            dynamo=True,
            verbose=False,
        )
        logging.disable(logging.NOTSET)
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, which name this computer's folders
    about = {"agent": agent.path.stem, "control_type": agent.config["control_type"]}
    onnx.helper.set_model_props(model, about | CONTRACT)
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
    saved = agents.read_reach(agent)
    export_onnx(saved, path)
    print(f"Wrote {path} ({path.stat().st_size / 1e3:.0f} kB), the policy of {saved.path.name}.")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(export))
