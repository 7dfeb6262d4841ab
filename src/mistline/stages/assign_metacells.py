"""Give every cell of a slide its meta-cell and its groups at the coarser levels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from mistline.core.errors import InputError
from mistline.core.files import read_parquet, write_parquet
from mistline.core.provenance import record
from mistline.mist.metacells import assign_slide, read_vocabulary
from mistline.workflow.digest import code_digest


def run(
    metacells: Annotated[Path, typer.Option(help="metacells.h5ad")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad of the slide")],
    cells: Annotated[Path, typer.Option(help="cells.parquet of the slide")],
    assignment: Annotated[Path, typer.Option(help="metacells.parquet to write")],
    threads: Annotated[int, typer.Option(min=1, help="does not change the result")] = 1,
) -> None:
    """Assign one slide."""
    vocabulary = read_vocabulary(metacells)
    cell_id, found = assign_slide(vocabulary, counts, threads)
    expected = read_parquet(cells, ["cell_id"], "read_cells for this slide")["cell_id"].to_numpy().astype(str)
    if len(expected) != len(cell_id) or (expected != cell_id).any():
        raise InputError(counts, f"it lists other cells than {cells}", "run read_cells for this slide again")
    levels = {name: groups[found.metacell] for name, groups in vocabulary.levels.items()}
    columns = {"cell_id": cell_id.astype(object), "metacell": found.metacell, **levels, "distance": found.distance}
    write_parquet(assignment, pd.DataFrame(columns))
    inputs = {"metacells": metacells, "counts": counts, "cells": cells}
    record("assign_metacells", outputs=[assignment], inputs=inputs, params={}, code=code_digest("assign_metacells"))
