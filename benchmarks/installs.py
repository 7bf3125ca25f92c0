"""Install into fresh environments, as the README says, and time it.

Writes its table to docs/INSTALL.md. Needs the Pythons it is given; nothing is taken from pip's
cache, so that a package that has to be built is built.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rich.progress

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import report  # noqa: E402

import panda_reach_utils as utils  # noqa: E402

ROOT = HERE.parent


def installs(
    pythons: tuple[str, ...] = ("python3.10", "python3.11", "python3.12", "python3.13"),
    uv: bool = True,
) -> None:
    """Install with pip for each Python, and with uv in one command, and run what is installed.

    Args:
        pythons: the interpreters' names.
        uv: try `uv run` as well, with the second of them; uv must be installed.
    """
    missing = [name for name in (*pythons, *["uv"] * uv) if not shutil.which(name)]
    if missing:
        raise utils.UsageError(f"not installed: {', '.join(missing)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in rich.progress.track(pythons, "Installing", transient=True):
            venv = Path(folder) / name
            subprocess.run([name, "-m", "venv", venv], check=True)
            python = venv / "bin" / "python"
            seconds = timed(
                [python, "-m", "pip", "install", "--no-cache-dir", "-q", "-r", "requirements.txt"]
            )
            timed([python, "panda_reach_random_agent.py", "--episodes", "1"])
            rows.append((name, "`pip install -r requirements.txt`", seconds))
            shutil.rmtree(venv)
        if uv:
            words = f"uv run --no-project -p {pythons[1][6:]} --with-requirements requirements.txt"
            words += " panda_reach_train_agent.py"
            run = f"install-{os.getpid()}"
            seconds = timed([*words.split(), "--name", run], UV_CACHE_DIR=str(Path(folder) / "uv"))
            rows.append(("uv", f"`{words}`, the training included", seconds))
            for made in (utils.AGENTS / f"{run}.zip", utils.RUNS / run):
                shutil.rmtree(made) if made.is_dir() else made.unlink()
    lines = ["| with | typed | took |", "| --- | --- | --- |"]
    lines += [f"| {with_} | {typed} | {seconds:.0f} s |" for with_, typed, seconds in rows]
    text = "\n".join(lines) + f"\n\nOn {platform.system()} {platform.machine()}, "
    text += f"{os.cpu_count()} cores, nothing in a cache, and the random agent ran after each."
    report.insert(ROOT / "docs" / "INSTALL.md", "installs", text)
    print(text)


def timed(command: list[str | Path], **environment: str) -> float:
    """Run it in the repository; seconds. Its errors go to the screen."""
    start = time.perf_counter()
    subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    utils.cli(installs)
