"""Others' trainers on the environment, as their users start them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from gymnasium import wrappers
from sb3_contrib import TQC
from stable_baselines3 import HerReplayBuffer

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
