"""The tutorial runs from its first cell to its last on a finished cohort."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient


def test_the_tutorial_runs(repository: Path, toy_run: Path, tmp_path: Path) -> None:
    # The notebook looks for ../../toy, as in a checkout.
    (tmp_path / "toy").symlink_to(toy_run, target_is_directory=True)
    folder = tmp_path / "workflow/docs"
    folder.mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in toy_run.rglob("*")}
    notebook = nbformat.read(repository / "workflow/docs/tutorial.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    drawn = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("data")]
    assert sum("image/png" in output["data"] for output in drawn) == 6
    assert {path: path.stat().st_mtime_ns for path in toy_run.rglob("*")} == before  # it reads, and writes nothing
