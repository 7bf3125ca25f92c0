"""The random agent and playing saved agents: what is said, tables, recordings."""

import re
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest

from panda_rl.recording import Recording
from tests.conftest import SHIPPED, VARIANTS, Run, assert_fine, assert_one_line, linux_only, row

RANDOM, TEST = "panda_reach_random_agent.py", "panda_reach_test_agent.py"


@pytest.mark.parametrize(("control_type", "reward_type"), VARIANTS)
def test_the_random_agent_says_the_spaces_and_that_the_installation_works(
    call: Run, control_type: str, reward_type: str
) -> None:
    variant = ("--control-type", control_type, "--reward-type", reward_type)
    result = call(RANDOM, *variant, "--episodes", 2, "--no-render")
    assert_fine(result)
    actions = 7 if control_type == "joints" else 3
    assert f"Action space: Box(-1.0, 1.0, ({actions},), float32)" in result.stdout
    assert re.search(r"desired_goal'?: Box\(-10.0, 10.0, \(3,\), float32\)", result.stdout)
    assert "Taking random actions" in result.stdout
    assert "The installation works: 100 steps, " in result.stdout.splitlines()[-1]


@pytest.mark.slow
def test_the_shipped_agent_plays_without_a_model(run: Run, call: Run) -> None:
    result = run(TEST, "--no-render", "--episodes", 20)
    assert_fine(result)
    assert "PandaReach_PPO_v2_ee_dense" in result.stdout
    assert row(result.stdout, "success rate").startswith("100.0%  (95% interval 83.9% to 100.0%)")
    assert row(result.stdout, "episodes") == "20  (held-out goals, seeds from 2,000,000)"
    again = call(TEST, SHIPPED, "--no-render", "--episodes", 20)
    assert again.stdout == result.stdout
    other = call(TEST, SHIPPED, "--no-render", "--episodes", 20, "--seed", 1)
    assert other.stdout != result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_records(tmp_path: Path, call: Run, suffix: str) -> None:
    film = tmp_path / f"a film.{suffix}"
    result = call(TEST, SHIPPED, "--no-render", "--episodes", 1, "--record", film)
    assert_fine(result)
    assert str(film) in result.stdout
    assert film.stat().st_size < 600_000
    assert list(tmp_path.iterdir()) == [film]
    frames = imageio.imread(film)
    assert len(frames) > 20
    red, green, blue = frames[0].astype(int).transpose(2, 0, 1)[:3]
    assert ((green > 90) & (red < 70) & (blue < 70)).sum() > 30  # the target
    assert frames[0].tolist() != frames[len(frames) // 2].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.zip"], ["nowhere.zip"]),
        (["."], ["no agent"]),
        ([SHIPPED, "--record", "film.avi"], [".gif or .mp4"]),
        ([SHIPPED, "--record", "no/such/folder/film.gif"], ["no/such/folder"]),
        (["--record", "film.gif", "nowhere.zip"], ["nowhere.zip"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    call: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(TEST, *arguments)
    assert_one_line(result, *words)
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.fixture
def recording(tmp_path: Path, request: pytest.FixtureRequest) -> Recording:
    recording = Recording(tmp_path / f"x.{request.param}")
    rng = np.random.default_rng(0)
    for _ in range(10):
        recording.add(rng.integers(0, 256, (480, 720, 3), np.uint8), "caption", reached=True)
    return recording


@linux_only
@pytest.mark.parametrize("recording", ["gif", "mp4"], indirect=True)
def test_a_film_that_finds_no_room_leaves_the_one_that_was_there(recording: Recording) -> None:
    import resource  # Windows has none

    recording.path.write_text("mine")
    limits: Any = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError):
            recording.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert recording.path.read_text() == "mine"
    assert list(recording.path.parent.iterdir()) == [recording.path]
