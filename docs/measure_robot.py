"""The robot's loop with the shipped agents: how soon it answers, and how fast the arm moves.

Writes the table of docs/ROBOT.md. Use an idle machine.

    python -m docs.measure_robot
"""

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks import shared
from benchmarks.ship import REACH_AGENTS
from panda_rl import agents, cli, evaluation
from panda_rl.export import export_onnx

LOOP = cli.ROOT / "docs" / "robot_loop.py"
MAX_SPEED = 0.25  # m/s or rad/s
NO_LIMIT = 100.0


class Loop:
    """docs/robot_loop.py as a policy that plays in the simulator: over a pipe, as on a robot."""

    def __init__(self, *command: object) -> None:
        pipe, words = subprocess.PIPE, map(str, command)
        self.process: Any = subprocess.Popen([*words], stdin=pipe, stdout=pipe, text=True)
        self.seconds: list[float] = []

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[np.ndarray, None]:
        start = time.perf_counter()
        numbers = [*observation["observation"], *observation["desired_goal"]]
        print(*numbers, file=self.process.stdin, flush=True)
        step = self.process.stdout.readline().split()
        self.seconds.append(time.perf_counter() - start)
        return np.array(step, np.float32) / np.float32(0.05), None

    def close(self) -> None:
        self.process.communicate()


def move(policy: Any, control_type: str) -> tuple[list[evaluation.Episode], np.ndarray]:
    """Play a hundred goals. The largest values at the end of a step come with the episodes:

    the hand's speed (m/s), a joint's (rad/s), and the hand's tilt (degrees).
    """
    env = gym.make("PandaReach-v2", control_type=control_type)
    panda = env.get_wrapper_attr("panda")
    robot, largest = panda.robot, np.zeros(3)

    def measure(step: int, distance: float, reached: bool) -> None:
        hand = np.linalg.norm(robot.get_ee_velocity())
        joint = max(abs(robot.get_joint_velocity(joint)) for joint in range(7))
        orientation = panda.sim.get_link_orientation("panda", robot.ee_link)
        down = -panda.sim.physics_client.getMatrixFromQuaternion(orientation)[8]
        largest[:] = np.maximum(largest, (hand, joint, np.degrees(np.arccos(min(down, 1)))))

    played = [evaluation.play(policy, env, goal, measure) for goal in evaluation.JUDGING_GOALS]
    return played, largest


def measure() -> None:
    """Export the shipped agents, play with each over a pipe, and write the table."""
    rows = []
    for variant, limit in itertools.product(REACH_AGENTS, (NO_LIMIT, MAX_SPEED)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "agent.onnx"
            export_onnx(agents.read(REACH_AGENTS[variant]), path)
            loop = Loop(sys.executable, LOOP, path, limit)
            played, (hand, joint, tilt) = move(loop, variant[0])
            loop.close()
        median, slow = (1000 * np.percentile(loop.seconds, percent) for percent in (50, 99))
        speed = "none" if limit == NO_LIMIT else limit
        solved = sum(episode.success for episode in played)
        rows.append(
            f"{' '.join(variant)} | {speed} | {solved} of {len(played)} | {hand:.2f} m/s "
            f"| {joint:.2f} rad/s | {tilt:.0f}° | {median:.2f} / {slow:.2f} ms"
        )
    columns = "agent | MAX_SPEED | goals reached | hand | fastest joint | hand's tilt | answer"
    text = f"{shared.table(columns, rows)}\n\n{shared.machine()}"
    shared.insert("docs/ROBOT.md", "motion", text)


if __name__ == "__main__":
    cli.run(measure)
