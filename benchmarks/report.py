"""The benchmark's table and picture, from benchmarks/results.json."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COLORS = {
    "this recipe": "#d62728",
    "2022 script": "#1f77b4",
    "2022 snippet": "#17becf",
    "TQC+HER": "#2ca02c",
    "SAC+HER": "#9467bd",
}

Result = dict[str, Any]


def report(results: Path = HERE / "results.json") -> None:
    """Write docs/benchmark.png and the tables in README.md."""
    everything = json.loads(results.read_text())
    runs = [run for run in everything if run["method"] in COLORS]
    insert(ROOT / "README.md", "ablation", ablation(everything))
    draw(runs, ROOT / "docs" / "benchmark.png")
    insert(ROOT / "README.md", "benchmark", sentence(runs) + "\n\n" + table(runs))


def groups(runs: list[Result]) -> dict[tuple[str, str], list[Result]]:
    """Runs by variant and method, in the order of the picture."""
    order = {method: i for i, method in enumerate(COLORS)}
    found: dict[tuple[str, str], list[Result]] = {}
    for run in sorted(runs, key=lambda r: order[r["method"]]):
        found.setdefault((run["variant"], run["method"]), []).append(run)
    return found


def median_of(runs: list[Result], key: str) -> float | None:
    """The median to solved; None where half of the runs or more were given up."""
    values = [run[key] if run["solved"] else float("inf") for run in runs]
    median = statistics.median(values)
    return None if median == float("inf") else median


def table(runs: list[Result]) -> str:
    lines = [
        "| variant | method | solved | steps to solved | seconds to solved | times ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    found = groups(runs)
    for variant in dict.fromkeys(run["variant"] for run in runs):
        ours = median_of(found.get((variant, "this recipe"), []) or [{"solved": False}], "seconds")
        for (of, method), same in found.items():
            if of != variant:
                continue
            steps, seconds = median_of(same, "steps"), median_of(same, "seconds")
            limit = max(run["seconds"] for run in same)
            if seconds is None:
                times = f"> {limit / ours:.0f}" if ours else ""
                cells = [f"> {max(run['steps'] for run in same):,}", f"> {limit:.0f}", times]
            else:
                low, high = (f(run["seconds"] for run in same if run["solved"]) for f in (min, max))
                cells = [
                    f"{steps:,.0f}",
                    f"{seconds:.1f} ({low:.1f} to {high:.1f})",
                    f"{seconds / ours:.1f}" if ours else "",
                ]
            count = f"{sum(run['solved'] for run in same)} of {len(same)}"
            lines.append("| " + " | ".join([variant, method, count, *cells]) + " |")
    machine = runs[-1]["machine"]
    return "\n".join(lines) + (
        "\n\nMedians, and the fastest to slowest solved run, over seeds 0, 1, ...; `>` where half "
        "of the runs or more were given up. Solved: the first snapshot, every 1,024 steps, that "
        f"reaches all of 100 held-out goals. Machine: {machine['processor']}, one PyTorch thread, "
        f"Python {machine['python']}, PyTorch {machine['torch']}, Stable-Baselines3 "
        f"{machine['stable-baselines3']}."
    )


def ablation(runs: list[Result]) -> str:
    """Steps to solved with one number of the recipe changed, by variant."""
    methods = [m for m in dict.fromkeys(r["method"] for r in runs) if m not in COLORS]
    variants = [v for v in dict.fromkeys(r["variant"] for r in runs if r["method"] in methods)]
    if not methods:
        return "Not run yet."
    lines = ["| change | " + " | ".join(variants) + " |", "| --- |" + " --- |" * len(variants)]
    for method in ("this recipe", *methods):
        cells = []
        for variant in variants:
            same = [r for r in runs if (r["method"], r["variant"]) == (method, variant)]
            steps = [f"{r['steps']:,}" if r["solved"] else "-" for r in same]
            cells.append(" ".join(steps) or "as it is")
        lines.append(f"| {'none' if method == 'this recipe' else method} | {' | '.join(cells)} |")
    return "\n".join(lines) + (
        "\n\nSteps to solved for the seeds 0, 1, ...; - where it was not; as it is: no change."
    )


def sentence(runs: list[Result]) -> str:
    found = groups(runs)
    ratios = []
    for variant in ("ee dense", "joints dense"):
        ours, theirs = (found.get((variant, m), []) for m in ("this recipe", "2022 script"))
        if not (ours and theirs) or (mine := median_of(ours, "seconds")) is None:
            continue
        other = median_of(theirs, "seconds")
        times = (other or max(run["seconds"] for run in theirs)) / mine
        ratios.append(
            f"{times:.0f} {'times' if other else 'times (given up)'} as long on `{variant}` "
            f"(runs: {len(theirs)} of it, {len(ours)} of ours)"
        )
    return (
        "Until all of 100 held-out goals are reached, the 2022 example's training script takes "
        + ", and ".join(ratios)
        + "."
    )


def insert(path: Path, name: str, text: str) -> None:
    """Replace what stands between the two comments named ``name``."""
    before = path.read_text()
    pattern = rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)"
    after, count = re.subn(pattern, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", before, flags=re.S)
    if count != 1:
        raise ValueError(f"{path} has no place for {name}")
    path.write_text(after)


def draw(runs: list[Result], path: Path) -> None:
    """Success against seconds and against steps: the median, and all seeds' range."""
    variants = list(dict.fromkeys(run["variant"] for run in runs))
    figure, axes = plt.subplots(2, len(variants), figsize=(11, 5.2), sharey=True, squeeze=False)
    for column, variant in enumerate(variants):
        for row, (x, label) in enumerate(((1, "seconds"), (0, "steps"))):
            axis = axes[row][column]
            for (of, method), same in groups(runs).items():
                if of != variant:
                    continue
                last = max(run["curve"][-1][x] for run in same)
                grid = np.geomspace(1 if x else 1000, last, 200)
                curves = [success_at(run, x, grid) for run in same]
                axis.plot(grid, np.median(curves, 0), color=COLORS[method], label=method, lw=2)
                axis.fill_between(
                    grid,
                    np.min(curves, 0),
                    np.max(curves, 0),
                    color=COLORS[method],
                    alpha=0.15,
                    lw=0,
                )
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(label)
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0][column].set_title(variant)
    for axis in axes[:, 0]:
        axis.set_ylabel("goals reached")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    handles = {h.get_label(): h for a in axes.flat for h in a.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)


def success_at(run: Result, x: int, grid: np.ndarray) -> np.ndarray:
    """The last snapshot's success at each place of ``grid``; what is solved stays solved."""
    places = [0.0, *(point[x] for point in run["curve"])]
    rates = [0.0, *(point[2] for point in run["curve"])]
    if run["solved"]:
        rates[-1] = 1.0
    return np.asarray(rates)[np.searchsorted(places, grid, side="right") - 1]


if __name__ == "__main__":
    report()
