"""The environments: panda-gym's own, by Gymnasium's and Stable-Baselines3's own checks."""

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from panda_rl import simulator
from panda_rl.env import PandaEnv
from tests.conftest import ROOT

TASKS = ["Reach", "Push", "Slide", "PickAndPlace", "Stack", "Flip"]
KINDS = ["", "Dense", "Joints", "JointsDense"]
IDS = [f"Panda{task}{kind}-v2" for task in TASKS for kind in KINDS]
ENDS = [name for name in IDS if name.count("Joints") == name.count("Dense")]
ZERO = np.zeros(3, np.float32)

# An untrained agent's first steps, which take the hand to the table: (19, 3), in tenths.
TO_THE_TABLE = """
    0 -2 -3   -4 1 10   3 -10 5   -2 8 -10   -3 5 6   -1 -10 4   -3 -10 -10
    5 8 -4   -1 6 -10   4 -10 -3   5 10 -1   -10 -1 -10   3 -10 -10   5 -8 -7
    2 5 0   -2 1 -2   -3 -10 -10   -7 2 2   1 8 -4
"""


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Make an environment that is closed at the end."""
    made: list[gym.Env] = []

    def make(name: str = "PandaReach-v2", **kwargs: Any) -> Any:
        made.append(gym.make(name, **kwargs))
        return made[-1]

    yield make
    for env in made:
        env.close()


def episode(env: Any, seed: int, steps: int = 15, **kwargs: Any) -> list[Any]:
    """All that is observed and rewarded, with actions that depend on nothing but the seed."""
    env.reset(seed=seed, **kwargs)
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(steps):
        observation, reward, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape))
        results.append(({name: a.tolist() for name, a in observation.items()}, reward))
    return results


def goal(env: Any, **kwargs: Any) -> list[float]:
    return env.reset(**kwargs)[0]["desired_goal"].tolist()


@pytest.mark.parametrize("name", IDS)
def test_passes_both_checkers_without_a_warning(name: str, make: Callable[..., Any]) -> None:
    env = make(name).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)  # human needs a display: test_window.py
        sb3_check_env(env)


@pytest.mark.parametrize("name", IDS)
def test_an_episode_is_panda_gyms(name: str, make: Callable[..., Any]) -> None:
    """Its spaces, length, and step by step its observations and rewards, with sorted contacts."""
    import gym as old_gym

    assert gym.spec(name).max_episode_steps == old_gym.spec(name).max_episode_steps
    env = make(name)
    with simulator.quiet():
        theirs = old_gym.make(name)
    engine = theirs.unwrapped.sim.physics_client
    engine.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
    assert env.action_space.shape == theirs.action_space.shape
    for key, space in theirs.observation_space.items():
        assert (env.observation_space[key].low == space.low).all()
        assert (env.observation_space[key].high == space.high).all()

    observation, _ = env.reset(seed=7)
    drawn = int(seeding.np_random(7)[0].integers(2**31))
    expected = theirs.unwrapped.reset(seed=drawn)
    rng = np.random.default_rng(0)
    for _ in range(15):
        for key, value in expected.items():
            assert observation[key].dtype == np.float32
            np.testing.assert_allclose(observation[key], value, atol=1e-4)
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        expected, their_reward, _, their_info = theirs.unwrapped.step(action)
        assert reward == pytest.approx(float(their_reward), abs=1e-4)
        assert info["is_success"] == bool(their_info["is_success"])
        assert not terminated and not truncated
    theirs.close()


@pytest.mark.parametrize("name", ENDS)
def test_a_seed_fixes_an_episode_whatever_was_played_before(
    name: str, make: Callable[..., Any]
) -> None:
    env = make(name)
    first = episode(env, seed=3)
    assert episode(env, seed=4)[0] != first[0]
    np.random.seed(1)  # the caller's own generator decides nothing, and is left alone
    assert episode(env, seed=3) == first
    assert np.random.random() == np.random.RandomState(1).random_sample()
    assert episode(make(name), seed=3) == first


def test_one_seed_fixes_all_later_goals_also_in_a_process(make: Callable[..., Any]) -> None:
    env, workers = make(), SubprocVecEnv([lambda: gym.make("panda_rl:PandaReach-v2")])
    here = [goal(env, seed=3), goal(env), goal(env)]
    assert [goal(env, seed=3), goal(env), goal(env)] == here
    workers.seed(3)
    there: list[Any] = [workers.reset() for _ in here]
    assert [observation["desired_goal"][0].tolist() for observation in there] == here
    workers.close()


@pytest.mark.slow
def test_contacts_repeat_to_the_bit_wherever_the_simulator_lies_in_memory() -> None:
    """Without sorted contacts, one in some forty simulators takes another path."""
    actions = np.array(TO_THE_TABLE.split(), float).reshape(-1, 3) / 10

    def path() -> bytes:
        env = PandaEnv()
        env.reset(seed=2)
        positions = [env.step(action)[0]["achieved_goal"] for action in actions]
        env.close()
        return np.array(positions).tobytes()

    assert len({path() for _ in range(100)}) == 1


def test_the_defaults_are_panda_gyms_and_success_ends_nothing(make: Callable[..., Any]) -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    env.reset(options={"goal": observation["achieved_goal"]})
    ends = [env.step(ZERO)[1:] for _ in range(50)]
    assert [reward for reward, *_ in ends] == [0.0] * 50
    assert [end[1:3] for end in ends] == [(False, False)] * 49 + [(False, True)]
    assert ends[-1][3]["is_success"]


@pytest.mark.parametrize("name", ENDS)
def test_rewards_can_be_computed_for_many_goals_at_once(
    name: str, make: Callable[..., Any]
) -> None:
    """As HER does, to the bit."""
    env = make(name)
    observation, _ = env.reset(seed=0)
    # Half of the goals are reached.
    env.reset(seed=0, options={"goal": observation["achieved_goal"]})
    steps = [env.step(env.action_space.sample()) for _ in range(5)]
    env.reset(seed=1)
    steps += [env.step(env.action_space.sample()) for _ in range(5)]
    achieved, desired = (
        np.array([observation[key] for observation, *_ in steps])
        for key in ("achieved_goal", "desired_goal")
    )
    rewards = env.unwrapped.compute_reward(achieved, desired, {})
    assert rewards.tolist() == [reward for _, reward, *_ in steps]


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_shows_each_cube_and_each_goal(task: str, make: Callable[..., Any]) -> None:
    """Without a display."""
    env = make(f"Panda{task}-v2", render_mode="rgb_array")
    env.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = env.render()
    assert (picture.shape, picture.dtype) == ((480, 720, 3), np.uint8)
    assert (picture[[0, 240], -1] == (44, 62, 80)).all()  # sky and floor
    assert make(f"Panda{task}-v2").unwrapped.render() is None  # it was made without render_mode
    panda = env.unwrapped.panda
    objects, targets = (simulator.movable(panda, kind) for kind in ("object", "target"))
    names = objects + targets
    assert len(names) == {"Reach": 1, "Stack": 4}.get(task, 2)
    brightness = {}
    for name in names:
        place = panda.sim.get_base_position(name)
        panda.sim.set_base_pose(name, np.array([0, 0, 50]), np.array([0, 0, 0, 1]))
        without = env.render()
        panda.sim.set_base_pose(name, place, np.array([0, 0, 0, 1]))
        seen = np.abs(picture.astype(int) - without).sum(-1) > 40
        assert seen.sum() > 30, name
        brightness[name] = np.median(picture[seen])
    if task != "Reach":  # goals are pale
        assert min(brightness[name] for name in targets) > max(brightness[name] for name in objects)


# ------------------------------------------------------------------ a goal of one's own


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_has_the_goal_that_was_asked_for(task: str, make: Callable[..., Any]) -> None:
    """Whichever wrapper is around; the next episode draws its own again."""
    env: Any = gym.wrappers.RecordEpisodeStatistics(make(f"Panda{task}-v2"))
    mine = goal(make(f"Panda{task}-v2"), seed=2)
    assert goal(env, options={"goal": mine}) == mine  # also before any other reset
    drawn = goal(env, seed=1)
    assert goal(env, options={"goal": mine}) == mine
    assert env.unwrapped.panda.task.get_goal().tolist() == mine
    observation, *_ = env.step(np.zeros(env.action_space.shape))
    assert observation["desired_goal"].tolist() == mine
    assert goal(env, seed=1) == drawn


@pytest.mark.parametrize(
    "options",
    [
        {"goal": (0, 0)},
        {"goal": (0, 0, np.nan)},
        {"goal": 0.1},
        {"goal": "near"},
        {"goal": None},
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_and_nothing_has_changed(
    options: dict[str, Any], make: Callable[..., Any]
) -> None:
    env = make()
    env.reset(seed=1)
    before = env.step(ZERO)[0]["observation"].tolist(), env.unwrapped.panda.task.goal.tolist()
    with pytest.raises(ValueError):
        env.reset(seed=2, options=options)
    after, _ = env.unwrapped.observe()
    assert (after["observation"].tolist(), env.unwrapped.panda.task.goal.tolist()) == before


@pytest.mark.filterwarnings("error")
def test_a_cube_that_spins_fast_is_no_warning(make: Callable[..., Any]) -> None:
    env = make("PandaPush-v2")
    env.reset(seed=0)
    simulation = env.unwrapped.panda.sim
    cube = simulation._bodies_idx["object"]
    simulation.physics_client.resetBaseVelocity(cube, angularVelocity=(0, 0, 50))
    observation, *_ = env.step(ZERO)
    assert observation["observation"][-1] > 10  # where panda-gym's space ends


# ------------------------------------------------------------------ actions


@pytest.mark.parametrize(
    "action",
    [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf], [1e300, 0, 0], [0] * 7, [[0] * 3], [], 0],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_an_action_that_would_break_the_simulator_is_refused(
    action: Any, make: Callable[..., Any]
) -> None:
    """A NaN would get the best reward there is, and all later episodes would be of NaN."""
    env = make().unwrapped
    before = episode(env, seed=1)
    with pytest.raises(ValueError, match=r"finite .*\(3,\)"):
        env.step(action)
    assert episode(env, seed=1) == before


# ------------------------------------------------------------------ copies, and panda-gym's own


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_refuses_to_step_until_it_is_reset(
    copied: Callable[[Any], Any], make: Callable[..., Any]
) -> None:
    env = make("PandaPushJoints-v2")
    env.reset(seed=1)
    other = copied(env)
    with pytest.raises(RuntimeError, match="reset"):
        other.step(np.zeros(7))
    assert episode(other, seed=2) == episode(env, seed=2)
    other.close()
    env.step(np.zeros(7))  # deleting or closing a copy leaves the original alone


def test_panda_gyms_own_robot_and_states_are_at_hand(make: Callable[..., Any]) -> None:
    env = make("PandaReachDense-v2")
    env.reset(seed=1)
    panda = env.unwrapped.panda
    angles = [panda.robot.get_joint_angle(joint) for joint in range(7)]
    assert angles == pytest.approx(panda.robot.neutral_joint_values[:7])
    state = panda.save_state()
    first = [env.step(np.ones(3))[1] for _ in range(5)]
    panda.restore_state(state)
    assert [env.step(np.ones(3))[1] for _ in range(5)] == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize("wrong", [{"control_type": "arm"}, {"reward_type": "big"}])
def test_an_unknown_variant_is_one_clear_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        PandaEnv(**wrong)


def test_a_closed_environment_can_be_closed_again_and_not_be_used(make: Callable[..., Any]) -> None:
    env = make(render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.close()
    env.close()
    for method in (env.reset, env.render, lambda: env.step(ZERO)):
        with pytest.raises(AttributeError, match="None"):
            method()


# ------------------------------------------------------------------ the caller's process


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_importing_it_changes_nothing_in_the_process() -> None:
    program = """
