"""The command line: any words are a call or one line, wherever the output goes."""

import contextlib
import functools
import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import panda_reach_random_agent
import panda_reach_test_agent
import panda_reach_train_agent
from panda_rl import agents, cli, configs
from panda_rl.errors import UsageError
from tests.conftest import ROOT, RUN, assert_one_line, call, call_train, linux_only

import hypothesis
import hypothesis.strategies as st
import pytest

Config = panda_reach_train_agent.Config


def parse_train(words: list[str]) -> object:
    config = configs.parse(panda_reach_train_agent.RECIPES, words)
    assert isinstance(config, Config)
    return config


def parse_function(function: Callable[..., Any]) -> Callable[[list[str]], object]:
    def parse(words: list[str]) -> object:
        given = cli.parse_words(function, words)
        inspect.signature(function).bind(**given)
        return given

    return parse


def only_parsed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the same command line that does nothing."""
    return functools.wraps(function)(lambda **given: given)


PARSERS = {
    "random": parse_function(only_parsed(panda_reach_random_agent.random_agent)),
    "test": parse_function(only_parsed(panda_reach_test_agent.test_agent)),
    "train": parse_train,
}
NAMES = {
    *(field.name for field in fields(Config)),
    *inspect.signature(panda_reach_random_agent.random_agent).parameters,
    *inspect.signature(panda_reach_test_agent.test_agent).parameters,
}
FLAGS = sorted({f"--{name.replace('_', '-')}" for name in NAMES} | {"--help"})
WORDS = st.sampled_from([*FLAGS, "ee", "joints", "dense", "1", "-1", "1e400", "None", "", "--"])


@pytest.mark.slow
@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    st.sampled_from(sorted(PARSERS)),
    st.lists(WORDS | st.text(max_size=5).filter(lambda word: "\0" not in word), max_size=4),
)
def test_any_command_line_is_a_call_or_one_line(script: str, words: list[str]) -> None:
    result = call(lambda given: None, *words, parse=PARSERS[script])
    if result.returncode:
        assert_one_line(result)
    else:
        assert result.stderr == ""


@linux_only
def test_ctrl_c_where_nothing_is_to_be_saved_is_reported_in_one_word() -> None:
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    result = call(interrupted)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Stopped.\n")


@linux_only
@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(clone: Path) -> None:
    flags = {"random": "", "test": "--episodes 2", "train": "--total-timesteps 512"}
    for script, more in flags.items():
        command = f"{sys.executable} '{clone}/panda_reach_{script}_agent.py' {more} | head -1"
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=300
        )
        assert (result.returncode, result.stderr) == (0, ""), script
    assert agents.read(clone / "rl-trained-agents" / f"{RUN}.zip").num_timesteps == 512


@linux_only
def test_stdout_may_be_closed_or_full(clone: Path) -> None:
    command = f"{sys.executable} '{clone}/panda_reach_random_agent.py' --episodes 1"
    full = "panda_reach_random_agent.py: cannot write any more: No space left on device\n"
    for end, code, words in (">&-", 0, ""), (">/dev/full", 2, full):
        result = subprocess.run(
            ["bash", "-c", f"{command} {end}"], stderr=subprocess.PIPE, text=True, timeout=300
        )
        assert (result.returncode, result.stderr) == (code, words)


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        (("--n-envs", 0), "--n-envs is 0, but must be from 1 to 1,000"),
        (("--clip-range", 0), "--clip-range is 0.0, but must be from 1e-06 to 1,000"),
    ],
)
def test_a_number_out_of_range_is_told_its_limits(words: tuple, limits: str) -> None:
    assert_one_line(call_train(*words), f"train.py: {limits}\n")


def test_h_is_short_for_help() -> None:
    assert call_train("-h").stdout.startswith("usage: train.py [-h]")
    assert call_train("-h").stdout == call_train("--help").stdout


def test_an_error_is_one_line_of_plain_text() -> None:
    def wrong() -> None:
        raise UsageError("no agent\nin ä\x1b[2J")

    result = call(wrong)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "wrong.py: no agent in ä\\x1b[2J\n"


def test_any_text_is_printed_at_once() -> None:
    code = "import os; from panda_rl import cli; "
    code += "cli.run(lambda: (cli.say(os.environ['TEXT']), os.kill(os.getpid(), 9)))"
    environment = os.environ | {"PYTHONUNBUFFERED": "", "PYTHONIOENCODING": "cp1252"}
    environment["TEXT"] = "arm \udcff ─"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (result.stdout.strip(), result.stderr) == (b"arm \\udcff \\u2500", b"")


def test_a_command_can_be_pasted_into_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / "a $b's.zip", Path(sys.executable)
    line = cli.command("python", "-c", "import sys; print(sys.argv[1:])", inside, outside)
    result = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=300)
    assert result.stdout == f"{[inside.name, str(outside)]}\n", result.stderr


@linux_only
def test_a_command_is_short_if_the_shell_finds_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    python = Path(sys.executable).with_name("python")
    for path, word in (str(python.parent), "python"), ("", str(python)):
        monkeypatch.setenv("PATH", path)
        assert shlex.split(cli.command("python", "x")) == [word, "x"]


# ------------------------------------------------------------------ a real terminal

DRIVER = """
import functools, json, sys
import panda_reach_random_agent as random, panda_reach_test_agent as test
import panda_reach_train_agent as train
from panda_rl import cli, configs
parse = functools.partial(configs.parse, train.RECIPES)
scripts = {"random": [random.random_agent], "test": [test.test_agent]}
scripts["train"] = [train.train, parse]
for script, *words in json.loads(sys.argv[1]):
    sys.argv = [f"panda_reach_{script}_agent.py", *words]
    try:
        cli.run(*scripts[script])
    except SystemExit as stop:
        print(f"exit {stop.code}", flush=True)
