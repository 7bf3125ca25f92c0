"""An agent as ONNX: the same actions, and the loop of docs/ROBOT.md as a robot would run it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from benchmarks.latency import LOOP, MAX_SPEED, NO_LIMIT, Loop, observations, play, policies
from panda_rl import agents, export, files
from tests.conftest import ROOT, SHIPPED, Run, assert_one_line, call_test

import gymnasium as gym
import numpy as np
import onnx
import pytest
import torch
from packaging.requirements import Requirement
from stable_baselines3 import PPO

PAGE = (ROOT / "docs" / "ROBOT.md").read_text()
HAND, STILL, GOAL = "0.04 0 0.2", "0 0 0", "0.1 0.1 0.1"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A shipped agent's file, by its name."""
    folder = tmp_path_factory.mktemp("exported")

    def exported(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            export.export_onnx(agents.read(files.AGENTS / f"{name}.zip"), path)
        return path

    return exported


@pytest.fixture(scope="session")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in a fresh virtual environment with onnxruntime, NumPy and what these require.

    Their files are links to the ones installed here, so no network is needed.
    """
    folder = tmp_path_factory.mktemp("robot")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    site = Path(subprocess.check_output([python, "-c", code], text=True).strip())
    left, done = ["onnxruntime", "numpy"], set[str]()
    while left:
        package = distribution(left.pop())
        if package.name in done:
            continue
        done.add(package.name)
        for file in package.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(Path(str(file.locate())).resolve())
        for requirement in map(Requirement, package.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return python


def answer(robot: Path, path: Path, *lines: str, speed: float = NO_LIMIT) -> tuple[list, str]:
    """The steps that the loop prints for ``lines``, and its last words."""
    result = subprocess.run(
        [robot, "-I", LOOP, path, str(speed)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == (1 if result.stderr else 0)
    return [np.array(line.split(), float) for line in result.stdout.splitlines()], result.stderr


def assert_same_actions(agent: agents.SavedAgent, path: Path) -> None:
    by_torch, by_onnx = policies(agent, path)
    seen = observations(10_000)
    expected = by_torch(seen)
    assert (np.abs(expected) == 1).any() or agent.layers["pi"] == []  # the clipping matters
    np.testing.assert_allclose(by_onnx(seen), expected, rtol=0, atol=1e-5)
    one = {name: array[:1] for name, array in seen.items()}
    np.testing.assert_allclose(by_onnx(one), expected[:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", files.SHIPPED)
def test_the_files_actions_are_the_policys(name: str, tmp_path: Path) -> None:
    assert_same_actions(agents.read(files.AGENTS / f"{name}.zip"), tmp_path / "agent.onnx")


@pytest.mark.parametrize("activation", agents.ACTIVATIONS.values(), ids=lambda a: a.__name__)
def test_so_are_those_of_agents_from_elsewhere(activation: type, tmp_path: Path) -> None:
    """Other layers and activations, without RelativeGoal; one explores by gSDE."""
    layers = {"Tanh": [], "ReLU": [32], "ELU": [8, 16, 24]}.get(activation.__name__, [48, 16])
    model = PPO(
        "MultiInputPolicy",
        gym.make("PandaReach-v2", control_type="joints"),
        policy_kwargs={"net_arch": layers, "activation_fn": activation},
        use_sde=activation is torch.nn.ReLU,
        seed=0,
    )
    policy: Any = model.policy
    with torch.no_grad():
        policy.action_net.weight *= 300  # fresh ones are a hundredth of a trained agent's
    model.save(tmp_path / "foreign.zip")
    assert_same_actions(agents.read(tmp_path / "foreign.zip"), tmp_path / "foreign.onnx")


@pytest.mark.parametrize("control_type", ["ee", "joints"])
def test_the_file_says_what_its_numbers_mean(
    control_type: str, exported: Callable[[str], Path]
) -> None:
    path = exported(f"PandaReach_PPO_v2_{control_type}_dense")
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
    assert json.loads(contract["versions"]).keys() >= {"torch", "panda-gym", "onnx"}
    for name in shapes:
        assert len(contract[name]) > 20
    env = gym.make("PandaReach-v2", control_type=control_type)
    observation, _ = env.reset(seed=0)
    simulation = env.unwrapped._panda  # type: ignore[attr-defined]
    assert json.loads(contract["goal_low"]) == simulation.task.goal_range_low.tolist()
    assert json.loads(contract["goal_high"]) == simulation.task.goal_range_high.tolist()
    assert (
        json.loads(contract["start_joints"]) == simulation.robot.neutral_joint_values[:7].tolist()
    )
    assert 1 / float(contract["rate_hz"]) == simulation.sim.dt
    shoulder = simulation.sim.physics_client.getLinkState(simulation.sim._bodies_idx["panda"], 0)
    assert shoulder[4] == pytest.approx((-0.6, 0, 0.333))  # Franka's, above the base
    assert "(-0.6, 0, 0)" in contract["frame"]

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


def test_the_page_shows_the_loop_and_the_contract(exported: Callable[[str], Path]) -> None:
    assert re.findall(r"```python\n(.*?)```", PAGE, re.S) == [LOOP.read_text()]
    for low, high in zip(export.GOAL_LOW, export.GOAL_HIGH, strict=True):
        assert f"{low:g}" in PAGE and f"{high:g}" in PAGE
    assert f"opset {export.OPSET}" in PAGE
    assert export.CONTRACT["start_joints"].strip("[]").replace(".0,", ",") in PAGE
    assert "written by benchmarks/latency.py -->\n\n| agent" in PAGE


def test_the_robots_computer_has_nothing_of_ours(robot: Path) -> None:
    for package in ("torch", "stable_baselines3", "gym", "gymnasium", "pybullet", "onnx"):
        result = subprocess.run(
            [robot, "-I", "-c", f"import {package}"], capture_output=True, text=True
        )
        assert f"No module named '{package}'" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", files.SHIPPED)
def test_over_a_pipe_it_reaches_the_same_goals(
    name: str, robot: Path, exported: Callable[[str], Path]
) -> None:
    agent = agents.read(files.AGENTS / f"{name}.zip")
    env = gym.make("PandaReach-v2", control_type=agent.control_type)
    by_torch, _ = play(agent.policy(env.observation_space, env.action_space), agent.control_type)
    loop = Loop((robot, "-I", LOOP, exported(name), NO_LIMIT))
    by_loop, _ = play(loop, agent.control_type)
    loop.close()
    assert [e.success for e in by_loop] == [e.success for e in by_torch] == [True] * 100
    assert [e.steps_to_goal for e in by_loop] == [e.steps_to_goal for e in by_torch]


def test_refusals_and_stops(robot: Path, exported: Callable[[str], Path]) -> None:
    path = exported(SHIPPED.stem)
    good = f"{HAND} {STILL} {GOAL}"
    for goal in ("0.16 0 0.1", "0 -0.16 0.1", "0 0 0.31", "0 0 -0.01"):
        steps, words = answer(robot, path, good, f"{HAND} {STILL} {goal}", good)
        assert len(steps) == 1 and "refused: the goal" in words, goal
    for hand in ("0.21 0 0.2", "0 -0.21 0.2", "0 0 0.36", "0 0 -0.06"):
        steps, words = answer(robot, path, good, f"{hand} {STILL} {GOAL}", good)
        assert len(steps) == 1 and "outside its workspace" in words, hand
    for place in range(9):
        numbers = good.split()
        numbers[place] = "nan"
        steps, words = answer(robot, path, good, " ".join(numbers), good)
        assert len(steps) == 1 and "not finite" in words, place
    # A goal on the border is inside, and a line cut short ends the loop.
    steps, words = answer(robot, path, f"{HAND} {STILL} 0.15 -0.15 0.3")
    assert (len(steps), words) == (1, "")
    steps, words = answer(robot, path, good, "0 0 0.2 0", good)
    assert len(steps) == 1 and words
    for speed in (-0.25, 0.0, float("nan")):  # the wrong way, or none
        steps, words = answer(robot, path, good, speed=speed)
        assert not steps and "MAX_SPEED must be positive" in words


@pytest.mark.parametrize("control_type", ["ee", "joints"])
def test_speed_is_limited(control_type: str, robot: Path, exported: Callable[[str], Path]) -> None:
    path = exported(f"PandaReach_PPO_v2_{control_type}_dense")
    line = f"{HAND} {STILL} -0.15 0.15 0.05"
    (free,), _ = answer(robot, path, line)
    (slow,), _ = answer(robot, path, line, speed=MAX_SPEED)
    length = np.linalg.norm if control_type == "ee" else lambda step: np.abs(step).max()
    assert length(free) > 2 * MAX_SPEED / 25
    assert length(slow) == pytest.approx(MAX_SPEED / 25, rel=1e-5)
    np.testing.assert_allclose(slow / length(slow), free / length(free), atol=1e-5)


def test_the_aim_stays_in_the_workspace(robot: Path, exported: Callable[[str], Path]) -> None:
    path = exported(SHIPPED.stem)
    (down,), _ = answer(robot, path, f"0 0 0.01 {STILL} 0 0 0")
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
    steps, words = answer(robot, path, *lines)
    assert (len(steps), words) == (200, "")
    aims = hands + steps
    assert (aims >= np.array((-0.2, -0.2, 0)) - 1e-6).all()
    assert (aims <= np.array((0.2, 0.2, 0.35)) + 1e-6).all()


def test_the_command_writes_one_line_and_one_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "agent.onnx"
    path.write_text("before")
    result = run("panda_reach_test_agent.py", SHIPPED, "--export", path)
    assert (result.returncode, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    assert str(path) in line and SHIPPED.name in line
    onnx.checker.check_model(onnx.load(path))
    assert not list(tmp_path.glob(".unfinished*"))


def test_bad_paths_are_one_line(tmp_path: Path) -> None:
    copy = tmp_path / "agent.zip"
    copy.write_bytes(SHIPPED.read_bytes())
    (tmp_path / "folder.onnx").mkdir()
    for path, word in [
        (copy, "must end in .onnx"),
        (tmp_path / "folder.onnx", "cannot write"),
        (tmp_path / "missing" / "agent.onnx", "cannot write"),
        (Path("/dev/null/agent.onnx"), "cannot write"),
    ]:
        assert_one_line(call_test(copy, "--export", path), str(path), word)
    assert copy.read_bytes() == SHIPPED.read_bytes()
    for more in (("--record", tmp_path / "film.gif"), ("--episodes", 3)):
        result = call_test(copy, "--export", tmp_path / "agent.onnx", *more)
        assert_one_line(result, "--export does not play")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["agent.zip", "folder.onnx"]


def test_a_broken_agent_is_not_exported(tmp_path: Path) -> None:
    path = tmp_path / "agent.onnx"
    path.write_text("before")
    layers = {"net_arch": [4], "activation_fn": torch.nn.ReLU}
    model = PPO("MultiInputPolicy", gym.make("PandaReach-v2"), policy_kwargs=layers)
    policy: Any = model.policy
    for value, word in ((float("nan"), "not finite"), (3e38, "not a finite number")):
        with torch.no_grad():  # 3e38: finite weights, and infinity minus infinity of them
            policy.mlp_extractor.policy_net[0].bias.fill_(3e38)
            policy.action_net.weight.fill_(value)
            policy.action_net.weight[:, :2] *= -1
        model.save(tmp_path / "broken.zip")
        assert_one_line(call_test(tmp_path / "broken.zip", "--export", path), word)
    (tmp_path / "text.zip").write_text("no agent")
    assert_one_line(call_test(tmp_path / "text.zip", "--export", path), "not an agent")
    assert path.read_text() == "before"
    assert not list(tmp_path.glob(".unfinished*"))


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_packages_are_one_line(package: str, run: Run, clone: Path, tmp_path: Path) -> None:
    (clone / f"{package}.py").write_text("raise ImportError('not installed')")
    path = tmp_path / "agent.onnx"
    result = run("panda_reach_test_agent.py", SHIPPED, "--export", path)
    assert_one_line(result, "pip install onnx onnxscript")
    assert not path.exists()
    playing = run("panda_reach_test_agent.py", SHIPPED, "--no-render", "--episodes", 1)
    assert (playing.returncode, playing.stderr) == (0, "")  # it is only needed for exporting
