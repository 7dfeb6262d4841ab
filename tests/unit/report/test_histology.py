"""What the page shows of an H&E, and that nothing changes where there is none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mistline.core.files import write_json
from mistline.mist.pyramid import Description, LevelWriter, create
from mistline.report.histology import _outlined
from mistline.stages.report import run
from mistline.store.codec import encode
from mistline.store.shard import ShardWriter
from tests.unit.report.conftest import Made
from tests.unit.report.tree import PIXEL_UM, SHAPE, write_tree

FIT = {
    "correlation": 0.91, "elsewhere": 0.2, "offset_um": [3.0, 4.0], "local_um": [1.0, 2.5], "n_windows": 7,
    "n_nuclei": 1234,
}  # fmt: skip


def add_he(folder: Path) -> None:
    """Write what register_he and cut_he leave: a plain pink image."""
    arrays = create(folder / "he/image.ome.zarr", Description("s1", ("red", "green", "blue"), SHAPE, PIXEL_UM))
    for channel, value in enumerate((230, 150, 190)):
        writer = LevelWriter(arrays, channel)
        writer.append(np.full(SHAPE, value, dtype=np.uint8))
        writer.finish()
    write_json(
        folder / "he/image.json",
        {
            "check": {"dapi": FIT, "other_readings": {"mirrored": 0.31}, "landmarks": None},
            "source": {"alignment": "matrix"}, "cells": {"n": 40, "not_covered": 2}, "covered_share": 0.97,
            "warnings": ["<b>careful</b>"],
        },
    )  # fmt: skip
    index, empty = pd.read_parquet(folder / "shards/cell.parquet"), np.zeros(0, np.uint16)
    with ShardWriter(folder / "he/shards/cell", 10_000, 1.0) as writer:
        for key, side in enumerate(index["side_px"].tolist()):
            writer.put(encode(np.full((3, side, side), 200, dtype=np.uint8), empty, empty, key))


@pytest.fixture(scope="module")
def with_he(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report with h&e")
    tree = write_tree(folder / "results", with_scores=False)
    add_he(tree.root / "slides/s1")
    tree.entries[0]["he"] = True
    run(**tree.options(folder / "report"))
    return Made(tree, folder / "report")


def test_the_check_is_told_in_a_table_and_a_sentence(with_he):
    with (with_he.out / "tables/he.csv").open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["slide"] for line in lines] == ["s1"]
    line = lines[0]
    assert (line["correlation"], line["elsewhere"], line["best_fit_µm_away"]) == ("0.91", "0.31", "5.0")
    assert (line["places_µm"], line["landmarks_µm"], line["cells_not_covered"]) == ("2.5", "", "2")
    assert "Haematoxylin and DAPI correlate by 0.91" in with_he.page
    assert "(7 windows, 1,234 nuclei)" in with_he.page
    assert "It covers 97.0% of the image." in with_he.page


def test_text_is_escaped(with_he):
    assert "&lt;b&gt;careful" in with_he.page
    assert "<b>careful" not in with_he.page


def test_there_are_pictures_of_the_slide_that_has_one(with_he):
    for name in ("he_alignment", "he_cells"):
        picture = Image.open(with_he.out / "figures" / f"s1.{name}.png").convert("RGB")
        pixels = np.asarray(picture).reshape(-1, 3).astype(int)
        assert len(np.unique(pixels, axis=0)) > 50
        assert not (with_he.out / "figures" / f"s2.{name}.png").exists()
    pink = (np.abs(pixels - 200).max(axis=1) < 3).mean()
    assert pink > 0.02


def test_without_an_h_and_e_the_page_does_not_speak_of_it(made):
    assert "H&amp;E" not in made.page
    assert not (made.out / "tables/he.csv").exists()


def test_outlines_lie_around_what_is_bright():
    dapi = np.zeros((100, 100), dtype=np.uint8)
    dapi[30:60, 40:70] = 250
    shown = _outlined(np.full((100, 100, 3), 255, dtype=np.uint8), dapi)
    drawn = np.argwhere((shown != 255).any(axis=2)) * 100 / 480
    assert drawn.min(axis=0) == pytest.approx((30, 40), abs=1.5)
    assert drawn.max(axis=0) == pytest.approx((60, 70), abs=1.5)
    assert not ((drawn > (35, 45)) & (drawn < (55, 65))).all(axis=1).any()
