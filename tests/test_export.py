"""An agent as ONNX: the same actions, and the loop of docs/ROBOT.md as a robot would run it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from stable_baselines3 import PPO

from benchmarks.ship import REACH_AGENTS
from docs.measure_robot import LOOP, MAX_SPEED, NO_LIMIT, Loop, move
from panda_rl import agents, export
from tests.conftest import ROOT, SHIPPED, VARIANTS, Run, assert_fine, assert_one_line

PAGE = (ROOT / "docs" / "ROBOT.md").read_text()
HAND, STILL, GOAL = "0.04 0 0.2", "0 0 0", "0.1 0.1 0.1"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A shipped agent's file, by its variant."""
    folder = tmp_path_factory.mktemp("exported")

    def exported(*variant: str) -> Path:
        agent = REACH_AGENTS[variant]  # type: ignore[index]
        path = folder / f"{agent.stem}.onnx"
        if not path.exists():
            export.export_onnx(agents.read(agent), path)
        return path

    return exported


def answer(path: Path, *lines: str, speed: float = NO_LIMIT) -> tuple[list, str]:
    """The steps that the loop prints for ``lines``, and its last words."""
    result = subprocess.run(
        [sys.executable, "-I", LOOP, path, str(speed)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == (1 if result.stderr else 0)
    return [np.array(line.split(), float) for line in result.stdout.splitlines()], result.stderr


def assert_same_actions(agent: agents.SavedAgent, path: Path) -> None:
    """In 10,000 random observations: positions in the cube, up to 2 m/s along each axis."""
    random = np.random.default_rng(0)
    hand, goal = random.uniform(export.GOAL_LOW, export.GOAL_HIGH, (2, 10_000, 3))
    both = np.hstack((hand, random.uniform(-2, 2, hand.shape)))
    seen = {"achieved_goal": hand, "desired_goal": goal, "observation": both}
    seen = {name: array.astype(np.float32) for name, array in seen.items()}
    expected, _ = agent.policy(agent.make_env()).predict(seen, deterministic=True)
    assert (np.abs(expected) == 1).any() or agent.config["net_arch"] == []  # the clipping matters
    session = onnxruntime.InferenceSession(path)
    one = {name: array[:1] for name, array in seen.items()}
    for inputs, actions in ((seen, expected), (one, expected[:1])):
        (found,) = session.run(["action"], inputs)
        np.testing.assert_allclose(found, actions, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_files_actions_are_the_policys(
    variant: tuple[str, str], exported: Callable[..., Path]
) -> None:
    assert_same_actions(agents.read(REACH_AGENTS[variant]), exported(*variant))  # type: ignore[index]


@pytest.mark.parametrize("control_type", ["ee", "joints"])
def test_the_file_says_what_its_numbers_mean(
    control_type: str, exported: Callable[..., Path]
) -> None:
    path = exported(control_type, "dense")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (18, 10)
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    actions = 3 if control_type == "ee" else 7
    assert shapes == {
        "achieved_goal": ["batch", 3],
        "desired_goal": ["batch", 3],
        "observation": ["batch", 6],
        "action": ["batch", actions],
    }
    assert str(ROOT).encode() not in path.read_bytes()  # no folder of this computer

    contract = {entry.key: entry.value for entry in model.metadata_props}
    assert contract["agent"] == path.stem
    assert contract["control_type"] == control_type
    env = gym.make("PandaReach-v2", control_type=control_type)
    observation, _ = env.reset(seed=0)
    simulation = env.get_wrapper_attr("panda")
    assert json.loads(contract["goal_low"]) == simulation.task.goal_range_low.tolist()
    assert json.loads(contract["goal_high"]) == simulation.task.goal_range_high.tolist()
    assert 1 / float(contract["rate_hz"]) == simulation.sim.dt
    # What the page says.
    start = ", ".join(f"{angle:g}" for angle in simulation.robot.neutral_joint_values[:7])
    assert f"joints at {start} rad" in PAGE
    shoulder = simulation.sim.physics_client.getLinkState(simulation.sim._bodies_idx["panda"], 0)
    assert shoulder[4] == pytest.approx((-0.6, 0, 0.333))  # Franka's, above the base
    assert "base is at (-0.6, 0, 0)" in PAGE
    goals = f"from {export.GOAL_LOW} to {export.GOAL_HIGH}"
    assert goals.replace(".0,", ",").replace(".0)", ")") in PAGE
    assert f"opset {model.opset_import[0].version}, IR version {model.ir_version}" in PAGE

    # The aim that an action of 1 gives.
    scale = float(contract["action_scale"])
    aims = []
    if control_type == "ee":

        def aim(link: int, position: np.ndarray, orientation: np.ndarray) -> np.ndarray:
            aims.append(position - observation["achieved_goal"])
            return np.zeros(9)

        simulation.robot.inverse_kinematics = aim
    else:
        joints = simulation.robot.neutral_joint_values[:7]
        simulation.robot.control_joints = lambda target_angles: aims.append(
            target_angles[:7] - joints
        )
    env.step(np.ones(actions, np.float32))
    np.testing.assert_allclose(aims, [[scale] * actions], atol=1e-6)


def test_the_loop_needs_nothing_of_ours() -> None:
    imported = re.findall(r"^ *(?:import|from) (\w+)", LOOP.read_text(), re.M)
    assert set(imported) == {"json", "sys", "numpy", "onnxruntime"}


@pytest.mark.slow
def test_over_a_pipe_it_reaches_the_same_goals(exported: Callable[..., Path]) -> None:
    agent = agents.read(REACH_AGENTS["joints", "sparse"])
    by_torch, _ = move(agent.policy(agent.make_env()), "joints")
    loop = Loop(sys.executable, "-I", LOOP, exported("joints", "sparse"), NO_LIMIT)
    by_loop, _ = move(loop, "joints")
    loop.close()
    assert [e.success for e in by_loop] == [e.success for e in by_torch] == [True] * 100
    assert [e.steps_to_goal for e in by_loop] == [e.steps_to_goal for e in by_torch]


def test_refusals_and_stops(exported: Callable[..., Path]) -> None:
    path = exported("ee", "dense")
    good = f"{HAND} {STILL} {GOAL}"
    for goal in ("0.16 0 0.1", "0 -0.16 0.1", "0 0 0.31", "0 0 -0.01"):
        steps, words = answer(path, good, f"{HAND} {STILL} {goal}", good)
        assert len(steps) == 1 and "refused: the goal" in words, goal
    for hand in ("0.21 0 0.2", "0 -0.21 0.2", "0 0 0.36", "0 0 -0.06"):
        steps, words = answer(path, good, f"{hand} {STILL} {GOAL}", good)
        assert len(steps) == 1 and "outside its workspace" in words, hand
    for place in range(9):
        numbers = good.split()
        numbers[place] = "nan"
        steps, words = answer(path, good, " ".join(numbers), good)
        assert len(steps) == 1 and "not finite" in words, place
    # A goal on the border is inside, and a line cut short ends the loop.
    steps, words = answer(path, f"{HAND} {STILL} 0.15 -0.15 0.3")
    assert (len(steps), words) == (1, "")
    steps, words = answer(path, good, "0 0 0.2 0", good)
    assert len(steps) == 1 and words
    for speed in (-0.25, 0.0, float("nan")):  # the wrong way, or none
        steps, words = answer(path, good, speed=speed)
        assert not steps and "MAX_SPEED must be positive" in words


@pytest.mark.parametrize("control_type", ["ee", "joints"])
def test_speed_is_limited(control_type: str, exported: Callable[..., Path]) -> None:
    path = exported(control_type, "dense")
    line = f"{HAND} {STILL} -0.15 0.15 0.05"
    (free,), _ = answer(path, line)
    (slow,), _ = answer(path, line, speed=MAX_SPEED)
    length = np.linalg.norm if control_type == "ee" else lambda step: np.abs(step).max()
    assert length(free) > 2 * MAX_SPEED / 25
    assert length(slow) == pytest.approx(MAX_SPEED / 25, rel=1e-5)
    np.testing.assert_allclose(slow / length(slow), free / length(free), atol=1e-5)


def test_the_aim_stays_in_the_workspace(exported: Callable[..., Path]) -> None:
    path = exported("ee", "dense")
    (down,), _ = answer(path, f"0 0 0.01 {STILL} 0 0 0")
    assert -0.01 - 1e-6 <= down[2] < 0
    hands = np.random.default_rng(0).uniform(-0.05, 0.05, (200, 3))
    hands += np.random.default_rng(1).choice(((-0.15, -0.15, 0), (0.15, 0.15, 0.3)), 200)
    lines = [
        " ".join(map(str, (*hand, *velocity, *goal)))
        for hand, velocity, goal in zip(
            hands,
            np.random.default_rng(2).uniform(-4, 4, (200, 3)),
            np.random.default_rng(3).uniform(export.GOAL_LOW, export.GOAL_HIGH, (200, 3)),
            strict=True,
        )
    ]
    steps, words = answer(path, *lines)
    assert (len(steps), words) == (200, "")
    aims = hands + steps
    assert (aims >= np.array((-0.2, -0.2, 0)) - 1e-6).all()
    assert (aims <= np.array((0.2, 0.2, 0.35)) + 1e-6).all()


def test_the_command_writes_one_line_and_one_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.onnx"
    path.write_text("before")
    command: list[Any] = [sys.executable, "-m", "panda_rl.export", SHIPPED, path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert_fine(result)
    (line,) = result.stdout.splitlines()
    assert str(path) in line and SHIPPED.name in line
    onnx.checker.check_model(onnx.load(path))
    assert not list(tmp_path.glob(".unfinished*"))


def test_a_mistake_is_one_line_and_costs_nothing(call: Run, tmp_path: Path) -> None:
    copy, path = tmp_path / "agent.zip", tmp_path / "agent.onnx"
    copy.write_bytes(SHIPPED.read_bytes())
    path.write_text("before")
    assert_one_line(call("panda_rl/export.py", copy, copy), str(copy), "must end in .onnx")
    model = PPO("MultiInputPolicy", gym.make("PandaReach-v2"))
    policy: Any = model.policy
    with torch.no_grad():
        policy.action_net.weight.fill_(float("nan"))
    model.save(tmp_path / "broken.zip")
    assert_one_line(call("panda_rl/export.py", tmp_path / "broken.zip", path), "not finite")
    assert copy.read_bytes() == SHIPPED.read_bytes()
    assert path.read_text() == "before"
    assert not list(tmp_path.glob(".unfinished*"))
