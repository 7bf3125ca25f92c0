"""Others' trainers on the environment, as their users start them."""

import copy
import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from sb3_contrib import TQC
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
from torch import nn

import panda_rl  # noqa: F401  registers PandaReach-v2
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "OTHER_TRAINERS.md").read_text().replace("\\\n", "")
ZOO = [shlex.split(line)[1:] for line in re.findall(r"^python -m rl_zoo3.*", PAGE, re.M)]


def test_rl_baselines3_zoo_trains_and_plays(clone: Path) -> None:
    """The commands of docs/OTHER_TRAINERS.md, cut short."""

    def zoo(*words: str) -> str:
        result = subprocess.run(
            [sys.executable, *words], cwd=clone, capture_output=True, text=True, timeout=600
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    ppo, tqc, enjoy = ZOO
    assert "success_rate" in zoo(*ppo, "-n", "1024")
    played = zoo(*enjoy, "-n", "100")
    returns = [float(number) for number in re.findall(r"Episode Reward: (\S+)", played)]
    assert len(returns) == 2
    assert all(-50 < number < 0 and number % 1 for number in returns)  # dense, as it was trained

    zoo(*tqc, "-n", "1010", "--vec-env", "subproc")
    env = gym.make("PandaReach-v2")
    model = TQC.load(clone / "logs" / "tqc" / "PandaReach-v2_1" / "PandaReach-v2.zip", env)
    env.close()
    assert model.replay_buffer_class is HerReplayBuffer
    assert model.num_timesteps == 1010


def test_tqc_with_her_in_workers() -> None:
    env = make_vec_env("panda_rl:PandaReach-v2", 2, seed=0, vec_env_cls=SubprocVecEnv)
    model = TQC(
        "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=400, seed=0
    )
    before = copy.deepcopy(model.policy.state_dict())
    model.learn(420)
    assert any(not torch.equal(before[k], v) for k, v in model.policy.state_dict().items())
    assert model.replay_buffer
    sample = model.replay_buffer.sample(256)
    # The workers' compute_reward: some steps reach the goal that they are relabelled with.
    assert {float(reward) for reward in sample.rewards} == {-1.0, 0.0}
    env.close()


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("sync", {}),
        ("async", {}),
        ("async", {"context": "spawn"}),  # macOS's and Windows' way: workers start from nothing
        ("async", {"shared_memory": False}),
    ],
)
def test_make_vec_gives_the_same_episode_in_every_mode(mode: str, options: dict) -> None:
    envs = gym.make_vec(
        "panda_rl:PandaReach-v2",
        num_envs=2,
        vectorization_mode=mode,
        vector_kwargs=options,
        control_type="joints",
        reward_type="dense",
    )
    alone = gym.make("PandaReach-v2", control_type="joints", reward_type="dense")
    observations, _ = envs.reset(seed=5)
    observation, _ = alone.reset(seed=6)
    action = np.full((2, 7), 0.5, np.float32)
    for _ in range(3):
        for key, value in observation.items():
            np.testing.assert_array_equal(observations[key][1], value)
        observations, rewards, *_ = envs.step(action)
        observation, reward, *_ = alone.step(action[1])
        assert rewards[1] == reward
    envs.close()
    alone.close()


def test_record_video(tmp_path: Path) -> None:
    env = gym.make("PandaReach-v2", render_mode="rgb_array", max_episode_steps=5)
    env = wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda episode: True)
    env.reset(seed=0)
    terminated = truncated = False
    while not (terminated or truncated):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    env.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert iio.imread(video).shape == (6, 480, 720, 3)
    assert iio.immeta(video)["fps"] == 25  # real time


def test_a_page_of_pytorch_learns() -> None:
    """PPO as CleanRL writes it, on Gymnasium's vector environments and wrappers."""
    envs = gym.make_vec(
        "PandaReach-v2",
        num_envs=8,
        vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
        wrappers=[
            wrappers.FlattenObservation,
            wrappers.RecordEpisodeStatistics,
            wrappers.ClipAction,
            wrappers.NormalizeObservation,
            lambda env: wrappers.TransformObservation(
                env, lambda obs: obs.clip(-10, 10).astype(np.float32), env.observation_space
            ),
            lambda env: wrappers.NormalizeReward(env, gamma=0.7),
        ],
        reward_type="dense",
    )
    returns = ppo(envs, updates=20, n_steps=64, gamma=0.7, gae_lambda=0.8, seed=0)
    envs.close()
    assert len(returns) == 8 * (20 * 64 // 50)
    assert np.mean(returns[-40:]) > 0.6 * np.mean(returns[:40])  # they are negative


def ppo(
    envs: gym.vector.VectorEnv,
    updates: int,
    n_steps: int,
    gamma: float,
    gae_lambda: float,
    seed: int,
) -> list[float]:
    """Train, and give each episode's return."""
    torch.manual_seed(seed)
    inputs = gym.spaces.flatdim(envs.single_observation_space)
    outputs = gym.spaces.flatdim(envs.single_action_space)

    def net(outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
        )

    actor, critic, log_std = net(outputs), net(1), nn.Parameter(torch.full((outputs,), -0.5))
    parameters = [*actor.parameters(), *critic.parameters(), log_std]
    optimizer = torch.optim.Adam(parameters, lr=2e-3)

    def log_prob(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Normal(actor(obs), log_std.exp()).log_prob(action).sum(-1)

    returns: list[float] = []
    next_obs = torch.tensor(envs.reset(seed=seed)[0])
    for _ in range(updates):
        obs = torch.zeros(n_steps, envs.num_envs, inputs)
        actions = torch.zeros(n_steps, envs.num_envs, outputs)
        rewards, dones = torch.zeros(2, n_steps, envs.num_envs)
        with torch.no_grad():
            for t in range(n_steps):
                obs[t] = next_obs
                actions[t] = torch.normal(actor(next_obs), log_std.exp())
                ahead, reward, _, truncated, infos = envs.step(actions[t].numpy())
                next_obs, rewards[t] = torch.tensor(ahead), torch.tensor(reward)
                dones[t] = torch.tensor(truncated)
                if truncated.any():
                    returns += infos["final_info"]["episode"]["r"].tolist()
            values = critic(torch.cat((obs, next_obs[None])))[..., 0]
            advantages = torch.zeros_like(rewards)
            advantage = torch.zeros(envs.num_envs)
            for t in reversed(range(n_steps)):
                going_on = 1 - dones[t]
                delta = rewards[t] + gamma * going_on * values[t + 1] - values[t]
                advantage = delta + gamma * gae_lambda * going_on * advantage
                advantages[t] = advantage
            old = log_prob(obs, actions)
            targets = advantages + values[:-1]
        flat = [x.flatten(0, 1) for x in (obs, actions, old, advantages, targets)]
        for _ in range(10):
            for batch in torch.randperm(len(flat[0])).split(64):
                obs_b, actions_b, old_b, advantages_b, targets_b = (x[batch] for x in flat)
                advantages_b = (advantages_b - advantages_b.mean()) / advantages_b.std()
                ratio = (log_prob(obs_b, actions_b) - old_b).exp()
                gain = torch.min(ratio * advantages_b, ratio.clamp(0.8, 1.2) * advantages_b)
                value_loss = (critic(obs_b)[:, 0] - targets_b).square().mean()
                optimizer.zero_grad()
                (0.5 * value_loss - gain.mean()).backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
    return returns
