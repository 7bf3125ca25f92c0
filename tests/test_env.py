"""The environment: Gymnasium's and Stable-Baselines3's own checks, and what they leave out."""

import os
import subprocess
import sys
import warnings
from typing import Any

from panda_rl.env import PandaReachEnv, quiet
from panda_rl.errors import DisplayError
from tests.conftest import ROOT, VARIANTS, linux_only

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import SubprocVecEnv

# An untrained agent's first steps, which take the hand to the table: (19, 3), in tenths.
TO_THE_TABLE = """
    0 -2 -3   -4 1 10   3 -10 5   -2 8 -10   -3 5 6   -1 -10 4   -3 -10 -10
    5 8 -4   -1 6 -10   4 -10 -3   5 10 -1   -10 -1 -10   3 -10 -10   5 -8 -7
    2 5 0   -2 1 -2   -3 -10 -10   -7 2 2   1 8 -4
"""


def make(control_type: str = "ee", reward_type: str = "dense", **kwargs: Any) -> gym.Env:
    return gym.make("PandaReach-v2", control_type=control_type, reward_type=reward_type, **kwargs)


def goals(env: gym.Env, seed: int, n: int = 3) -> list[list[float]]:
    return [env.reset(seed=seed if i == 0 else None)[0]["desired_goal"].tolist() for i in range(n)]


@pytest.mark.parametrize(("control_type", "reward_type"), VARIANTS)
def test_passes_both_checkers_without_a_warning(control_type: str, reward_type: str) -> None:
    env = make(control_type, reward_type).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)  # human needs a display: test_window.py
        sb3_check_env(env)
    env.close()


def test_the_defaults_are_panda_gyms() -> None:
    env = gym.make("PandaReach-v2")
    env.reset(seed=0)
    _, reward, *_ = env.step(np.zeros(3, np.float32))
    assert env.action_space.shape == (3,)
    assert reward == -1.0
    env.close()


