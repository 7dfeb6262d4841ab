"""H&E records beside the morphology's: same keys, three channels, no genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.core.hashing import hash_file
from mistline.data import open_dataset
from mistline.store.codec import encode
from mistline.store.manifest import read_manifest, write_manifest
from mistline.store.shard import ShardWriter
from tests.unit.data.conftest import SCALES

NONE = np.empty(0, np.uint16)


def _write_he(root: Path, slide: str, covered: np.ndarray | None = None) -> dict:
    """Write the H&E shards of a slide; red is the key modulo 251, green 100, blue the scale's place."""
    here = root / "slides" / slide / "he"
    scales = {}
    for number, scale in enumerate(SCALES):
        index = pd.read_parquet(root / "slides" / slide / "shards" / f"{scale['name']}.parquet")
        folder = here / "shards" / scale["name"]
        with ShardWriter(folder, 10_000, 0.0002) as writer:
            for key, side in enumerate(index["side_px"]):
                planes = [np.full((side, side), value, np.uint8) for value in (key % 251, 100, number)]
                writer.put(encode(np.stack(planes), NONE, NONE, key))
        files = {
            path.name: {"sha256": hash_file(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())
        }
        scales[scale["name"]] = {"shards": {"path": f"../slides/{slide}/he/shards/{scale['name']}", "files": files}}
    entry = {"image": f"../slides/{slide}/he/image.ome.zarr", "scales": scales}
    if covered is not None:
        cells = pd.read_parquet(root / "slides" / slide / "cells.parquet")
        path = here / "coverage.parquet"
        write_parquet(path, pd.DataFrame({"cell_id": cells["cell_id"], "covered": covered}))
        entry["coverage"] = {"path": f"../slides/{slide}/he/coverage.parquet", "sha256": hash_file(path)}
    return entry


@pytest.fixture
def stained(own: Path) -> Path:
    """A dataset whose first slide has an H&E that shows all but its first 40 cells."""
    return _seal_with_he(own, {"s1": np.arange(240) >= 40})


def _seal_with_he(root: Path, covered: dict[str, np.ndarray | None]) -> Path:
    path = root / "dataset" / "manifest.json"
    content = {key: value for key, value in read_manifest(path).content.items() if key != "version"}
    content["slides"] = [
        entry | ({"he": _write_he(root, entry["slide"], covered[entry["slide"]])} if entry["slide"] in covered else {})
        for entry in content["slides"]
    ]
    write_manifest(path, content)
    return root


def test_images_are_the_stain_s_and_genes_the_morphology_s(stained):
    he = open_dataset(stained, slides=["s1"], images="he", image_size=12, genes="dense")
    plain = open_dataset(stained, slides=["s1"], image_size=12, genes="dense")
    assert he.channels == ("red", "green", "blue")
    assert plain.channels == ("DAPI",)
    batch, expected = he.__getitems__([0, 3, 199]), plain.__getitems__([40, 43, 239])
    assert batch.key == expected.key
    assert batch.image.shape == (3, 3, 12, 12)
    assert batch.image[:, :, 5, 5].tolist() == [[40, 100, 0], [43, 100, 0], [239, 100, 0]]
    assert torch.equal(batch.genes, expected.genes)
    assert torch.equal(batch.side_um, expected.side_um)


@pytest.mark.parametrize("arguments", [{"genes": None}, {"image_size": None}, {"genes": None, "image_size": None}])
def test_images_and_genes_can_be_left_out(stained, arguments):
    batch = open_dataset(stained, slides=["s1"], images="he", **arguments).__getitems__([5, 100])
    assert (batch.image is None) == ("image_size" in arguments)
    assert (batch.gene_index is None) == ("genes" in arguments)


def test_cells_beyond_the_stain_are_left_out_and_said(stained, caplog):
    with caplog.at_level("INFO", logger="mistline.data"):
        dataset = open_dataset(stained, slides=["s1"], images="he")
    assert len(dataset) == 200
    assert "slide s1: 40 records lie beyond the H&E and are left out" in caplog.text
    cells = pd.read_parquet(stained / "slides/s1/shards/cell.parquet")
    niches = open_dataset(stained, slides=["s1"], scale="niche", images="he", genes=None)
    assert set(niches.__getitems__(range(len(niches))).record_id) == set(cells["niche_id"][40:])


def test_ragged_batches_context_and_workers(stained):
    dataset = open_dataset(
        stained, slides=["s1"], images="he", context=["niche"], image_size={"cell": "native", "niche": 8}
    )
    for batch in dataset.loader(64, num_workers=2):
        small = batch.resized(10)
        assert small.image.shape == (len(batch), 3, 10, 10)
        assert torch.equal(small.image[:, 1], torch.full((len(batch), 10, 10), 100, dtype=torch.uint8))
        niche = batch.context["niche"]
        assert niche.tiles.image[:, 2].unique().tolist() == [1]
        found = np.array(niche.tiles.record_id)[niche.row.numpy()]
        assert found.tolist() == list(batch.tiles["niche"])


def test_a_stain_without_coverage_shows_everything(own):
    root = _seal_with_he(own, {"s1": None, "s2": None})
    assert len(open_dataset(root, images="he")) == 480


def test_a_slide_without_stain_is_named(stained):
    with pytest.raises(ConfigError, match="slide s2 has no H&E image; choose slides that have one"):
        open_dataset(stained, images="he")
    with pytest.raises(ConfigError, match="images: unknown 'h&e'; did you mean he"):
        open_dataset(stained, images="h&e")


def test_a_damaged_stain_names_its_own_shard(stained):
    folder = stained / "slides/s1/he/shards/cell"
    for path in folder.iterdir():
        path.chmod(0o644)
    with ShardWriter(folder, 0, 0.1) as writer:
        writer.put(encode(np.zeros((3, 8, 8), np.uint8), NONE, NONE, 0))
    with pytest.raises(InputError, match=r"he.shards.cell: the shards hold 1 records, their index 240"):
        open_dataset(stained, slides=["s1"], images="he")[0]


def test_the_stain_is_staged_with_the_genes(stained, tmp_path):
    wanted = {"slides": ["s1"], "images": "he", "image_size": 9}
    staged = open_dataset(stained, **wanted, scratch=tmp_path / "scratch")
    assert len([path for path in (tmp_path / "scratch/mistline-shards").iterdir() if path.is_dir()]) == 2
    assert torch.equal(staged[7].image, open_dataset(stained, **wanted)[7].image)
