"""Compare exported agents with the policies they came from: their actions, and their speed.

Writes its table to docs/ROBOT.md. Use an idle machine.

    python -m benchmarks.latency
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.benchmark import machine
from panda_rl import agents, cli, evaluation, files
from panda_rl.export import GOAL_HIGH, GOAL_LOW, export_onnx

import gymnasium as gym
import numpy as np
import onnxruntime
import rich.progress
import torch

LOOP = files.ROOT / "docs" / "robot_loop.py"
GOALS = evaluation.JUDGING_GOALS
MAX_SPEED = 0.25  # m/s or rad/s
NO_LIMIT = 100.0


class Loop:
    """docs/robot_loop.py as a policy that plays in the simulator: over a pipe, as on a robot."""

    def __init__(self, command: Sequence[object]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[np.ndarray, None]:
        numbers = [*observation["observation"], *observation["desired_goal"]]
        print(*numbers, file=self._process.stdin, flush=True)
        assert self._process.stdout
        step = self._process.stdout.readline().split()
        return np.array(step, np.float32) / np.float32(0.05), None

    def close(self) -> None:
        self._process.communicate()


class Motion(gym.Wrapper):
    """Remembers the largest motions at the end of a step.

    Attributes:
        hand_speed: of the hand (m/s).
        joint_speed: of a joint (rad/s).
        turn: of the hand, away from where it pointed at the start (degrees).
    """

    hand_speed = joint_speed = turn = 0.0

    def step(self, action: np.ndarray) -> Any:
        observation, *rest = self.env.step(action)
        panda = self.get_wrapper_attr("_panda")
        hand = float(np.linalg.norm(observation["observation"][3:]))
        joints = max(abs(panda.robot.get_joint_velocity(joint)) for joint in range(7))
        self.hand_speed = max(self.hand_speed, hand)
        self.joint_speed = max(self.joint_speed, joints)
        pointing = panda.sim.get_link_orientation("panda", panda.robot.ee_link)
        down = panda.sim.physics_client.getMatrixFromQuaternion(pointing)[8]
        self.turn = max(self.turn, float(np.degrees(np.arccos(np.clip(-down, -1, 1)))))
        return observation, *rest


def play(policy: evaluation.Policy, control_type: str) -> tuple[list[evaluation.Episode], Motion]:
    """Play the hundred goals that the test script plays."""
    motion = Motion(gym.make("PandaReach-v2", control_type=control_type, reward_type="dense"))
    env = evaluation.RecordEpisode(motion)
    episodes = [evaluation.play_episode(policy, env, goal) for goal in GOALS]
    env.close()
    return episodes, motion


def observations(count: int) -> dict[str, np.ndarray]:
    """Random observations: positions anywhere in the cube, up to 2 m/s along each axis."""
    random = np.random.default_rng(0)
    hand, goal = random.uniform(GOAL_LOW, GOAL_HIGH, (2, count, 3))
    velocity = random.uniform(-2, 2, (count, 3))
    return {
        "achieved_goal": hand.astype(np.float32),
        "desired_goal": goal.astype(np.float32),
        "observation": np.hstack((hand, velocity)).astype(np.float32),
    }


def policies(agent: agents.SavedAgent, path: Path) -> tuple[Callable, Callable]:
    """Two functions from observations to actions: PyTorch's, and the one exported to ``path``."""
    export_onnx(agent, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    env = gym.make("PandaReach-v2", control_type=agent.control_type)
    policy = agent.policy(env.observation_space, env.action_space)
    env.close()
    return (
        lambda seen: policy.predict(seen, deterministic=True)[0],
        lambda seen: session.run(["action"], seen)[0],
    )


def latency(act: Callable, seen: dict[str, np.ndarray]) -> tuple[float, float]:
    """Microseconds for one action: the median and the 99th percentile."""
    times = []
    for i in range(len(seen["observation"])):
        one = {name: array[i : i + 1] for name, array in seen.items()}
        start = time.perf_counter_ns()
        act(one)
        times.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def measure() -> None:
    """Export the shipped agents, compare them, and write the table."""
    torch.set_num_threads(1)
    seen = observations(10_000)
    rows, moves = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in rich.progress.track(files.SHIPPED, transient=True):
            path = Path(folder) / f"{name}.onnx"
            agent = agents.read(files.AGENTS / f"{name}.zip")
            by_torch, by_onnx = policies(agent, path)
            difference = np.abs(by_onnx(seen) - by_torch(seen)).max()
            times = (latency(by_torch, seen), latency(by_onnx, seen))
            variant = " ".join(name.split("_")[-2:])
            cells = [f"{median:.0f} / {slow:.0f} µs" for median, slow in times]
            rows.append([variant, *cells, f"{difference:.1e}"])
            for speed in (NO_LIMIT, MAX_SPEED):
                loop = Loop((sys.executable, LOOP, path, speed))
                episodes, motion = play(loop, agent.control_type)
                loop.close()
                moves.append(
                    [
                        variant,
                        "none" if speed == NO_LIMIT else f"{speed}",
                        f"{sum(episode.success for episode in episodes)} of {len(GOALS)}",
                        f"{motion.hand_speed:.2f} m/s",
                        f"{motion.joint_speed:.2f} rad/s",
                        f"{motion.turn:.0f}°",
                    ]
                )
    columns = ["agent", "PyTorch", "onnxruntime", "difference"]
    about = machine()
    text = (
        f"{report.table(columns, rows)}\n\n"
        "PyTorch, onnxruntime: time for one action on one thread, median / 99th percentile of "
        "10,000, by Stable-Baselines3's `policy.predict` and by `session.run`. Difference: the "
        "largest between their actions in these 10,000 random observations. Machine: "
        f"{about['processor']}, Python {about['python']}, PyTorch {about['torch']}, onnxruntime "
        f"{version('onnxruntime')}."
    )
    report.insert(files.ROOT / "docs" / "ROBOT.md", "latency", text)
    columns = ["agent", "MAX_SPEED", "goals reached", "hand", "fastest joint", "hand's tilt"]
    text = (
        f"{report.table(columns, moves)}\n\n"
        "The largest values at the end of a step, in the simulator, with `robot_loop.py` over a "
        "pipe. Tilt: from pointing straight down."
    )
    report.insert(files.ROOT / "docs" / "ROBOT.md", "motion", text)


if __name__ == "__main__":
    cli.run(measure)
