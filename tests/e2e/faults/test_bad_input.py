"""Bundles that contradict themselves or hold what no image or count can be: one sentence each, nothing left behind."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest

from tests.e2e.faults import spoil
from tests.e2e.faults.spoil import FOCUS, MATRIX, ZSTACK, Spoil, column, experiment, matrix, nth, table


@dataclass(frozen=True)
class Case:
    """One way to go bad.

    Args:
        name: as the table prints it.
        change: how the bundle is changed.
        stage: the first that refuses.
        where: file, from the bundle's folder on.
        says: what is wrong; remedy, as a pattern.
        params: stage -> settings.
    """

    name: str
    change: Spoil
    stage: str
    where: str
    says: str
    params: dict[str, str] = field(default_factory=dict)


def _stretched(pixels: np.ndarray) -> list[np.ndarray]:
    return [*pixels[:-1], pixels[-1][:-64]]


def _colour(pixels: np.ndarray) -> list[np.ndarray]:
    return [np.stack([plane] * 3, axis=-1) for plane in pixels]


STAINS = {"project-image": '{"channels": ["DAPI", "18S"]}', "check-bundle": '{"channels": ["DAPI", "18S"]}'}
AS_WRITTEN = "use the (table|matrix|file|ids) as the instrument wrote (it|them)"
IMAGES = [
    *(
        Case(
            f"z-stack of {kind}", spoil.typed(kind), "check-bundle", ZSTACK,
            f", page 0: pixels of type {kind}, not uint8 or uint16; use the instrument's image",
        )
        for kind in ("float32", "int16", "uint32")
    ),
    Case(
        "z-stack in colour", spoil.image(ZSTACK, _colour, photometric="rgb"), "check-bundle", ZSTACK,
        ", page 0: a grey plane has two axes, not YXS; use the stain's own grey image",
    ),
    Case(
        "one z plane smaller than the others", spoil.image(ZSTACK, _stretched), "check-bundle", ZSTACK,
        r", page 1: a plane of .* px beside one of .*; download it again",
    ),
    Case(
        "a stain of another shape than DAPI", spoil.image(FOCUS.format(2), lambda p: p[:, 32:]), "check-bundle",
        FOCUS.format(2), r": channel 18S has \(\d+, \d+\) px, DAPI has \(\d+, \d+\); use images of one run", STAINS,
    ),
    Case(
        "a stain as float32", spoil.image(FOCUS.format(2), lambda p: p.astype(np.float32)), "check-bundle",
        FOCUS.format(2), ", page 0: pixels of type float32, not uint8 or uint16; use the instrument's image", STAINS,
    ),
    Case(
        "an image without any contrast", spoil.image(ZSTACK, lambda p: np.full_like(p, 7)), "project-image", ZSTACK,
        ", channel DAPI: every pixel has the value 7; download the image again, or leave the slide out",
    ),
    Case(
        "a stain that the bundle lacks", lambda bundle: None, "check-bundle", "",
        ": no channel 'CD99'; the bundle has DAPI, .*; correct image.channels or leave the slide out",
        {"check-bundle": '{"channels": ["CD99"]}'},
    ),
    Case(
        "pixel size that the image contradicts", experiment(pixel_size=0.3), "check-bundle", ZSTACK,
        ": its OME-XML says 0.2125 um a pixel, experiment.xenium says 0.3 .*; use the full-resolution image",
    ),
]  # fmt: skip
COUNTS = [
    *(
        Case(
            f"a count that is {value:g}", matrix("data", nth(value)), "read-cells", MATRIX,
            rf": the count of \S+ in cell \S+ is {value:g}, not a whole number from 0 to 2147483647; use the raw",
        )
        for value in (float("nan"), -1, -0.5, 2.5, float("inf"))
    ),
    Case(
        "all counts normalised", matrix("data", lambda v: v / 3), "read-cells", MATRIX,
        r": the count of \S+ in cell \S+ is 0\.33\d*, not a whole number .* \(\d+ such entries at least\); use the raw",
    ),
    Case(
        "a gene with an empty id, no gene_panel.json", matrix("features/id", nth(b""), panel=False), "check-bundle",
        MATRIX, ": 1 of 100 genes have no id, such as the one with the symbol .*; add gene_panel.json of the run",
    ),
    Case(
        "a gene with the id NaN, no gene_panel.json", matrix("features/id", nth(b"NaN"), panel=False), "check-bundle",
        MATRIX, ": 1 of 100 genes have no id, such as the one with the symbol .*; add gene_panel.json of the run",
    ),
    Case(
        "two genes with one id", matrix("features/id", lambda v: np.where(np.arange(len(v)) == 1, v[0], v)),
        "check-bundle", MATRIX, f": 1 gene ids occur more than once, such as ENSG90000000000; {AS_WRITTEN}",
    ),
    Case(
        "no feature that is a gene", matrix("features/feature_type", lambda v: np.full_like(v, b"Blank")),
        "check-bundle", MATRIX, f': no feature has the type "Gene Expression"; {AS_WRITTEN}',
    ),
]  # fmt: skip
CELLS = [
    Case(
        "no cell in cells.parquet", table("cells", lambda t: t[:0]), "check-bundle", "cells.parquet",
        ": the table holds no cell; check the run: its segmentation found nothing",
    ),
    Case(
        "no cell in the matrix", spoil.without_cells(80), "check-bundle", MATRIX,
        ": the matrix holds no cell; check the run: its segmentation found nothing",
    ),
    Case(
        "no cell left by cells.min_counts", lambda bundle: None, "read-cells", "",
        r": no cell remains \(below_min_counts 80\); lower cells.min_counts or leave it out",
        {"read-cells": '{"min_counts": 1000000}'},
    ),
    Case(
        "no polygon at all", table("cell_boundaries", lambda t: t[:0]), "check-bundle", "cell_boundaries.parquet",
        ": the table holds no polygon; check the run: its segmentation found nothing",
    ),
    Case(
        "a cell twice", table("cells", lambda t: t.take([0, *range(80)])), "check-bundle", "cells.parquet",
        ": 1 cell ids occur more than once, such as .*; use the file as the instrument wrote it",
    ),
    Case(
        "a centroid that is NaN", table("cells", column("x_centroid", lambda v: [float("nan"), *v[1:]])),
        "check-bundle", "cells.parquet", f": x_centroid is no finite number for 1 cells, such as .*; {AS_WRITTEN}",
    ),
    Case(
        "cells.parquet without cell_area", table("cells", lambda t: t.drop_columns(["cell_area"])), "check-bundle",
        "cells.parquet", rf": column cell_area is missing \(there are .*\); {AS_WRITTEN}",
    ),
    Case(
        "x and y exchanged in the tables",
        table("cells", lambda t: t.rename_columns({"x_centroid": "y_centroid", "y_centroid": "x_centroid"})),
        "check-bundle", ZSTACK, ": x and y look swapped: .*; use cells.parquet and the image as the instrument wrote",
    ),
    Case(
        "matrix with a cell that cells.parquet lacks", matrix("barcodes", nth(b"zzzzzzzz-1")), "read-cells", "",
        ", feature matrix: 1 barcodes are no cell of cells.parquet, such as .*; use the matrix and the tables of",
    ),
    Case(
        "cells.parquet with cells that the matrix lacks", spoil.without_cells(40), "read-cells", "",
        ": 40 of 80 cells lack a usable polygon, counts or image .*, more than cells.max_excluded_share .*; check that",
    ),
    Case(
        "matrix and cells.parquet with other totals", matrix("data", lambda v: v + 1), "read-cells", "",
        ", feature matrix: gene counts of 80 of 80 cells differ from transcript_counts in cells.parquet, .*; use the",
    ),
    Case(
        "polygons of another run",
        table("cell_boundaries", column("cell_id", lambda v: [f"zz{name[2:]}" for name in v])), "read-cells",
        "cell_boundaries.parquet", ": polygons of 80 ids that are no cell of the bundle, such as .*; use the table",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", [*IMAGES, *COUNTS, *CELLS], ids=lambda case: case.name)
def test_one_sentence_and_nothing_left(case, raw, told):
    case.change(raw.bundle)
    stage, ended = raw.refused(case.params)
    assert stage == case.stage, ended.output
    assert ended.code == 3
    where = f"bundle/{case.where}" if case.where else "bundle"
    shown = told(case.name, ended)
    assert re.match(re.escape(where) + case.says, shown), shown


def _warnings(raw) -> str:
    ended = raw.run("check-bundle")
    assert ended.code == 0, ended.output
    assert raw.run("read-cells").code == 0
    return ended.output


def _gene_ids(raw) -> list[str]:
    with h5py.File(raw.folder / "counts.h5ad") as file:
        return list(file["var/gene_id"].asstr()[()])


def test_a_panel_of_symbols_alone_is_taken_with_a_warning(raw, row):
    symbols = []
    with h5py.File(raw.bundle / MATRIX) as file:
        symbols = list(file["matrix/features/name"].asstr()[:100])
    matrix("features/id", lambda v: np.where(np.arange(len(v)) < 100, b"", v), panel=False)(raw.bundle)
    said = "genes are known by symbol only: they meet no gene of a slide that has Ensembl ids; add gene_panel.json"
    assert said in _warnings(raw)
    assert _gene_ids(raw) == sorted(symbols)
    row("bad input", "no gene has an id, no gene_panel.json", 0, f"works, with a warning: {said} ...")


def test_an_id_that_the_panel_knows_is_filled_in_from_it(raw, row):
    before = _gene_ids_of_matrix(raw)
    matrix("features/id", nth(b""))(raw.bundle)
    _warnings(raw)
    assert _gene_ids(raw) == before
    row("bad input", "a gene with an empty id that gene_panel.json knows", 0, "works: the id is the panel's")


def test_a_custom_target_is_taken_with_a_warning(raw, row):
    matrix("features/id", nth(b"eGFP"), panel=False)(raw.bundle)
    said = "1 of 100 genes have no Ensembl id, such as 'eGFP'; nothing, if they are custom targets"
    assert said in _warnings(raw)
    assert "eGFP" in _gene_ids(raw)
    row("bad input", "a gene whose id is no Ensembl id", 0, f"works, with a warning: {said} ...")


def _gene_ids_of_matrix(raw) -> list[str]:
    with h5py.File(raw.bundle / MATRIX) as file:
        return sorted(file["matrix/features/id"].asstr()[:100])
