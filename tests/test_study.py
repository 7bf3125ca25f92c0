"""A study on a real Ray cluster of two nodes, and what survives when one of them dies."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import ROOT, assert_one_line, eventually

import psutil
import pytest
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  15 starves beside the other tests

from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow


def study(
    folder: Path, *arguments: str, steps: int = 512, cwd: Path = ROOT
) -> subprocess.Popen[str]:
    short = ("--episodes", "2", "--first-seed", "0", "--changes", f"total_timesteps={steps}")
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.study", "--folder", folder, *short, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(folder: Path) -> dict[str, dict]:
    file = folder / "results.json"
    return json.loads(file.read_text()) if file.exists() else {}


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    eventually(lambda: condition() or process.poll() is not None, seconds=600)
    assert process.poll() is None, process.communicate()


def check(folder: Path, seeds: int, steps: int = 512) -> None:
    """Nothing is lost: every run has its result, its curve and an agent that loads."""
    found = results(folder)
    assert len(found) == seeds
    weights = set()
    for seed in range(seeds):
        name = f"ee_dense_total_timesteps={steps}_seed={seed}"
        assert found[name]["config"]["seed"] == seed
        model = PPO.load(folder / f"{name}.zip")
        assert (model.seed, model.num_timesteps) == (seed, steps)
        weights.add(float(model.get_parameters()["policy"]["action_net.weight"].sum()))
        curve = EventAccumulator(str(folder / name)).Reload()
        assert curve.Scalars("rollout/ep_rew_mean")[-1].step == steps
    assert len(weights) == seeds


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield cluster
    cluster.shutdown()


def test_a_node_dies_and_no_run_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    folder = tmp_path / "study"
    process = study(folder, "--seeds", "6", "--address", cluster.address, steps=4096)
    # Each node has finished a run, and this one is in its next.
    wait_for(lambda: len({r["node"] for r in results(folder).values()}) == 2, process)
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    wait_for(lambda: "ray::run" in [worker.name() for worker in raylet.children()], process)
    assert len(results(folder)) < 5
    cluster.remove_node(node, allow_graceful=False)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, output + errors
    check(folder, 6, steps=4096)
    assert "failed: " not in output
    lost = [r["node"] for r in results(folder).values()].count(node.node_id)
    assert 1 <= lost < 4


def test_a_study_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    process = study(folder, "--seeds", "3", "--workers", "1")
    wait_for(lambda: results(folder), process)
    process.kill()
    process.communicate()
    before = results(folder)
    assert len(before) < 3
    process = study(folder, "--seeds", "3", "--workers", "1")
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, output + errors
    check(folder, 3)
    assert results(folder).items() >= before.items()  # with their seconds: not run again


def test_a_run_that_fails_is_reported_and_the_others_go_on(clone: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmarks", clone / "benchmarks")
    changes = ("--changes", "total_timesteps=512", "total_timesteps=512,learning_rate=900")
    process = study(tmp_path / "study", "--seeds", "2", *changes, "--to-readme", cwd=clone)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 1, output + errors
    assert "learning_rate=900_seed=0 failed: " in output
    check(tmp_path / "study", 2)

    runs = results(tmp_path / "study").values()
    row = next(line for line in output.splitlines() if line.startswith("| ee_dense"))
    _, count, _, lowest, _, worst, *_ = row.strip("| ").split(" | ")
    assert count == "2"
    assert lowest == f"{min(run['success_rate'] for run in runs):.1%}"
    assert worst == f"{max(run['worst_final_distance'] for run in runs) * 1000:.1f} mm"
    assert row in (clone / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--changes", "gama=0.9"], ["gama=0.9"]),
        (["--changes", "gamma=2"], ["--gamma"]),
        (["--variants", "ee"], ["no such run: ee"]),
        (["--seeds", "0"], ["--seeds"]),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    process = study(tmp_path / "study", *arguments)
    output, errors = process.communicate(timeout=600)
    result = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    assert_one_line(result, *words)


def test_without_ray_it_is_reported_in_one_line(clone: Path) -> None:
    (clone / "ray.py").write_text("raise ImportError('not installed')")
    shutil.copytree(ROOT / "benchmarks", clone / "benchmarks")
    command = [sys.executable, "-m", "benchmarks.study"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=clone)
    assert_one_line(result, "pip install ray")
