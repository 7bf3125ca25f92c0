"""What the README says, done as it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, Run, assert_one_line

import pytest

README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.splitlines()[-1][:20])
def test_snippets_run_as_they_stand(snippet: str, clone: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", snippet], cwd=clone, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 2


def test_the_printed_spaces_are_the_ones_it_shows(run: Run) -> None:
    (shown,) = re.findall(r"```text\n(Action space.*?)```", README, re.S)
    random = ("panda_reach_random_agent.py", "--no-render", "--episodes", 1)
    assert run(*random).stdout.startswith(shown)
    joints = run(*random, "--control-type", "joints")
    assert joints.stdout.splitlines()[0].removeprefix("Action space: ") in README


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!http)(.*?)\)", README):
        assert (ROOT / target).exists(), target


def test_pictures_name_the_packages_that_are_missing() -> None:
    command = [sys.executable, "-m", "docs.make_pictures"]
    env = os.environ | {"PATH": ""}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert_one_line(result, "apt install xvfb chromium chromium-driver")
