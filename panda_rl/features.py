"""What the networks see, and how they are built."""

from typing import Any

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


class RelativeCube(BaseFeaturesExtractor):
    """Shows the networks the vectors from the hand to the cube and from the cube to the goal.

    Where the cube is on the table does not matter, so it is no input of its own. Its spin is left
    out, too. Its speed can be very large for a moment, when it slips out from under the hand, so it
    is clipped.

    Args:
        observation_space: of PandaPush-v2 or PandaPickAndPlace-v2. ``observation`` is the hand's
            position and velocity, in PickAndPlace the distance between its fingers, and the cube's
            position (m), angles (rad), velocity (m/s) and spin (rad/s).
        scale: 1/m, as in RelativeGoal.
    """

    scale: torch.Tensor

    def __init__(self, observation_space: gym.spaces.Dict, scale: float = 8.0) -> None:
        observation: Any = observation_space["observation"]
        self.hand = observation.shape[0] - 12  # the cube has twelve numbers, the hand the rest
        super().__init__(observation_space, self.hand + 11)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features (batch, 17 or 18): the hand's; both vectors; the cube's velocity and turn."""
        hand = observations["observation"][:, : self.hand]
        _, angles, velocity, _ = observations["observation"][:, self.hand :].split(3, dim=1)
        cube, goal = observations["achieved_goal"], observations["desired_goal"]
        vectors = self.scale * torch.cat((cube - hand[:, :3], goal - cube), dim=1)
        yaw = 4 * angles[:, 2:]  # a cube looks the same after a quarter turn
        return torch.cat((hand, vectors, velocity.clamp(-1, 1), yaw.sin(), yaw.cos()), dim=1)


class NormReLU(torch.nn.Module):
    """A hidden layer's activation: layer normalization (Ba et al., 2016), then ReLU.

    SAC's critics learn from their own predictions. With normalized layers these cannot grow without
    bound where there is no experience yet. Learning was faster in the one seed that was tried.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        normalized = torch.nn.functional.layer_norm(inputs, inputs.shape[-1:])
        return torch.nn.functional.relu(normalized)
