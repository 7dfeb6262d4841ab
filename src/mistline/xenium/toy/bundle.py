"""Writing one bundle: tables in a first pass over the blocks, images in a second."""

from __future__ import annotations

import csv
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mistline.core.files import atomic_path
from mistline.core.seeds import generator
from mistline.xenium.toy import describe
from mistline.xenium.toy.cells import Cells, Tissue
from mistline.xenium.toy.images import TileSpool, draw, write_images
from mistline.xenium.toy.labels import COLUMNS, label_rows
from mistline.xenium.toy.matrix import MatrixFile
from mistline.xenium.toy.render import Painter
from mistline.xenium.toy.settings import ToySlide
from mistline.xenium.toy.tables import TableFile, Tables, shuffle
from mistline.xenium.toy.tissue import Block
from mistline.xenium.toy.transcripts import transcripts
from mistline.xenium.toy.zarrcells import CellArrays, close_group
from mistline.xenium.toy.zarrzip import ZarrZip


@dataclass
class Totals:
    """What is only known when all blocks were made."""

    nucleus_offsets: dict[Block, int] = field(default_factory=dict)
    n_nuclei: int = 0
    n_transcripts: int = 0
    area_um2: float = 0.0
    near_senders: int = 0
    cut_by_border: int = 0


def write_bundle(path: Path, slide: ToySlide, *, labels: Path | None = None, threads: int = 2) -> dict[str, Any]:
    """Write a synthetic Xenium bundle; memory depends on the tile and the block, not on the slide.

    Args:
        path: the bundle's folder; appears whole or not at all.
        slide: what to write.
        labels: where to write the true labels of the cells (csv), if anywhere.
        threads: of the image encoder; the bytes do not depend on it.

    Returns:
        The slide's truth, as JSON values.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    tissue = Tissue(slide)
    totals = Totals()
    with atomic_path(Path(path)) as part:
        part.mkdir()
        with ZarrZip(part / "cells.zarr.zip") as zarr:
            with ExitStack() as stack:
                _write_blocks(tissue, _Files(stack, part, tissue, zarr, labels), totals)
            with TileSpool(part / ".tiles", threads) as spool:
                draw(Painter(tissue, totals.nucleus_offsets), spool, zarr)
                write_images(part, slide, spool)
            close_group(zarr, slide)
        for name, value in describe.documents(slide, tissue.panel, totals.n_transcripts, totals.area_um2).items():
            (part / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return describe.truth(tissue, totals.near_senders, totals.cut_by_border)


class _Files:
    """The tables of a bundle, open for appending."""

    def __init__(self, stack: ExitStack, part: Path, tissue: Tissue, zarr: ZarrZip, labels: Path | None) -> None:
        self.tissue, self.slide, self.tables = tissue, tissue.slide, Tables(tissue)
        self.cells, self.cell_boundaries, self.nucleus_boundaries = (
            stack.enter_context(TableFile(part / f"{name}.parquet"))
            for name in ("cells", "cell_boundaries", "nucleus_boundaries")
        )
        self.transcripts = (
            stack.enter_context(TableFile(part / "transcripts.parquet")) if self.slide.transcripts else None
        )
        self.matrix = stack.enter_context(MatrixFile(part / "cell_feature_matrix.h5", self.slide, tissue.panel))
        self.zarr = CellArrays(zarr, self.slide)
        stack.callback(self.zarr.close)
        self.labels = None
        if labels is not None:
            temporary = stack.enter_context(atomic_path(labels))
            stream = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            self.labels = csv.writer(stream, lineterminator="\n")
            self.labels.writerow(COLUMNS)


def _write_blocks(tissue: Tissue, files: _Files, totals: Totals) -> None:
    """Make every block once and append it to every table."""
    blocks = tissue.plan.blocks()
    for block in blocks:
        totals.nucleus_offsets[block] = totals.n_nuclei
        cells = tissue.cells(block)
        files.zarr.append(cells, totals.n_nuclei)
        _append(files, block, cells, totals.n_nuclei)
        if files.labels is not None:
            files.labels.writerows(label_rows(cells))
        if files.transcripts is not None:
            files.transcripts.append(transcripts(tissue, files.tables, block, cells))
        _add(totals, tissue, cells)


def _append(files: _Files, block: Block, cells: Cells, n_nuclei: int) -> None:
    """Append a block to the tables, each in an order of its own where the slide is shuffled."""
    tables, slide = files.tables, files.slide
    nuclei = cells.nuclei
    parts: list[tuple[TableFile, pa.Table, np.ndarray]] = []
    parts.append((files.cells, tables.cells(cells), np.arange(len(cells.ids))))
    outlines = (
        (files.cell_boundaries, cells.outlines, np.arange(len(cells.ids)), cells.draft.first),
        (files.nucleus_boundaries, nuclei.outlines(fixed=not slide.form.since_2), nuclei.cell, n_nuclei),
    )
    for file, shapes, owner, first in outlines:
        polygons = np.repeat(np.arange(len(shapes.sizes)), shapes.sizes + 1)
        parts.append((file, tables.outlines(cells, shapes, owner, first + 1), polygons))
    order = np.arange(len(cells.ids))
    if slide.shuffled:
        random = generator(slide.seed, "toy", slide.name, "shuffle", *block)
        parts = [(file, shuffle(table, groups, random), groups) for file, table, groups in parts]
        order = random.permutation(len(order))
    for file, table, _ in parts:
        file.append(table)
    files.matrix.append(cells.ids[order], cells.counts[order])


def _add(totals: Totals, tissue: Tissue, cells: Cells) -> None:
    totals.n_nuclei += len(cells.nuclei.cell)
    totals.n_transcripts += int(cells.counts.sum())
    totals.area_um2 += float(cells.outlines.area_um2().sum())
    totals.near_senders += int(describe.responds(cells).sum())
    used = np.arange(cells.outlines.xy_um.shape[1]) < cells.outlines.sizes[:, None]
    outside = ((cells.outlines.xy_um < 0) | (cells.outlines.xy_um > tissue.plan.extent_um)).any(axis=2) & used
    totals.cut_by_border += int(outside.any(axis=1).sum())
