"""The files that other tools read: pip, GitHub, citation managers."""

import inspect
import re
from datetime import date

import pytest
import yaml
from packaging.requirements import Requirement
from stable_baselines3 import PPO

from panda_rl.recipes import RECIPES
from tests.conftest import ROOT

LINES = (ROOT / "requirements.txt").read_text().splitlines()
REQUIREMENTS = [Requirement(re.split(" +#", line)[0]) for line in LINES if re.match(r"\w", line)]


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_pip_stops_with_a_word_on_other_pythons(python: str) -> None:
    first = REQUIREMENTS[0]
    assert first.url is not None and "this-needs-Python-3.10-to-3.13" in first.url
    assert first.marker is not None
    assert first.marker.evaluate({"python_version": python}) == (python in ("3.9", "3.14"))


def test_github_tests_every_system_and_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    linux, desktop = workflow["jobs"]["linux"], workflow["jobs"]["desktop"]
    assert linux["env"]["CI"] == "true"
    assert linux["steps"][-1]["run"] == (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert linux["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    systems = [system.split("-")[0] for system in desktop["strategy"]["matrix"]["system"]]
    assert systems == ["macos", "windows"]


def test_the_citation_has_what_the_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["title"] == (ROOT / "README.md").read_text().splitlines()[0].lstrip("# ")
    assert isinstance(citation["date-released"], date)


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
