"""A study on a real local Ray, and the other benchmarks, each cut short."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import study
from panda_rl import evaluation
from tests.conftest import ROOT, Run, assert_fine, assert_one_line


@pytest.fixture
def checkout(clone: Path) -> Path:
    shutil.copytree(ROOT / "benchmarks", clone / "benchmarks", dirs_exist_ok=True)
    shutil.copy(ROOT / "README.md", clone)
    (clone / "docs").mkdir(exist_ok=True)
    return clone


def start(checkout: Path, module: str, *words: object, **kwargs: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=checkout,
        stdout=pipe,
        stderr=pipe,
        text=True,
        **kwargs,  # type: ignore
    )


def end(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, output + errors
    return output, errors


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_and_past_a_run_that_fails(checkout: Path) -> None:
    file = checkout / "study.json"
    played = dataclasses.asdict(evaluation.Episode(True, -0.5, -3.0, 0.9, 3, 0.25, 0.125))
    there = {
        "config": {"seed": 0},
        "solved": True,
        "curve": [[256, 1.5, 1.0]],
        "episodes": [played] * 2,
    }
    first, second = (f"ee_dense_total_timesteps=512_seed={seed}" for seed in (0, 1))
    # The second was judged on another number of goals, so it does not count.
    other = there | {"name": second, "episodes": [played]}
    file.write_text(json.dumps([there | {"name": first}, other]))
    changes = ("total_timesteps=512", "total_timesteps=512,learning_rate=1e30")
    words = ("--changes", *changes, "--seeds", 2, "--first-seed", 0, "--episodes", 2)
    awake = os.environ | {"RAY_worker_niceness": "0"}  # else the other tests starve its workers
    process = start(checkout, "study", "--file", file, *words, "--to-readme", env=awake)
    page = (checkout / "benchmarks" / "README.md").read_text()
    output, errors = end(process, code=1)
    for seed in (0, 1):
        assert f"ee_dense_{changes[1]}_seed={seed} failed: " in errors
    before, _, run = json.loads(file.read_text())
    assert before == there | {"name": first}  # not run again
    assert run["name"] == second
    assert (run["config"]["seed"], run["config"]["total_timesteps"]) == (1, 512)
    assert (run["curve"][-1][0], len(run["episodes"])) == (512, 2)
    (row,) = (line for line in output.splitlines() if line.startswith("| ee_dense"))
    assert "| 256 - |" in row and "| 900.0 mm |" in row
    assert (checkout / "benchmarks" / "README.md").read_text() == page  # a run is missing


def test_steps_to_solved_have_a_row_for_each_change_and_a_column_for_each_variant() -> None:
    solved, not_solved = ({"solved": s, "curve": [[1024, 1.5, 1.0]]} for s in (True, False))
    groups = {"ee_dense": [solved, not_solved], "ee_dense_gamma=0.9": [solved]}
    groups["ee_sparse_gamma=0.9"] = [not_solved]
    table = study.steps_table(groups, ("ee_dense", "ee_sparse"), ("", "gamma=0.9", "gamma=0.8"))
    assert table.splitlines()[2:] == [
        "| none | 1,024 - |  |",
        "| gamma=0.9 | 1,024 | - |",
        "| gamma=0.8 |  |  |",
    ]


@pytest.mark.slow
def test_the_benchmark_goes_on_where_it_was(checkout: Path) -> None:
    """All methods and variants; runs that were there before are only shown."""
    benchmark = checkout / "benchmarks" / "benchmark.py"
    text = benchmark.read_text()
    for limit in ("10, None", "5, 100_000", "5, 20_000"):
        assert limit in text
        text = text.replace(limit, f"{limit.split(',')[0]}, 256")
    benchmark.write_text(text)
    results = checkout / "benchmarks" / "results.json"
    there = {"seed": 0, "solved": True, "curve": [[1024, 1.5, 0.5], [2048, 2.5, 1.0]]}
    here = {"machine": "Machine: mine."}
    done = [
        {"method": "this recipe", "variant": f"{control_type} {reward_type}", **there, **here}
        for control_type in ("ee", "joints")
        for reward_type in ("dense", "sparse")
    ]
    results.write_text(json.dumps(done))
    output, _ = end(start(checkout, "benchmark", "--seeds", 1))
    assert output.startswith("4 runs are left: about 0.1 hours")
    assert len(json.loads(results.read_text())) == 8
    readme = (checkout / "README.md").read_text()
    assert "| ee dense | this recipe | 1 of 1 | 2,048 | 2.5 (2.5 to 2.5) | 1.0 |" in readme
    assert "| joints sparse | TQC+HER | 0 of 1 | inf |" in readme
    assert "without judging. Machine: mine. Machine: " in readme


@pytest.mark.parametrize("module", ["study", "benchmark", "push"])
def test_what_is_missing_is_one_line(
    module: str, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("ray", "matplotlib.pyplot", "sb3_contrib"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    assert_fine(call(f"benchmarks/{module}.py", "--help"))
    assert_one_line(call(f"benchmarks/{module}.py"), "pip install -r requirements-dev.txt")
