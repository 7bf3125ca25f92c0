"""What the README and the other pages say, done as they say."""

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from panda_rl.recipes import RECIPES
from tests.conftest import ROOT, Run, assert_fine

README = (ROOT / "README.md").read_text()
EXERCISES = (ROOT / "docs" / "EXERCISES.md").read_text()
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "rl-trained-agents")),
    *ROOT.glob("docs/*.md"),
]
# The page about other trainers has one program, in two parts.
TRAINERS = "".join(
    re.findall(r"```python\n(.*?)```", (ROOT / "docs/OTHER_TRAINERS.md").read_text(), re.S)
)
SNIPPETS = [*re.findall(r"```python\n(.*?)```", README + EXERCISES, re.S), TRAINERS]


def python(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.splitlines()[-1][:20])
def test_snippets_run_as_they_stand(snippet: str, clone: Path) -> None:
    """Only long trainings are cut short. A class alone takes the place of an exercise's class."""
    if snippet.startswith("class "):
        (whole,) = (code for code in SNIPPETS if "class Slowly" in code)
        (name,) = re.findall(r"class (\w+)", snippet)
        parts = re.fullmatch(r"(.*?)class Slowly.*?(\n\nconfig =.*)", whole, re.S)
        assert parts
        snippet = parts[1] + snippet + parts[2].replace("Slowly", name)
    short = re.sub(r"(learn\(|total_timesteps=)[\d_]+", r"\g<1>1024", snippet)
    (clone / "mine.py").write_text(short)
    result = python(clone, "mine.py")
    assert (result.returncode, result.stderr) == (0, "")


def test_exercises_train_with_what_they_change(call: Run) -> None:
    trainings = [words for words in commands(EXERCISES) if "train_agent" in words[0]]
    assert len(trainings) >= 2
    for words in trainings:
        assert_fine(call(*words, "--total-timesteps", 256))


def commands(text: str) -> list[list[str]]:
    """The words of each command of ours in the bash blocks, after ``python``."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    ours = r"panda_\w+\.py|-m (panda_rl|benchmarks|docs)\."
    found = [words[1:] for words in split if words[:1] == ["python"]]
    return [words for words in found if re.match(ours, " ".join(words))]


def test_commands_are_understood(call: Run) -> None:
    """Each script, asked for help, knows the flags that the pages give it."""
    flags: dict[str, set[str]] = {}
    for words in commands("\n".join(page.read_text() for page in PAGES)):
        script = words[0] if words[0] != "-m" else f"{words[1].replace('.', '/')}.py"
        flags.setdefault(script, set()).update(word for word in words if word[:2] == "--")
    assert {script.name for script in ROOT.glob("panda_*.py")} <= flags.keys()
    for script, given in flags.items():
        result = call(script, "--help")
        assert_fine(result)
        assert given <= set(re.findall(r"--[\w-]+", result.stdout)), script


@pytest.mark.parametrize("control_type", ["ee", "joints"])
def test_the_action_spaces_are_the_ones_it_shows(control_type: str) -> None:
    env = gym.make("PandaReach-v2", control_type=control_type)
    assert f"`{env.action_space}`" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_pages_link_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)(.*?)\)", page.read_text()):
        file, _, heading = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)", linked.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles]


def test_the_readme_has_the_recipes_numbers() -> None:
    """The table "The recipe", compared with RECIPES and with PPO's own defaults."""
    text = (ROOT / "README.md").read_text().split("## The recipe")[1].split("## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    (header,) = (row for row in rows if row[:1] == ["number"])
    variants = [tuple(name.split()) for name in header[1:5]]
    numbers = {row[0].strip("`"): row[1:6] for row in rows if row[:1] and row[0].startswith("`")}
    assert variants == list(RECIPES)
    defaults = {name: p.default for name, p in inspect.signature(PPO).parameters.items()}
    defaults |= {"n_envs": 1, "log_std_init": 0, "adam_beta2": 0.999}
    for name, (*shown, default) in numbers.items():
        assert [float(n) for n in shown] == [getattr(c, name) for c in RECIPES.values()]
        if default != "-":
            assert float(default) == defaults[name], name
    different = {
        name
        for config in RECIPES.values()
        for name in defaults.keys() & vars(config).keys()
        if getattr(config, name) != defaults[name] and name != "seed"
    }
    assert different <= numbers.keys()  # none is left out
