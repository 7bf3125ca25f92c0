"""For comparison: hand-written controllers, and the fewest steps that joints need.

Writes its table to benchmarks/README.md, for comparison with the shipped agents.

    python -m benchmarks.limits
"""

from typing import Any

from benchmarks import report
from panda_rl import cli, evaluation
from panda_rl.files import ROOT

import gymnasium as gym
import numpy as np
import rich.progress
import scipy.optimize

EE_STEP = 0.05  # m an axis, panda-gym's largest
JOINT_STEP = 0.05  # rad, panda-gym's largest


class StraightLine:
    """Moves the hand straight to the goal. Acts like a policy, on one environment."""

    def __init__(self, env: gym.Env) -> None:
        self.panda = env.get_wrapper_attr("_panda")
        self.ee = env.action_space.shape == (3,)

    def predict(
        self, observation: dict[str, np.ndarray], *, deterministic: bool = True
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
    """Steps until the goal is reached, if joints turned at full speed without delay.

    SciPy's SLSQP minimizes the largest turn of a joint over all poses within 5 cm of ``goal``
    (3,) (m). It starts from four points, and may still find only a local optimum.
    """
    panda = env.get_wrapper_attr("_panda")
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
    """Play the goals for judging with the controllers, and bound the steps these goals need.

    Args:
        episodes: number of goals.
    """
    cli.check_range(1, 10**6, episodes=episodes)
    goals = range(evaluation.JUDGING_SEED, evaluation.JUDGING_SEED + episodes)
    rows = []
    for control_type in ("ee", "joints"):
        env = evaluation.RecordEpisode(gym.make("PandaReach-v2", control_type=control_type))
        policy = StraightLine(env)
        result = evaluation.summary(
            [
                evaluation.play_episode(policy, env, goal)
                for goal in rich.progress.track(goals, control_type, transient=True)
            ]
        )
        rows.append(
            [
                f"{control_type}, straight to the goal",
                f"{result['mean_dense_return']:.3f}",
                f"{result['mean_sparse_return']:.2f}",
                f"{result['mean_final_distance'] * 1000:.2f} mm",
                f"{result['worst_final_distance'] * 1000:.1f} mm",
            ]
        )
    fewest = []
    for goal in rich.progress.track(goals, "The fewest steps", transient=True):
        observation, _ = env.reset(seed=goal)
        fewest.append(fewest_steps(env, observation["desired_goal"].astype(float)))
    env.close()
    # The step that brings the hand within 5 cm already has the reward 0.
    best = -np.mean([max(steps - 1, 0) for steps in fewest])
    rows.append(["joints, the bound", "", f"{best:.2f}", "", ""])
    columns = ["controller", "mean return, dense", "sparse", "mean final distance", "worst"]
    text = (
        f"{report.table(columns, rows)}\n\nOn the {episodes:,} goals that judge the shipped agents."
    )
    report.insert(ROOT / "benchmarks" / "README.md", "limits", text)
    print(text)


if __name__ == "__main__":
    cli.run(limits)
