"""The command line: help by variant, and what a learner gets wrong."""

import re
from pathlib import Path

import pytest

from panda_rl import recipes
from tests.conftest import Run, assert_fine

SCRIPTS = [f"panda_reach_{name}_agent.py" for name in ("random", "train", "test")]
SCRIPTS.append("panda_push_train_agent.py")


def plain(text: str) -> str:
    """What a box of tyro's says, in one line."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


WRONG = """
--control-type arm; --reward-type big; --learning-rat 1; --epochs 3; --gamma 0,9; --gamma 1.5
--total-timesteps 0; --total-timesteps -5; --total-timesteps 2e4; --n-envs 0; --n-steps 0
--n-epochs 0; --gae-lambda -0.1; --learning-rate -1; --learning-rate nan; --ent-coef -1
--clip-range 0; --max-grad-norm 0; --batch-size 512; --batch-size 77; --batch-size 1
--net-arch 0; --net-arch -5; --seed -1; --seed 1000000; --name a/b; --what-is-this 1
"""


@pytest.mark.parametrize("words", re.split("[;\n] *", WRONG.strip()))
def test_a_wrong_flag_or_number_is_named_and_nothing_is_started(
    words: str, call: Run, tmp_path: Path
) -> None:
    result = call("panda_reach_train_agent.py", "--total-timesteps", 256, *words.split())
    assert (result.returncode, result.stdout) == (2, "")
    flag, _ = words.split()
    said = plain(result.stderr)
    assert flag in said or flag.strip("-").replace("-", "_") in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_reads_well_at_80_columns(
    script: str, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = call(script, "--help")
    assert_fine(result)
    lines = result.stdout.splitlines()[1:]  # the first has the path of the script
    assert not [line for line in lines if len(line) > 80]
    shown = plain(result.stdout)
    assert "--seed" in shown and "--render, --no-render" in shown


@pytest.mark.parametrize("variant", recipes.RECIPES)
def test_help_shows_the_numbers_of_the_variant_each_with_a_word(
    variant: tuple[str, str], call: Run
) -> None:
    control_type, reward_type = variant
    words = ("--control-type", control_type, "--reward-type", reward_type, "--help")
    result = call("panda_reach_train_agent.py", *words)
    assert_fine(result)
    shown = plain(result.stdout)
    for name, number in recipes.RECIPES[variant].saved().items():  # type: ignore[index]
        if name in ("control_type", "reward_type", "net_arch"):
            continue
        flag = f"--{name.replace('_', '-')}"
        ((words, default),) = re.findall(rf"{flag} (?:INT|FLOAT) (.*?) ?\(default: (\S+)\)", shown)
        assert float(default) == number, flag
        assert len(words) > 8, flag