"""
WRONG = [
    ["random", "--seed", "many"],
    ["random", "--reward-type", "big"],
    ["random", "--epochs", "3"],
    ["test", "nowhere.zip"],
    ["test", "--episodes", "0"],
    ["test", "--record", "film.avi"],
    ["train", "--gamma", "0,9"],
    ["train", "--control-type", "arm"],
    ["train", "--learning-rat", "1"],
    ["train", "--batch-size", "2", "--n-envs", "1", "--n-steps", "1"],
    ["train", "--name", "[bold]a/b"],
    ["train", "a", "b"],
]


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("no_color", [True, False])
@pytest.mark.parametrize("columns", ["20", "300", None])
def test_on_a_terminal_bad_input_is_one_plain_line(columns: str | None, no_color: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color"}
    environment |= {"COLUMNS": columns} if columns else {}
    environment |= {"NO_COLOR": "1"} if no_color else {}
    command = [sys.executable, "-c", DRIVER, json.dumps(WRONG)]
    output = on_a_terminal(command, environment)
    lines = output.splitlines()
    assert "\x1b" not in output
    assert len(lines) == 2 * len(WRONG), output
    for (script, *_), said, ended in zip(WRONG, lines[::2], lines[1::2], strict=True):
        assert said.startswith(f"panda_reach_{script}_agent.py: ")
        assert ended == "exit 2"


def on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a program writes whose output is a terminal."""
    import pty  # Windows has none

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT
    ):
        os.close(theirs)
        output = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the terminal is closed
            while more := os.read(ours, 10_000):
                output += more
    os.close(ours)
    return output.decode()


@linux_only
def test_help_may_be_cut_off_or_find_no_room(clone: Path) -> None:
    for script in ("random", "train"):
        command = f"{sys.executable} '{clone}/panda_reach_{script}_agent.py' --help"
        for end, code, lines in ("| head -1", 0, 0), (">/dev/full", 2, 1):
            result = subprocess.run(
                ["bash", "-o", "pipefail", "-c", f"{command} {end}"],
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert (result.returncode, len(result.stderr.splitlines())) == (code, lines), (
                result.stderr
            )


@linux_only
def test_a_name_that_is_no_text_is_reported_in_one_line(clone: Path) -> None:
    command: list[Any] = [
        sys.executable,
        clone / "panda_reach_train_agent.py",
        "--name",
        b"arm \xff",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert_one_line(result, "--name")
