"""What can be hoped for: controllers written by hand, and the fewest steps that joints need.

Writes its table to benchmarks/README.md, to be held beside the shipped agents'.
"""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import rich.progress
import scipy.optimize

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import report  # noqa: E402

import panda_reach_utils as utils  # noqa: E402

EE_STEP = 0.05  # m an axis, panda-gym's largest
JOINT_STEP = 0.05  # rad, panda-gym's largest


class StraightLine:
    """Moves the hand straight at the goal; has ``predict``, as a policy has."""

    def __init__(self, env: gym.Env) -> None:
        self.panda = env.get_wrapper_attr("_env")
        self.ee = env.action_space.shape == (3,)

    def predict(
        self, observation: dict[str, np.ndarray], deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        way = observation["desired_goal"] - observation["achieved_goal"]
        if self.ee:
            return np.clip(way / EE_STEP, -1, 1).astype(np.float32), None
        angles = [self.panda.robot.get_joint_angle(i) for i in self.panda.robot.joint_indices]
        jacobian, _ = self.panda.sim.physics_client.calculateJacobian(
            self.panda.sim._bodies_idx["panda"],
            self.panda.robot.ee_link,
            [0.0] * 3,
            angles,
            [0.0] * 9,
            [0.0] * 9,
        )
        turns = np.linalg.lstsq(np.array(jacobian)[:, :7], way, rcond=None)[0]
        return np.clip(turns / JOINT_STEP, -1, 1).astype(np.float32), None


def fewest_steps(env: gym.Env, goal: np.ndarray) -> int:
    """Steps to the goal's reach, if joints moved at once and in full.

    The smallest turn of the joint that turns most, over all poses within 5 cm of ``goal``
    (3,), m: found by SciPy's SLSQP from four starts, and so a local optimum at worst.
    """
    panda = env.get_wrapper_attr("_env")
    start = np.array([panda.robot.get_joint_angle(i) for i in range(7)])
    fingers = np.zeros(2)

    def distance(turns: np.ndarray) -> float:
        panda.robot.set_joint_angles(np.concatenate((start + turns, fingers)))
        return float(np.linalg.norm(panda.robot.get_ee_position() - goal))

    if distance(np.zeros(7)) < panda.task.distance_threshold:
        return 0
    within_reach = {
        "type": "ineq",
        "fun": lambda x: panda.task.distance_threshold - distance(x[:-1]),
    }
    none_turns_more = {
        "type": "ineq",
        "fun": lambda x: (x[-1] - np.outer((1, -1), x[:-1]) / JOINT_STEP).ravel(),
    }
    rng = np.random.default_rng(0)
    most = []
    for scale in (0.0, 0.3, 0.3, 0.3):
        found = scipy.optimize.minimize(
            lambda x: x[-1],  # the seven turns (rad), and the largest of them in steps
            np.append(scale * rng.uniform(-1, 1, 7), 5.0),
            constraints=(within_reach, none_turns_more),
        )
        if found.success:
            most.append(found.x[-1])
    panda.robot.set_joint_neutral()
    return int(np.ceil(min(most)))


def limits(episodes: int = 1000) -> None:
    """Play by hand on the held-out goals, and count the steps that they need at least.

    Args:
        episodes: held-out goals.
    """
    utils.check_range(1, 10**6, episodes=episodes)
    lines = [
        "| control by hand | mean return, dense | sparse | mean final distance | worst |",
        "| --- | --- | --- | --- | --- |",
    ]
    for control_type in ("ee", "joints"):
        env = gym.make("PandaReach-v2", control_type=control_type)
        result = utils.summary(utils.evaluate(StraightLine(env), env, episodes))
        lines.append(
            f"| {control_type}, straight at the goal | {result['mean_dense_return']:.3f} "
            f"| {result['mean_sparse_return']:.2f} "
            f"| {result['mean_final_distance'] * 1000:.2f} mm "
            f"| {result['worst_final_distance'] * 1000:.1f} mm |"
        )
    fewest = []
    for i in rich.progress.track(range(episodes), "The fewest steps", transient=True):
        observation, _ = env.reset(seed=utils.HELD_OUT_SEED if i == 0 else None)
        fewest.append(fewest_steps(env, observation["desired_goal"].astype(float)))
    env.close()
    # The step that brings the hand within reach already has the reward 0.
    best = -np.mean([max(steps - 1, 0) for steps in fewest])
    lines.append(f"| joints, the bound | | {best:.2f} | | |")
    text = "\n".join(lines) + f"\n\nOn {episodes:,} held-out goals, the shipped agents' own."
    report.insert(HERE / "README.md", "limits", text)
    print(text)


if __name__ == "__main__":
    utils.cli(limits)
