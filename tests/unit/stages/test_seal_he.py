"""Sealing a cohort of which one slide has an H&E: proven, named, told; and nothing changes where none has one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.files import read_json, write_json, write_parquet
from mistline.core.hashing import hash_file
from mistline.mist.he import CHANNELS
from mistline.mist.he_crops import squares_of
from mistline.mist.pyramid import Description, LevelWriter, create
from mistline.stages import cut_he, seal_dataset
from mistline.store.codec import encode
from mistline.store.reader import ShardReader
from mistline.store.shard import ShardWriter
from tests.unit.data.conftest import METACELLS, PIXEL_UM, SCALES, SLIDES, SPLITS, build

SHAPE = (7 * 64, 8 * 64)


def seal(root: Path, with_he: tuple[str, ...] = ("s1",)) -> dict:
    entries = [
        {"slide": s.name, "donor": s.donor, "tissue": s.tissue, "disease": "none"}
        | ({"he": True} if s.name in with_he else {})
        for s in SLIDES
    ]
    seal_dataset.run(
        root=root, slides_json=json.dumps(entries), manifest=root / "dataset/manifest.json",
        genes=root / "dataset/genes.parquet", card=root / "dataset/card.md", scales=json.dumps(SCALES),
        params=json.dumps({"seed": 0, "splits": SPLITS, "metacells": METACELLS}),
    )  # fmt: skip
    return read_json(root / "dataset/manifest.json")


def add_he(folder: Path) -> None:
    """Write what register_he and cut_he leave."""
    write_json(folder / "image.json", read_json(folder / "image.json") | {"shape_px": list(SHAPE)})
    index = pd.read_parquet(folder / "shards/cell.parquet")
    centre = index[["y_um", "x_um"]].to_numpy() / PIXEL_UM
    index[["row_px", "col_px"]] = np.floor(centre - index[["side_px"]].to_numpy() / 2).astype(np.int64)
    write_parquet(folder / "shards/cell.parquet", index)
    pixels = np.random.default_rng(0).integers(0, 255, (3, *SHAPE)).astype(np.uint8)
    arrays = create(folder / "he/image.ome.zarr", Description("s1", CHANNELS, SHAPE, PIXEL_UM))
    for channel in range(3):
        writer = LevelWriter(arrays, channel)
        writer.append(pixels[channel])
        writer.finish()
    fit = {"correlation": 0.91, "offset_um": [0.3, 0.4]}
    write_json(
        folder / "he/image.json",
        {
            "slide": "s1", "shape_px": list(SHAPE), "pixel_size_um": PIXEL_UM, "warnings": ["a remark"],
            "source": {"alignment": "keypoints"}, "cells": {"n": len(index), "not_covered": 1},
            "check": {"dapi": fit, "landmarks": {"n": 5, "error_um": 1.23}},
        },
    )  # fmt: skip
    covered = np.arange(len(index)) > 0
    write_parquet(folder / "he/coverage.parquet", pd.DataFrame({"cell_id": index["cell_id"], "covered": covered}))
    for scale in SCALES:
        name = scale["name"]
        cut_he.run(
            image=folder / "he/image.ome.zarr", index=folder / f"shards/{name}.parquet",
            shards=folder / f"he/shards/{name}", params="{}",
        )  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = build(tmp_path_factory.mktemp("sealed with an h&e") / "results")
    add_he(root / "slides/s1")
    return root


@pytest.fixture
def own(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "results"))


def test_the_manifest_names_the_h_and_e_of_the_slide_that_has_it(tree):
    content = seal(tree)
    first, second = content["slides"]
    assert "he" not in second
    named = first["he"]
    folder = tree / "dataset"
    assert (folder / named["image"]).resolve() == (tree / "slides/s1/he/image.ome.zarr").resolve()
    for key in ("image_summary", "coverage"):
        assert hash_file(folder / named[key]["path"]) == named[key]["sha256"]
    assert set(named["scales"]) == {"cell", "niche", "region"}
    for name, described in named["scales"].items():
        shards = described["shards"]
        assert set(shards) == set(first["scales"][name]["shards"])
        for file, stated in shards["files"].items():
            assert hash_file(folder / shards["path"] / file) == stated["sha256"]
    assert {"register_he", "cut_he"} <= set(content["code"])


def test_a_cohort_without_h_and_e_is_sealed_as_before(own):
    before = seal(own, with_he=())
    shutil.rmtree(own / "slides/s1/he")
    assert seal(own, with_he=()) == before
    assert set(before["code"]) == set(seal_dataset.STAGES)
    assert "H&E" not in (own / "dataset/card.md").read_text()
    assert "he" not in before["slides"][0]


def test_the_card_tells_how_well_it_is_aligned(tree):
    seal(tree)
    card = (tree / "dataset/card.md").read_text()
    assert "## H&E" in card
    assert "| s1 | keypoints | 0.91 | 0.5 | 1.2 | 1 | a remark |" in card


def rewrite(folder: Path, change: Callable[[int, np.ndarray], np.ndarray | None]) -> None:
    reader = ShardReader(folder)
    images = [reader[key].image for key in range(len(reader))]
    folder.rename(folder.with_name("old"))
    empty = np.zeros(0, np.uint16)
    with ShardWriter(folder, 10_000, 1.0) as writer:
        for key, image in enumerate(images):
            made = change(key, image)
            if made is not None:
                writer.put(encode(np.ascontiguousarray(made), empty, empty, writer.n_records))


def swap_first_two(key: int, image: np.ndarray) -> np.ndarray:
    return np.roll(image, 1, axis=1) if key == 0 else image


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a record less": (
        lambda he: rewrite(he / "shards/cell", lambda key, image: None if key == 5 else image),
        "slide s1, H&E, cell: the shards hold 239 records, the index lists 240",
    ),
    "one channel": (
        lambda he: rewrite(he / "shards/niche", lambda key, image: image[:1]),
        "slide s1, H&E, niche: the record of key 0 is (1, 32, 32) with 0 genes, not 3 colours of 32 px and none",
    ),
    "another square": (
        lambda he: rewrite(he / "shards/region", swap_first_two),
        "slide s1, H&E, region: the record of key 0 is not its square of the registered H&E",
    ),
    "another grid": (
        lambda he: write_json(he / "image.json", read_json(he / "image.json") | {"shape_px": [10, 20]}),
        "slide s1, H&E, image: its shape_px is [10, 20], the DAPI image's [448, 512]",
    ),
    "other cells": (
        lambda he: write_parquet(he / "coverage.parquet", pd.read_parquet(he / "coverage.parquet")[::-1]),
        "slide s1, H&E, coverage: its cells are not those of cells.parquet",
    ),
    "another count": (
        lambda he: write_parquet(
            he / "coverage.parquet", pd.read_parquet(he / "coverage.parquet").assign(covered=True)
        ),
        "slide s1, H&E, coverage: 0 cells are not covered, its image.json says 1",
    ),
    "no shards": (lambda he: shutil.rmtree(he / "shards/cell"), "no such file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_contradiction_is_named_and_nothing_is_sealed(own, damage):
    (own / "dataset/manifest.json").unlink()
    change, sentence = DAMAGE[damage]
    change(own / "slides/s1/he")
    with pytest.raises(InputError) as raised:
        seal(own)
    assert sentence in str(raised.value)
    assert not (own / "dataset/manifest.json").exists()


def test_squares_of_cells_and_of_a_grid():
    cells = pd.DataFrame({"row_px": [-3], "col_px": [7], "side_px": [20]})
    assert squares_of(cells).tolist() == [[-3, 7, 20]]
    assert squares_of(pd.DataFrame({"row": [2], "col": [1], "side_px": [32]})).tolist() == [[64, 32, 32]]
