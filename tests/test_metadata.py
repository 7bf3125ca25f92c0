"""The files that other tools read: conda, GitHub, citation managers."""

import re
from datetime import date

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement

LINES = (ROOT / "requirements.txt").read_text().splitlines()
REQUIREMENTS = [Requirement(re.split(" +#", line)[0]) for line in LINES if re.match(r"\w", line)]


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_pip_stops_with_a_word_on_other_pythons(python: str) -> None:
    first = REQUIREMENTS[0]
    assert first.url is not None and "this-needs-Python-3.10-to-3.13" in first.url
    assert first.marker is not None
    assert first.marker.evaluate({"python_version": python}) == (python in ("3.9", "3.14"))


def test_conda_takes_the_same_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *_, pip = environment["dependencies"]
    pins = [str(requirement) for requirement in REQUIREMENTS if not requirement.url]
    assert [pin for pin in pins if not pin.startswith("pybullet")] == pip["pip"]
    assert any(str(package).startswith("pybullet=") for package in environment["dependencies"])


def test_github_runs_the_same_command() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["env"]["CI"] == "true"
    assert job["steps"][-1]["run"] == (ROOT / ".ci" / "run").read_text().splitlines()[-1]


def test_the_citation_has_what_the_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["title"] == (ROOT / "README.md").read_text().splitlines()[0].lstrip("# ")
    assert isinstance(citation["date-released"], date)
