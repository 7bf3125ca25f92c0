"""A study on a real local Ray, and the other benchmarks, each cut short."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import shared
from tests.conftest import ROOT, assert_one_line, eventually

SHORT = ("--episodes", "2", "--first-seed", "0", "--changes", "total_timesteps=512")


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


def saved(file: Path) -> dict[str, dict]:
    return json.loads(file.read_text()) if file.exists() else {}


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_where_it_was(checkout: Path) -> None:
    file = checkout / "study.json"
    words = ("--file", file, *SHORT, "total_timesteps=512,learning_rate=900", "--seeds", 2)
    process = start(checkout, "study", *words)
    eventually(lambda: saved(file) or process.poll() is not None, seconds=300)
    process.kill()
    process.communicate()
    before = saved(file)
    assert before

    # A run that fails is reported, and the others go on.
    output, errors = end(start(checkout, "study", *words, "--to-readme"), code=1)
    for seed in (0, 1):
        assert f"ee_dense_total_timesteps=512,learning_rate=900_seed={seed} failed: " in errors
    results = saved(file)
    assert results.items() >= before.items()  # with their seconds: not run again
    assert [run["config"]["seed"] for run in results.values()] == [0, 1]
    for run in results.values():
        assert run["config"]["total_timesteps"] == run["curve"][-1][0] == 512
        assert len(run["episodes"]) == 2
    first, second = (run["episodes"] for run in results.values())
    assert first != second
    (row,) = (line for line in output.splitlines() if line.startswith("| ee_dense"))
    worst = max(episode["final_distance"] for episode in [*first, *second])
    assert f"| {1000 * worst:.1f} mm |" in row
    assert row in (checkout / "benchmarks" / "README.md").read_text()


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
    done = [
        {"method": "this recipe", "variant": f"{control_type} {reward_type}", **there}
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
    assert end(start(checkout, "benchmark", "--seeds", 1))[0].startswith("0 runs are left")


@pytest.mark.parametrize("module", ["study", "benchmark"])
def test_what_is_missing_is_one_line(module: str, checkout: Path, tmp_path: Path) -> None:
    for package in ("ray", "matplotlib", "sb3_contrib"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('not installed')")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    end(start(checkout, module, "--help", env=env))
    process = start(checkout, module, env=env)
    output, errors = process.communicate(timeout=600)
    result = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    assert_one_line(result, "pip install -r requirements-dev.txt")


def test_a_mistake_gets_tyros_words(checkout: Path) -> None:
    for words, said in (
        (("--changes", "gama=0.9"), "--gama"),
        (("--changes", "gamma=2"), "gamma is 2"),
        (("--variants", "foot_dense"), "foot"),
    ):
        output, errors = end(start(checkout, "study", *words), code=2)
        assert said in errors + output


def test_tables_go_where_a_page_has_a_place() -> None:
    with pytest.raises(AssertionError, match="no place for nothing"):
        shared.insert("README.md", "nothing", "text")
    assert shared.table("a | b", ["1 | 2"]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert "<!-- benchmark:" in (ROOT / "README.md").read_text()