@pytest.mark.parametrize(("control_type", "reward_type"), VARIANTS)
def test_an_episode_is_panda_gyms(control_type: str, reward_type: str) -> None:
    """Step by step what panda-gym 2 gives for the same goal and actions, with sorted contacts."""
    import gym as old_gym

    env = make(control_type, reward_type)
    with quiet():
        theirs = old_gym.make("PandaReach-v2", control_type=control_type, reward_type=reward_type)
    engine = theirs.unwrapped.sim.physics_client
    engine.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
    observation, _ = env.reset(seed=7)
    theirs.reset()
    goal = theirs.unwrapped.task.goal = env.get_wrapper_attr("_panda").task.goal
    theirs.unwrapped.sim.set_base_pose("target", goal, np.array([0, 0, 0, 1]))
    rng = np.random.default_rng(0)
    for step in range(1, 51):
        action = np.asarray(rng.uniform(-1, 1, env.action_space.shape), np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        their_observation, their_reward, done, their_info = theirs.step(action)
        for name, value in their_observation.items():
            assert observation[name].dtype == np.float32
            np.testing.assert_array_equal(observation[name], value.astype(np.float32))
        assert reward == pytest.approx(float(their_reward), abs=1e-6)
        assert info["is_success"] == bool(their_info["is_success"])
        assert not terminated
        assert truncated == done == (step == 50)
    env.close()
    theirs.close()


def test_one_seed_fixes_all_later_goals_also_in_a_worker() -> None:
    env, workers = make(), SubprocVecEnv([lambda: gym.make("panda_rl:PandaReach-v2")])
    here = goals(env, seed=3)
    env.step(env.action_space.sample())
    assert goals(env, seed=3) == here
    assert goals(env, seed=4) != here
    workers.seed(3)
    observations: list[Any] = [workers.reset() for _ in here]
    there = [observation["desired_goal"][0].tolist() for observation in observations]
    assert there == here
    env.close()
    workers.close()


def test_an_episode_repeats_to_the_bit() -> None:
    env = make("joints")

    def episode() -> list[float]:
        env.reset(seed=1)
        return [float(env.step(np.full(7, 0.5, np.float32))[1]) for _ in range(50)]

    first = episode()
    for _ in range(3):
        env.reset()
        env.step(env.action_space.sample())
    assert episode() == first
    env.close()


@pytest.mark.slow
def test_contacts_repeat_to_the_bit_wherever_the_simulator_lies_in_memory() -> None:
    """Without sorted contacts, one in some forty simulators takes another path."""
    actions = np.array(TO_THE_TABLE.split(), float).reshape(-1, 3) / 10

    def path() -> bytes:
        env = make()
        env.reset(seed=2)
        positions = [env.step(action)[0]["achieved_goal"] for action in actions]
        env.close()
        return np.array(positions).tobytes()

    assert len({path() for _ in range(200)}) == 1


@pytest.mark.slow
def test_her_learns_on_it() -> None:
    env = make(reward_type="sparse")
    model = SAC(
        "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=1450, seed=0
    )
    model.learn(1500)
    assert model.replay_buffer
    sample = model.replay_buffer.sample(256)
    # Relabelled with goals that were reached later: some are successes (reward 0).
    assert {float(reward) for reward in sample.rewards} == {-1.0, 0.0}
    env.close()


def test_rgb_array_needs_no_display() -> None:
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture: Any = env.render()
    assert picture.shape == (480, 720, 3)
    assert picture.dtype == np.uint8
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    assert ((green > 100) & (red < 60) & (blue < 60)).sum() > 50  # the target
    assert ((red > 150) & (green > 150) & (blue > 150)).mean() > 0.1  # arm and table
    env.close()


@linux_only
@pytest.mark.parametrize("display", [None, ":99", "nonsense"])
def test_a_window_without_a_display_is_one_clear_error(
    display: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if display:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(DisplayError, match="no display answers"):
        make(render_mode="human")


@pytest.mark.parametrize(
    "wrong", [{"control_type": "arm"}, {"reward_type": "big"}, {"render_mode": "ansi"}]
)
def test_an_unknown_variant_is_one_clear_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        PandaReachEnv(**wrong)


def test_close_twice() -> None:
    env = make()
    env.close()
    env.close()


def test_silent_in_this_process_and_in_a_worker() -> None:
    program = """
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
import gymnasium, panda_rl
if __name__ == "__main__":
    env = gymnasium.make("PandaReach-v2")
    env.reset()
    env.close()
    workers = make_vec_env("panda_rl:PandaReach-v2", 2, vec_env_cls=SubprocVecEnv)
    workers.reset()
    workers.close()
    print("done")
"""
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:panda_rl.env", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (result.stdout, result.stderr, result.returncode) == ("done\n", "", 0)


def test_what_the_caller_printed_is_not_lost() -> None:
    """stdout is redirected while the simulator starts: what stands in its buffers stays."""
    program = "print('before'); import panda_rl.env as e; e.PandaReachEnv(); print('after')"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        | {"PYTHONPATH": str(ROOT)},
    )
    assert (result.stdout, result.stderr) == ("before\nafter\n", "")


@pytest.mark.parametrize(
    "action",
    [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf], [0] * 7, [[0, 0, 0]], [], 0],
    ids=str,
)
def test_an_action_that_would_break_the_simulator_is_refused(action: Any) -> None:
    """A NaN would get the best reward there is, and all later episodes would be of NaN."""
    env: Any = make(reward_type="sparse").unwrapped

    def episode() -> list[Any]:
        env.reset(seed=1)
        steps = [env.step(np.full(3, 0.1, np.float32)) for _ in range(5)]
        return [(observation["observation"].tolist(), reward) for observation, reward, *_ in steps]

    before = episode()
    with pytest.raises(ValueError, match=r"finite and of shape \(3,\)"):
        env.step(np.array(action, np.float32))
    assert episode() == before
    env.close()


def test_after_close_every_method_says_that_it_is_closed() -> None:
    env: Any = make(render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.close()
    for method in (
        env.reset,
        env.render,
        env.picture,
        lambda: env.step(np.zeros(3, np.float32)),
        lambda: env.compute_reward(np.zeros(3), np.zeros(3), {}),
    ):
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            method()


def test_an_episode_is_as_long_as_panda_gyms() -> None:
    import gym as old_gym

    theirs = old_gym.spec("PandaReach-v2").max_episode_steps
    assert gym.spec("PandaReach-v2").max_episode_steps == theirs


def test_threads_that_make_environments_at_once_leave_stdout_working() -> None:
    program = """
import gymnasium, panda_rl, threading
def make():
    for _ in range(3):
        gymnasium.make("PandaReach-v2").close()
threads = [threading.Thread(target=make) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("still here", flush=True)
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout, result.stderr, result.returncode) == ("still here\n", "", 0)
