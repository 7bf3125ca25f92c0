"""Blocks of Markdown, and the benchmark's tables and picture from benchmarks/results.json.

python -m benchmarks.report
"""

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from panda_rl.files import ROOT

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

RESULTS = ROOT / "benchmarks" / "results.json"
VARIANTS = ("ee dense", "joints dense", "ee sparse", "joints sparse")
COLORS = {
    "this recipe": "#d62728",
    "2022 script": "#1f77b4",
    "TQC+HER": "#2ca02c",
}

Result = dict[str, Any]


def insert(path: Path, name: str, text: str) -> None:
    """Replace the text between the two comments named ``name``."""
    before = path.read_text("utf-8")
    pattern = rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)"
    after, count = re.subn(pattern, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", before, flags=re.S)
    if count != 1:
        raise ValueError(f"{path} has no place for {name}")
    path.write_text(after, "utf-8")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report() -> None:
    """Write docs/benchmark.png, and README.md's tables of the benchmark and the ablation."""
    everything = json.loads(RESULTS.read_text())
    everything.sort(key=lambda run: VARIANTS.index(run["variant"]))
    runs = [run for run in everything if run["method"] in COLORS]
    draw(runs, ROOT / "docs" / "benchmark.png")
    insert(ROOT / "README.md", "benchmark", benchmark_block(runs))
    insert(ROOT / "README.md", "ablation", ablation_block(everything))


def groups(runs: list[Result]) -> dict[tuple[str, str], list[Result]]:
    """Runs by variant and method, in the order of COLORS."""
    order = list(COLORS)
    found: dict[tuple[str, str], list[Result]] = {}
    for run in sorted(runs, key=lambda run: order.index(run["method"])):
        found.setdefault((run["variant"], run["method"]), []).append(run)
    return found


def median_of(runs: list[Result], key: str) -> float:
    """The median until solved: infinite if half were given up, and NaN without runs."""
    times = [run[key] if run["solved"] else float("inf") for run in runs]
    return statistics.median(times or [float("nan")])


def benchmark_block(runs: list[Result]) -> str:
    found = groups(runs)
    rows = []
    for variant in dict.fromkeys(run["variant"] for run in runs):
        ours = median_of(found.get((variant, "this recipe"), []), "seconds")
        for (of, method), same in found.items():
            if of != variant:
                continue
            steps, seconds = median_of(same, "steps"), median_of(same, "seconds")
            solved = [run["seconds"] for run in same if run["solved"]]
            given_up = max(run["seconds"] for run in same)
            if seconds < float("inf"):
                cells = [
                    f"{steps:,.0f}",
                    f"{seconds:.1f} ({min(solved):.1f} to {max(solved):.1f})",
                    f"{seconds / ours:.1f}",
                ]
            else:
                longest = max(run["steps"] for run in same)
                cells = [f"> {longest:,}", f"> {given_up:.0f}", f"> {given_up / ours:.0f}"]
            rows.append([variant, method, f"{len(solved)} of {len(same)}", *cells])
    machine = runs[-1]["machine"]
    columns = "variant, method, solved, steps to solved, seconds to solved, times ours"
    return table(columns.split(", "), rows) + (
        "\n\nMedians over the seeds 0, 1, ..., and the fastest to slowest solved run; `>` where at "
        "least half of the runs were given up. Solved: the first snapshot, every 1,024 steps, "
        "that reaches all of 100 held-out goals. Seconds are those of training, without "
        f"starting and without judging. Machine: {machine['processor']}, one PyTorch thread, "
        f"Python {machine['python']}, PyTorch {machine['torch']}, Stable-Baselines3 "
        f"{machine['stable-baselines3']}."
    )


def ablation_block(runs: list[Result]) -> str:
    """Steps to solved with one number of the recipe changed, for each variant."""
    changes = [m for m in dict.fromkeys(run["method"] for run in runs) if m not in COLORS]
    changed = [run for run in runs if run["method"] in changes]
    variants = list(dict.fromkeys(run["variant"] for run in changed))
    seeds = max((run["seed"] for run in changed), default=-1) + 1
    rows = []
    for method in ("this recipe", *changes):
        row = ["none" if method == "this recipe" else method]
        for variant in variants:
            same = [r for r in runs if (r["method"], r["variant"]) == (method, variant)]
            steps = [f"{r['steps']:,}" if r["solved"] else "-" for r in same[:seeds]]
            row.append(" ".join(steps))
        rows.append(row)
    return table(["change", *variants], rows) + (
        "\n\nSteps to solved for the seeds 0, 1, ...; `-` where a run was not solved by its last "
        "step; empty where the change is none in this variant."
    )


def draw(runs: list[Result], path: Path) -> None:
    """Success against seconds and against steps: the median, and the range of all seeds."""
    variants = list(dict.fromkeys(run["variant"] for run in runs))
    figure, axes = plt.subplots(2, len(variants), figsize=(11, 5.2), sharey=True, squeeze=False)
    for (variant, method), same in groups(runs).items():
        for row, (x, label) in enumerate(((1, "seconds"), (0, "steps"))):
            axis = axes[row][variants.index(variant)]
            last = max(run["curve"][-1][x] for run in same)
            grid = np.geomspace(1 if x else 1000, last, 200)
            curves = [success_at(run, x, grid) for run in same]
            color = COLORS[method]
            axis.plot(grid, np.median(curves, 0), color=color, label=method, lw=2)
            low, high = np.min(curves, 0), np.max(curves, 0)
            axis.fill_between(grid, low, high, color=color, alpha=0.15, lw=0)
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(label)
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
    for axis, variant in zip(axes[0], variants, strict=True):
        axis.set_title(variant)
    for axis in axes[:, 0]:
        axis.set_ylabel("goals reached")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    handles = {h.get_label(): h for a in axes.flat for h in a.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)


def success_at(run: Result, x: int, grid: np.ndarray) -> np.ndarray:
    """The latest snapshot's success rate at each point of ``grid``; a solved run stays solved."""
    places = [0.0, *(point[x] for point in run["curve"])]
    rates = [0.0, *(point[2] for point in run["curve"])]
    return np.asarray(rates)[np.searchsorted(places, grid, side="right") - 1]


if __name__ == "__main__":
    report()
