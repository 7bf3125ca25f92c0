"""Run docs/panda_reach.ipynb in a copy of the checkout, and keep its outputs.

`make docs` runs this.

    python -m docs.run_notebook
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from panda_rl.cli import ROOT

NOTEBOOK = ROOT / "docs" / "panda_reach.ipynb"


def run_notebook() -> None:
    """Run the notebook and store it with its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        copy_tracked(Path(folder))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        execute(notebook, Path(folder) / "docs")
    notebook.metadata["language_info"] = {"name": "python"}  # any Python will do
    notebook.metadata["executed"] = digest(notebook)
    nbformat.write(notebook, NOTEBOOK)


def copy_tracked(folder: Path, *paths: str) -> None:
    """Copy what git tracks, all of it or what is in ``paths``, to ``folder``."""
    listed = subprocess.check_output(["git", "ls-files", "-z", *paths], cwd=ROOT, text=True)
    for file in filter(None, listed.split("\0")):
        if (ROOT / file).exists():  # not if it was deleted a moment ago
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in ``folder``, and replace their outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    client = NotebookClient(
        notebook,
        timeout=900,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no warning about its connection
    )
    # As in an activated environment, so that the output says `python` and not its folder.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    client.execute(env=os.environ | {"PATH": path})


def digest(notebook: nbformat.NotebookNode) -> str:
    """A digest of the code, which shows whether the outputs came from it."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


if __name__ == "__main__":
    run_notebook()
