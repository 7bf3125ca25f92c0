"""requirements.txt on systems that are not here: the registry is asked what has a wheel where."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

STUB = ROOT / "pybullet-wheel" / "pybullet-3.2.7.post1-py3-none-any.whl"
# Pure Python, released as source only: pip builds them anywhere, without a compiler.
SOURCE_ONLY = ["gym", "gym-robotics"]
LINUX, APPLE, WINDOWS = "x86_64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc"


def compile(file: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Resolve a requirements file; installs nothing."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"]
    command += ["--no-annotate", "--python", sys.executable, *options]
    env = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}  # PyTorch's wheels need it
    return subprocess.run(
        [*command, str(ROOT / file)], capture_output=True, text=True, env=env, cwd=cwd
    )


@pytest.fixture(scope="module")
def registry() -> None:
    """Ask the registry once for everything: uv's cache then answers the other questions."""
    result = compile("constraints.txt", "--universal", "--python-version=3.10", cwd=ROOT)
    reason = "the registry did not answer, or constraints.txt cannot be met"
    assert result.returncode == 0, f"{reason}:\n{result.stderr}"


def resolve(platform: str, python: str) -> subprocess.CompletedProcess[str]:
    """Resolve from wheels for a system that is not this one, from another folder."""
    options = ["--python-platform", platform, "--python-version", python, "--only-binary=:all:"]
    options += [f"--no-binary={package}" for package in SOURCE_ONLY]
    file = "requirements-dev.txt"  # it includes requirements.txt
    cached = compile(file, *options, "--offline", cwd=ROOT.parent)
    return compile(file, *options, cwd=ROOT.parent) if cached.returncode else cached


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("platform", "python"),
    [
        *((LINUX, python) for python in ("3.10", "3.11", "3.12", "3.13")),
        *((platform, python) for platform in (APPLE, WINDOWS) for python in ("3.10", "3.13")),
    ],
)
def test_every_package_has_a_wheel(platform: str, python: str) -> None:
    result = resolve(platform, python)
    assert result.returncode == 0, result.stderr
    pins = {line.split(" ;")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    resolved = set(result.stdout.splitlines())
    assert resolved <= pins
    if platform == LINUX and python in ("3.10", "3.11"):
        pybullet = {"pybullet==3.2.7"}
    else:
        pybullet = {"pybullet==3.2.7.post1", "pybullet-arm64==3.2.8"}
    assert {line for line in resolved if line.startswith("pybullet")} == pybullet


def test_the_wheel_in_the_repository_is_a_name_and_no_code() -> None:
    with zipfile.ZipFile(STUB) as wheel:
        files = {name.split("/")[1] for name in wheel.namelist()}
        assert files == {"METADATA", "WHEEL", "RECORD"}
        metadata = wheel.read("pybullet-3.2.7.post1.dist-info/METADATA").decode()
    assert metadata.splitlines()[1:] == [
        "Name: pybullet",
        "Version: 3.2.7.post1",
        "Requires-Python: >=3.10",
        "Requires-Dist: pybullet-arm64==3.2.8",
    ]


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_pip_stops_with_a_word_on_other_pythons(python: str) -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    first = Requirement(next(line for line in lines if line[:1].isalpha()))
    assert first.url and "this-needs-Python-3.10-to-3.13" in first.url
    marker = first.marker
    assert marker and marker.evaluate({"python_version": python}) == (python in ("3.9", "3.14"))
