"""What the README and the other pages say, done as they say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run, assert_one_line

README = (ROOT / "README.md").read_text()
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "rl-trained-agents")),
    *ROOT.glob("docs/*.md"),
]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.splitlines()[-1][:20])
def test_snippets_run_as_they_stand(snippet: str, clone: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", snippet], cwd=clone, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def commands() -> list[list[str]]:
    """The words of each command of ours in the pages' bash blocks, after ``python``."""
    blocks = re.findall(r"```bash\n(.*?)```", "\n".join(p.read_text() for p in PAGES), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    ours = r"panda_\w+\.py|-m (panda_rl|benchmarks|docs)\."
    found = [words[1:] for words in split if words[:1] == ["python"]]
    return [words for words in found if re.match(ours, " ".join(words))]


def test_commands_are_understood() -> None:
    """Each script, asked for help, knows the flags that the pages give it."""
    flags: dict[tuple[str, ...], set[str]] = {}
    for words in commands():
        script = tuple(words[: 2 if words[0] == "-m" else 1])
        flags.setdefault(script, set()).update(word for word in words if word[:2] == "--")
    scripts = {(script.name,) for script in ROOT.glob("panda_*.py")}
    assert scripts <= flags.keys()
    for script, given in flags.items():
        help = [sys.executable, *script, "--help"]
        result = subprocess.run(help, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert given <= set(re.findall(r"--[\w-]+", result.stdout)), script


def test_the_printed_spaces_are_the_ones_it_shows(run: Run) -> None:
    (shown,) = re.findall(r"```text\n(Action space.*?)```", README, re.S)
    random = ("panda_reach_random_agent.py", "--no-render", "--episodes", 1)
    assert run(*random).stdout.startswith(shown)
    joints = run(*random, "--control-type", "joints")
    assert joints.stdout.splitlines()[0].removeprefix("Action space: ") in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_pages_link_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)(.*?)\)", page.read_text()):
        file, _, heading = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)", linked.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles]


def test_pictures_name_the_packages_that_are_missing() -> None:
    command = [sys.executable, "-m", "docs.make_pictures"]
    env = os.environ | {"PATH": ""}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert_one_line(result, "apt install xvfb chromium chromium-driver")
