"""What the benchmarks share: how agents are judged, tables in Markdown, the machine's name."""

import importlib
import json
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from panda_rl import cli, evaluation

CELLS = {
    "success rate (95% interval)": "{success_rate:.1%} ({success_low:.1%} to {success_high:.1%})",
    "mean return, dense": "{mean_dense_return:.3f}",
    "sparse": "{mean_sparse_return:.2f}",
    "mean final distance": "{mean_final_distance:.1f} mm",
    "worst": "{worst_final_distance:.1f} mm",
    "mean effort": "{mean_effort:.3f}",
    "mean change of action": "{mean_action_change:.3f}",
}
JUDGED = " | ".join(CELLS)


def judged(episodes: Sequence[evaluation.Episode]) -> str:
    """The cells in the columns JUDGED."""
    result = evaluation.summary(episodes)
    mm = {name: 1000 * value for name, value in result.items() if name.endswith("distance")}
    return " | ".join(CELLS.values()).format(**result | mm)


def table(columns: str, rows: Iterable[str]) -> str:
    """A table in Markdown, of headings and rows with a bar between two cells."""
    ruler = " | ".join("---" for _ in columns.split("|"))
    return "\n".join(f"| {line} |" for line in (columns, ruler, *rows))


def insert(page: str, name: str, text: str) -> None:
    """Print ``text``, and put it between the page's two comments of that name."""
    print(text)
    place = rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)"
    before = (cli.ROOT / page).read_text("utf-8")
    after, count = re.subn(place, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", before, flags=re.S)
    assert count == 1, f"{page} has no place for {name}"
    (cli.ROOT / page).write_text(after, "utf-8")


def results(file: Path) -> list[dict[str, Any]]:
    """The runs that ``keep`` wrote to ``file``."""
    return json.loads(file.read_text()) if file.exists() else []


def keep(file: Path, runs: list[dict[str, Any]]) -> None:
    """Write ``runs`` to ``file``, a line each, whole or not at all. Each begins with its method."""
    with cli.replacing(file) as temporary:
        temporary.write_text(json.dumps(runs).replace('{"method"', '\n{"method"'))


def machine() -> str:
    processors = re.findall("model name.*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = [f"{name} {version(name)}" for name in ("torch", "stable-baselines3")]
    python = f"Python {platform.python_version()}"
    return f"Machine: {len(processors)} x {processors[0]}, {', '.join((python, *versions))}."


def need(module: str) -> Any:
    """A module that requirements.txt does not install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise cli.UsageError(f"{module} is missing: pip install -r requirements-dev.txt") from None
