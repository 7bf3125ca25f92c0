"""The command line: help by variant, and what a learner gets wrong."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from panda_rl import agents, cli, recipes
from tests.conftest import RUN, Run, assert_fine, linux_only

SCRIPTS = [f"panda_reach_{name}_agent.py" for name in ("random", "train", "test")]


def plain(text: str) -> str:
    """What a box of tyro's says, in one line."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--control-type", "arm"], ["arm", "ee", "joints"]),
        (["--reward-type", "big"], ["big", "sparse", "dense"]),
        (["--learning-rat", 1], ["--learning-rat", "--learning-rate"]),
        (["--total-timesteps", 0], ["total", "0"]),
        (["--total-timesteps", -5], ["total", "-5"]),
        (["--total-timesteps", "2e4"], ["--total-timesteps", "2e4"]),
        (["--gamma", "0,9"], ["--gamma", "0,9"]),
        (["--gamma", 1.5], ["gamma", "1.5"]),
        (["--gae-lambda", -0.1], ["-0.1"]),
        (["--n-envs", 0], ["0"]),
        (["--n-steps", 0], ["0"]),
        (["--n-epochs", 0], ["0"]),
        (["--learning-rate", -1], ["-1"]),
        (["--learning-rate", "nan"], ["nan"]),
        (["--clip-range", 0], ["clip"]),
        (["--ent-coef", -1], ["-1"]),
        (["--max-grad-norm", 0], ["grad"]),
        (["--batch-size", 512], ["512", "256"]),  # larger than the rollout
        (["--batch-size", 77], ["77", "256"]),
        (["--batch-size", 1], ["batch"]),
        (["--n-envs", 1, "--n-steps", 1], ["batch"]),
        (["--net-arch", 32, 0], ["net"]),
        (["--net-arch", -5], ["-5"]),
        (["--seed", -1], ["-1"]),
        (["--seed", 10**6], ["seed"]),  # that is a held-out goal's
        (["--name", "a/b"], ["a/b"]),
        (["--name", ".."], [".."]),
        (["--epochs", 3], ["--epochs"]),
        (["a", "b"], ["a"]),
    ],
    ids=str,
)
def test_a_wrong_flag_or_number_is_named_and_nothing_is_started(
    words: list[object], said: list[str], call: Run, tmp_path: Path
) -> None:
    result = call("panda_reach_train_agent.py", *words)
    assert result.returncode == 2
    assert all(word in plain(result.stderr) for word in said), result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("words", [["--epochs", 3], ["--seed", "many"], ["--episodes", "few"]])
def test_each_script_refuses_what_it_does_not_know(
    script: str, words: list[object], call: Run
) -> None:
    result = call(script, *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert str(words[0]) in plain(result.stderr)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_reads_well_at_80_columns(script: str, run: Run) -> None:
    result = run(script, "--help")
    assert_fine(result)
    assert not [line for line in result.stdout.splitlines() if len(line) > 80]
    shown = plain(result.stdout)
    flags = re.findall(r"(--[a-z-]+(?:, --no-[a-z-]+)?) ?\S* (?:INT|FLOAT|PATH|STR|\{)", shown)
    assert "--seed" in shown and "--render, --no-render" in shown
    assert len(flags) > 2


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


def test_a_command_can_be_pasted_into_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / "a $b's.zip", Path(sys.executable)
    program = "import sys; print(sys.argv[1:])"
    line = cli.command(sys.executable, "-c", program, inside, outside)
    result = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=300)
    assert result.stdout == f"{[inside.name, str(outside)]}\n", result.stderr
    assert shlex.split(line)[3] == inside.name


@pytest.mark.parametrize(
    ("error", "code"),
    [(cli.UsageError("no arm"), 2), (KeyboardInterrupt(), 130), (None, 0)],
)
def test_exit_codes(error: Any, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def script() -> None:
        if error:
            raise error

    handler = signal.getsignal(signal.SIGTERM)
    try:
        cli.run(script)
        ended = 0
    except SystemExit as stop:
        ended = int(stop.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended == code
    assert len(capsys.readouterr().err.splitlines()) == (code == 2)


@linux_only
@pytest.mark.slow
def test_a_reader_that_goes_away_costs_no_agent(clone: Path) -> None:
    words = "--total-timesteps 64 --n-envs 2 --batch-size 32"
    command = f"{sys.executable} '{clone}/panda_reach_train_agent.py' {words} | head -1"
    subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
    assert agents.read(clone / "rl-trained-agents" / f"{RUN}.zip").num_timesteps <= 64
