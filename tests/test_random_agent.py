"""The random agent: what a newcomer runs first."""

from tests.conftest import VARIANTS, Run, assert_one_line, call_random, linux_only

import pytest


@pytest.mark.parametrize(("control_type", "reward_type"), VARIANTS)
def test_says_the_spaces_and_that_the_installation_works(
    run: Run, control_type: str, reward_type: str
) -> None:
    result = run(
        "panda_reach_random_agent.py",
        *("--control-type", control_type, "--reward-type", reward_type, "--episodes", 2),
        "--no-render",
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert (
        lines[0]
        == f"Action space: Box(-1.0, 1.0, ({7 if control_type == 'joints' else 3},), float32)"
    )
    assert "  desired_goal: Box(-10.0, 10.0, (3,), float32)" in lines
    assert "Random actions without a window." in lines
    assert lines[-1].startswith("The installation works: 100 steps, ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--control-type", "arm"], ["arm", "ee", "joints"]),
        (["--reward-type", "big"], ["big", "sparse", "dense"]),
        (["--episodes", 0], ["--episodes", "from 1"]),
        (["--episodes", "many"], ["--episodes", "many"]),
        (["--episodes", 10**10], ["--episodes"]),
        (["--seed", -1], ["--seed"]),
        (["--seed", 2**32], ["--seed"]),
        (["--epochs", 3], ["--epochs"]),
        pytest.param(["--render"], ["display", "leave out --render"], marks=linux_only),
    ],
)
def test_bad_input_is_reported_in_one_line(arguments: list[object], words: list[str]) -> None:
    result = call_random(*arguments)
    assert_one_line(result, *words)
    assert result.stdout == ""


@pytest.mark.parametrize("script", ["random", "train", "test"])
def test_bad_input_to_a_script_is_reported_in_one_line(run: Run, script: str) -> None:
    name = f"panda_reach_{script}_agent.py"
    assert_one_line(run(name, "--seed", -1), f"{name}: --seed is -1, but must be from 0 to ")


def test_help_reads_well_at_80_columns(run: Run) -> None:
    for script in ("random", "train", "test"):
        result = run(f"panda_reach_{script}_agent.py", "--help")
        assert (result.returncode, result.stderr) == (0, "")
        assert all(len(line) <= 80 for line in result.stdout.splitlines())
        assert "--seed" in result.stdout
        assert "None" not in result.stdout
