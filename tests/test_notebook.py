"""docs/panda_reach.ipynb: it runs as it stands, and what it shows is from its own code."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest

from docs.run_notebook import NOTEBOOK, digest, execute

SHOWN = {"image/png", "image/gif"}


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def shown(notebook: nbformat.NotebookNode) -> list[set[str]]:
    """The kinds of pictures in each code cell's outputs; nothing may have gone wrong in it."""
    kinds = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            assert output.output_type != "error", output
            assert output.get("name") != "stderr", output.text
        kinds.append({kind for output in cell.outputs for kind in output.get("data", {})} & SHOWN)
    return kinds


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(notebook: nbformat.NotebookNode, clone: Path) -> None:
    stored = shown(notebook)
    settings = notebook.cells[1]
    settings.source, changed = re.subn(r"STEPS = [\d_]+", "STEPS = 512", settings.source)
    assert changed == 1
    (imports,) = (cell for cell in notebook.cells if "import panda_rl" in cell.source)
    imports.source += "\nfrom panda_rl import evaluation\nevaluation.JUDGING_GOALS = range(4)"
    (clone / "docs").mkdir(exist_ok=True)
    shutil.copy(NOTEBOOK, clone / "docs")
    execute(notebook, clone / "docs")
    assert shown(notebook) == stored
    assert len(list((clone / "rl-trained-agents").glob("*_dense_[123].zip"))) == 3


def test_it_is_stored_with_the_outputs_of_its_code(notebook: nbformat.NotebookNode) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert notebook.metadata["executed"] == digest(notebook), "run `python -m docs.run_notebook`"
    pictures = shown(notebook)
    assert pictures.count({"image/png"}) == 3  # the task, a run's curves, three runs' curves
    assert pictures.count({"image/gif"}) == 1


def test_it_is_small_and_names_no_machine(notebook: nbformat.NotebookNode) -> None:
    assert NOTEBOOK.stat().st_size < 1_500_000
    for cell in notebook.cells:
        assert "execution" not in cell.metadata  # when it ran
        for output in cell.get("outputs", []):
            text = output.get("text") or output.data["text/plain"]
            assert not re.search(r"(^|[\s'\"=])(/|[A-Z]:\\)\w", text), text
