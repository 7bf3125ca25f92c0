"""Install into fresh environments with no compiler, run an example, and write down the times.

Writes its table to docs/INSTALL.md. Nothing comes from a cache.

    python -m benchmarks.installs
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import report
from panda_rl import cli
from panda_rl.errors import UsageError
from panda_rl.files import ROOT

PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13")
PIP = "pip install -r clone/requirements.txt"
UV = "uv run --no-project -p 3.12 --with-requirements requirements.txt panda_reach_train_agent.py"
COMPILER = re.compile(r"(.*-)?(cc|c\+\+|[cg]\+\+|c89|c99|gcc|clang|clang\+\+|tcc)(-[\d.]+)?")


def installs(pythons: tuple[str, ...] = PYTHONS, uv: bool = True) -> None:
    """Time a fresh installation with each Python's pip, with today's, and a first run with uv.

    Args:
        pythons: names of the interpreters; today's pip runs on the last of them.
        uv: also time `uv run`.
    """
    missing = [name for name in [*pythons, *["uv"] * uv] if not shutil.which(name)]
    if missing:
        raise UsageError(f"not installed: {', '.join(missing)}")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True)
        environment = without_compiler(folder / "bin") | {"UV_CACHE_DIR": str(folder / "cache")}
        for newest, names in ((False, pythons), (True, pythons[-1:])):
            for python in names:
                rows.append(with_pip(python, folder, environment, newest))
                cli.say(" ".join(rows[-1]))
        if uv:
            seconds = run(UV, folder / "clone", environment)
            rows.append(["uv", f"`{UV}`", f"{duration(seconds)}, training included", "", ""])
            cli.say(" ".join(rows[-1]))
    text = report.table(["with", "command", "time", "PyTorch", "size"], rows) + (
        f"\n\n{platform.system()} {platform.machine()}, {os.cpu_count()} cores, no compiler on the "
        "PATH, nothing cached; how long it takes is mostly the network. pip ran in the folder "
        "above the clone. The size is that of the whole environment. CUDA is what pip chooses on "
        "Linux; CPU where a local wheel of that build was at hand."
    )
    report.insert(ROOT / "docs" / "INSTALL.md", "installs", text)


def without_compiler(tools: Path) -> dict[str, str]:
    """An environment whose PATH is ``tools``: links to every command except the compilers."""
    tools.mkdir()
    for folder in os.get_exec_path():
        for command in Path(folder).glob("*"):
            link = tools / command.name
            if not COMPILER.fullmatch(command.name) and not link.is_symlink():
                link.symlink_to(command)
    return os.environ | {"PATH": str(tools), "CC": "false", "CXX": "false"}


def with_pip(name: str, folder: Path, environment: dict[str, str], newest: bool) -> list[str]:
    """The table's row for a fresh environment of this Python, with its own pip or the newest."""
    venv = folder / ".venv"
    shutil.rmtree(venv, ignore_errors=True)
    run(f"{Path(shutil.which(name) or name).resolve()} -m venv {venv}", folder, environment)
    python = str(venv / "bin" / "python")
    if newest:
        run(f"{python} -m pip install --quiet --upgrade pip", folder, environment)
    seconds = run(f"{python} -m {PIP} --quiet --no-cache-dir", folder, environment)
    run(f"{python} -m pip check", folder, environment)
    run(f"{python} clone/panda_reach_random_agent.py --episodes 1", folder, environment)
    facts = "import pip, platform, torch; "
    facts += "print(platform.python_version(), pip.__version__, torch.version.cuda or 'CPU')"
    version, pip, cuda = subprocess.check_output([python, "-c", facts], text=True).split()
    files = (file for file in venv.rglob("*") if not file.is_symlink())
    size = sum(file.stat().st_size for file in files) / 1e9
    build = "CPU" if cuda == "CPU" else f"CUDA {cuda}"
    return [f"Python {version}, pip {pip}", f"`{PIP}`", duration(seconds), build, f"{size:.1f} GB"]


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def run(command: str, folder: Path, environment: dict[str, str]) -> float:
    """Run a command and return the seconds it took. Its errors go to the screen."""
    start = time.perf_counter()
    subprocess.run(
        shlex.split(command), cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.run(installs)
