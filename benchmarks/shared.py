"""What the benchmarks share: curves, how agents are judged, tables, the machine's name."""

import importlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

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

Groups = dict[tuple[str, str], list[dict[str, Any]]]  # runs by their method and variant


class Curve(BaseCallback):
    """The success rate every ``gap_steps``, and at the end, with the clock stopped.

    The clock is that of the processor, as other work on the machine would slow any other.
    """

    def __init__(self, gap_steps: int, first_steps: int) -> None:
        super().__init__()
        self.gap_steps = gap_steps
        self.points: list[tuple[int, float, float]] = []  # steps, seconds, success rate
        self._next = first_steps

    def success_rate(self) -> float:
        raise NotImplementedError

    def seconds(self) -> float:
        """Of training so far."""
        return time.process_time() - self._start

    def _on_training_start(self) -> None:
        self._start = time.process_time()

    def _on_rollout_start(self) -> None:  # the policy has just been updated
        if self.num_timesteps >= self._next:
            self._judge()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._judge()

    def _judge(self) -> None:
        seconds = self.seconds()
        self.points.append((self.num_timesteps, round(seconds, 2), self.success_rate()))
        self._next = (self.num_timesteps // self.gap_steps + 1) * self.gap_steps
        self._start = time.process_time() - seconds


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
    """The runs that ``add`` wrote to ``file``."""
    return json.loads(file.read_text()) if file.exists() else []


def add(file: Path, run: dict[str, Any]) -> None:
    """Write one run more to ``file``: JSON, a line each, whole or not at all."""
    # Read anew: another process may have added its own.
    lines = ",\n".join(map(json.dumps, [*results(file), run]))
    with cli.replacing(file) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n")


def complete(
    file: Path, minutes: Mapping[tuple[str, str, int], float], run: Callable[..., dict[str, Any]]
) -> Groups:
    """Run what ``file`` lacks, and add each result as it ends. Returns all results of the file.

    Args:
        file: see ``add``.
        minutes: of each run, by its method, variant and seed.
        run: trains, given these three.
    """
    for module in ("matplotlib", "sb3_contrib"):
        need(module)  # now, not in an hour
    torch.set_num_threads(1)
    names = ("method", "variant", "seed")
    done = {tuple(result[name] for name in names) for result in results(file)}
    left = [key for key in minutes if key not in done]
    print(f"{len(left)} runs are left: about {sum(minutes[key] for key in left) / 60:.1f} hours")
    here = machine()
    for key in left:
        print(*key, sep=", ", flush=True)
        add(file, dict(zip(names, key, strict=True)) | run(*key) | {"machine": here})
    groups: Groups = {(method, variant): [] for method, variant, _ in minutes}
    for result in results(file):
        groups.setdefault((result["method"], result["variant"]), []).append(result)
    return groups


def machines(groups: Groups) -> str:
    """On which machines the runs were made."""
    return " ".join(dict.fromkeys(run["machine"] for runs in groups.values() for run in runs))


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux's
    names = re.findall("model name.*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    processor = names[0] if names else platform.machine()
    versions = [f"{name} {version(name)}" for name in ("torch", "stable-baselines3")]
    python = f"Python {platform.python_version()}"
    return f"Machine: {os.cpu_count()} x {processor}, {', '.join((python, *versions))}."


def need(module: str) -> Any:
    """A module that requirements.txt does not install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise cli.UsageError(f"{module} is missing: pip install -r requirements-dev.txt") from None