import os, pkgutil, signal, sys, threading
import gymnasium, torch, stable_baselines3, tyro, scipy.stats, imageio.v3, rich.table
import gym, pybullet_data, panda_gym, pybullet

def state():
    return {
        "handlers": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook),
        "environment": dict(os.environ),
        "threads": threading.enumerate(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "random": torch.get_rng_state().tolist(),
        "torch": torch.get_num_threads(),
        "folder": os.getcwd(),
    }

before = state()
import panda_rl
for module in pkgutil.iter_modules(panda_rl.__path__, "panda_rl."):
    __import__(module.name)
gymnasium.make("PandaReach-v2").reset()
after = state()
print([name for name in before if before[name] != after[name]])
"""
    result = run_program(program)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stdout + result.stderr


def test_it_is_silent_and_what_the_caller_printed_is_not_lost() -> None:
    program = """
import sys
sys.stdout.reconfigure(line_buffering=False)
print("before")
import gymnasium, panda_rl, threading
def make():
    for _ in range(3):
        gymnasium.make("PandaReach-v2").close()
threads = [threading.Thread(target=make) for _ in range(4)]  # they all redirect stdout
for thread in threads: thread.start()
for thread in threads: thread.join()
print("after")
"""
    result = run_program(program)
    assert (result.stdout, result.stderr, result.returncode) == ("before\nafter\n", "", 0)
