"""The files that other tools read: conda, GitHub, citation managers."""

import re
from datetime import date

import yaml
from conftest import ROOT


def test_conda_takes_the_same_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *_, pip = environment["dependencies"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line.split("#")[0].strip() for line in lines if re.match(r"\w", line)]
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
