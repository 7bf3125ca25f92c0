"""Install into fresh environments, as the README says, and say how long it took.

Writes its table to docs/INSTALL.md. Each install is followed by an episode of the random
agent, or the training. Nothing is taken from a cache: what has to be built is built.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import report  # noqa: E402

import panda_reach_utils as utils  # noqa: E402


def installs(
    pythons: tuple[str, ...] = ("python3.10", "python3.11", "python3.12", "python3.13"),
    uv: bool = True,
) -> None:
    """Install with pip for each Python, and with uv in one command, and run what is installed.

    Args:
        pythons: the interpreters' names.
        uv: try `uv run` as well, with python3.11; uv must be installed.
    """
    missing = [name for name in (*pythons, *["uv"] * uv) if not shutil.which(name)]
    if missing:
        raise utils.UsageError(f"not installed: {', '.join(missing)}")
    lines = ["| with | typed | took | of it PyBullet | PyTorch's build |"]
    lines.append("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        for name in pythons:
            lines.append(pip(name, clone))
            print(lines[-1], flush=True)
        if uv:
            typed = "uv run --no-project -p 3.11 --with-requirements requirements.txt "
            typed += "panda_reach_train_agent.py"
            seconds = run(typed, clone, UV_CACHE_DIR=str(Path(folder) / "cache"))
            lines.append(f"| uv | `{typed}` | {minutes(seconds)}, the training included | | |")
            print(lines[-1])
    lines.append(
        f"\nOn {platform.system()} {platform.machine()}, {os.cpu_count()} cores, with nothing in "
        "a cache; how fast packages come is the network's. PyTorch's CUDA build is what pip takes "
        "by itself; CPU: where that build was at hand (`--find-links`)."
    )
    report.insert(ROOT / "docs" / "INSTALL.md", "installs", "\n".join(lines))


def pip(name: str, clone: Path) -> str:
    """The row of a fresh environment of one Python's."""
    shutil.rmtree(clone / ".venv", ignore_errors=True)
    run(f"{name} -m venv .venv", clone)
    python = clone / ".venv" / "bin" / "python"
    requirements = (clone / "requirements.txt").read_text()
    pybullet = re.findall(r"^pybullet==\S+", requirements, re.MULTILINE)[0]
    built = run(f"{python} -m pip install -q --no-cache-dir --no-deps {pybullet}", clone)
    typed = "pip install -r requirements.txt"
    rest = run(f"{python} -m {typed} -q --no-cache-dir", clone)
    run(f"{python} panda_reach_random_agent.py --episodes 1", clone)
    cuda = "import torch; print('CPU' if torch.version.cuda is None else 'CUDA')"
    build = subprocess.run([python, "-c", cuda], capture_output=True, text=True, check=True).stdout
    shutil.rmtree(clone / ".venv")
    return f"| {name} | `{typed}` | {minutes(built + rest)} | {minutes(built)} | {build.strip()} |"


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def run(command: str, folder: Path, **environment: str) -> float:
    """Seconds; its errors go to the screen."""
    start = time.perf_counter()
    subprocess.run(
        shlex.split(command),
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    utils.cli(installs)
