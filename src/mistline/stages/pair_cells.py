"""Pair cells of one slide: each control cell with a cell of the target state of the same niche and split."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from mistline.config.base import load_section
from mistline.core.errors import InputError
from mistline.core.files import parquet_columns, read_parquet
from mistline.core.provenance import record
from mistline.mist.crops import require_same_cells
from mistline.mist.expression import CountsFile
from mistline.mist.labels import PREFIX
from mistline.mist.metacells import Query, read_vocabulary
from mistline.models.flow import pairs as library
from mistline.models.flow.params import Params
from mistline.store.latents import LatentReader
from mistline.store.manifest import Manifest, read_manifest
from mistline.store.pairs import States, write_pairs
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import folder_modules

logger = logging.getLogger("mistline.pairs")

_CELLS = "read_cells for this slide"


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    slide: Annotated[str, typer.Option(help="Name of the slide.")],
    cells: Annotated[Path, typer.Option(help="The slide's cells.parquet, with the labels.")],
    counts: Annotated[Path, typer.Option(help="The slide's counts.h5ad.")],
    splits: Annotated[Path, typer.Option(help="The slide's split file.")],
    pairs: Annotated[Path, typer.Option(help="Pairs (parquet) to write.")],
    params: Annotated[str, typer.Option(help="Settings of the flow, as JSON.")],
    seed: Annotated[int, typer.Option(help="Seed of the draw of cells.")],
    latents: Annotated[
        Path | None, typer.Option(help="Latents of the slide: only cells encoded there are paired; without it, all.")
    ] = None,
) -> None:
    """Pair the cells of one slide."""
    settings = load_section(Params, params, "models.flow.params")
    sealed = read_manifest(manifest)
    if slide not in sealed.slides:
        raise InputError(manifest, f"it has no slide {slide}", f"choose one of {', '.join(sealed.slides)}")
    state, states = _states(cells, settings.label)
    group = _groups(sealed, slide, cells, settings.niche) if states.values else None
    with CountsFile(counts) as file:
        ids = read_parquet(cells, ["cell_id"], _CELLS)
        require_same_cells(ids, file, cells)
        table = pd.DataFrame({"cell_id": ids["cell_id"], "split": _split(splits, ids), "state": state, "group": group})
        if latents is not None:
            table.loc[~table["cell_id"].isin(_encoded(latents, slide)), "split"] = None
        how = settings.transport()
        sides = list(library.sides_of(table, settings.transitions, how, seed, slide))
        query = Query(read_vocabulary(sealed.locate(sealed.content["metacells"]["path"])), file.gene_ids, slide)
        found = library.pair(table, sides, lambda rows: _scores(query, file, rows), how)
    if found.empty:
        there = ", ".join(states.values) or "none, as the slide has no such column"
        logger.warning("%s: no pair; values of %s are: %s", slide, settings.label, there)
    write_pairs(pairs, found.assign(slide=slide), states)
    _tell(slide, found)
    inputs = {"manifest": manifest, "cells": cells, "counts": counts, "splits": splits}
    record(
        "pair_cells",
        outputs=[pairs],
        inputs=inputs | ({} if latents is None else {"latents": latents}),
        params=settings.model_dump(mode="json") | {"slide": slide},
        code=code_digest("pair_cells", *folder_modules("mistline.models.flow")),
        seed=seed,
    )


def _states(cells: Path, label: str) -> tuple[NDArray[np.object_], States]:
    """Return the state of each cell, None where unknown, and what states there are; a slide may lack the column."""
    column = f"{PREFIX}{label}"
    if column not in parquet_columns(cells, _CELLS):
        n = len(read_parquet(cells, ["cell_id"], _CELLS))
        return np.full(n, None, dtype=object), States(label, {})
    values = _texts(read_parquet(cells, [column], _CELLS)[column])
    number = Counter(value for value in values.tolist() if value is not None)
    return values, States(label, dict(sorted(number.items())))


def _groups(sealed: Manifest, slide: str, cells: Path, niche: str) -> NDArray[np.object_]:
    """Return the group of each cell: its tile of a scale, or its label.

    Raises:
        InputError: the name is neither a grid scale of the dataset nor a column of labels.
    """
    grids = [name for name in sealed.scales if name != "cell"]
    if niche in grids:
        index = sealed.locate(sealed.slides[slide]["scales"]["cell"]["index"]["path"])
        return _texts(read_parquet(index, [f"{niche}_id"], "cut_crops for this slide")[f"{niche}_id"])
    labels = [name.removeprefix(PREFIX) for name in parquet_columns(cells, _CELLS) if name.startswith(PREFIX)]
    if niche not in labels:
        what = f"niche {niche!r} is neither a scale of the dataset nor a column of the slide's labels"
        raise InputError(f"slide {slide}", what, f"choose one of {', '.join([*grids, *labels])}")
    return _texts(read_parquet(cells, [f"{PREFIX}{niche}"], _CELLS)[f"{PREFIX}{niche}"])


def _split(splits: Path, ids: pd.DataFrame) -> NDArray[np.object_]:
    table = read_parquet(splits, ["cell_id", "split"], "make_splits")
    if not np.array_equal(table["cell_id"].to_numpy(dtype=object), ids["cell_id"].to_numpy(dtype=object)):
        raise InputError(splits, "it lists other cells than cells.parquet", "run make_splits again")
    return table["split"].to_numpy(dtype=object)


def _encoded(latents: Path, slide: str) -> pd.Series:
    cells = LatentReader(latents).cells
    if set(cells["slide"]) != {slide}:
        raise InputError(latents, f"latents of another slide than {slide}", "give the slide's own folder")
    return cells["cell_id"]


def _texts(values: pd.Series) -> NDArray[np.object_]:
    """Return values as text, None where there is none."""
    return np.array([None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)])


def _scores(query: Query, file: CountsFile, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores [n, p] of some rows, read a block at a time.

    The components are those of the dataset's meta-cells, fitted on training cells of the whole cohort: a slide that is
    all test has none of its own, and no label or cell of another split is looked at.
    """
    found = [np.zeros((0, len(query.vocabulary.pca.components)), dtype=np.float32)]
    for start, block in file.blocks():
        inside = rows[(rows >= start) & (rows < start + block.shape[0])] - start
        if len(inside):
            found.append(query.scores(query.normalise(block[inside])))
    return np.concatenate(found)


def _tell(slide: str, found: pd.DataFrame) -> None:
    for (transition, split), part in found.groupby(["transition", "split"], sort=True):
        told = f"{len(part)} pairs in {part['group'].nunique()} groups, mean confidence {part['confidence'].mean():.2f}"
        logger.info("%s, %s, %s: %s", slide, transition, split, told)
