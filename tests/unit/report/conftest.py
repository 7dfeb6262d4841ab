"""One tree and one report of it for the whole room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mistline.stages.report import run
from tests.unit.report.tree import Tree, write_tree


@dataclass(frozen=True)
class Made:
    """A tree and the folder of its report."""

    tree: Tree
    out: Path

    @property
    def page(self) -> str:
        return (self.out / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report") / "ein Bericht"
    tree = write_tree(folder / "results")
    run(**tree.options(folder / "report"))
    return Made(tree, folder / "report")
