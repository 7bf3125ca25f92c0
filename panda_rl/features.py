"""What the policy sees."""

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class RelativeGoal(BaseFeaturesExtractor):
    """Shows the networks the vector from the hand to the goal, scaled to about +-1, and the hand.

    Stable-Baselines3's own extractor passes on the two positions, in metres. What matters is
    their difference, so the networks would first have to learn to subtract.

    Args:
        observation_space: PandaReach-v2's, 12 numbers in all.
        scale: 1/m. With 8, a distance of 12.5 cm becomes 1.
    """

    scale: torch.Tensor

    def __init__(self, observation_space: gym.spaces.Dict, scale: float = 8.0) -> None:
        super().__init__(observation_space, gym.spaces.flatdim(observation_space))
        # A buffer is saved with the weights, so an agent's file has the scale it was trained with.
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features (batch, 12): scaled position of the hand, scaled vector, ``observation``."""
        hand, goal = observations["achieved_goal"], observations["desired_goal"]
        scaled = (self.scale * hand, self.scale * (goal - hand))
        return torch.cat((*scaled, observations["observation"]), dim=1)
