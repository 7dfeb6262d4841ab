from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.stages import pair_cells
from mistline.store.latents import Encoded, LatentOrigin, LatentWriter
from mistline.store.pairs import COLUMNS, best_of_targets, read_pairs, read_states
from tests.unit.data.conftest import Slide, build, gene_names

SETTINGS = {
    "condition": "spatia", "autoencoder": "vae", "label": "type", "niche": "region", "iterations": 20,
    "transitions": [["type 0", "type 1"], ["type 2", "type 3"]],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides, the second without labels and with fewer genes."""
    slides = [Slide("s1", "d1", n=500), Slide("s2", "d2", genes=gene_names(28, 2), labels=False)]
    return build(tmp_path_factory.mktemp("paired") / "results", slides)


def run(root: Path, to: Path, slide: str = "s1", latents: Path | None = None, **settings) -> pd.DataFrame:
    pair_cells.run(
        manifest=root / "dataset/manifest.json",
        slide=slide,
        cells=root / f"slides/{slide}/cells.parquet",
        counts=root / f"slides/{slide}/counts.h5ad",
        splits=root / f"dataset/splits/{slide}.parquet",
        pairs=to,
        params=json.dumps({**SETTINGS, **settings}),
        seed=0,
        latents=latents,
    )
    return pd.read_parquet(to)


def test_pairs_are_of_the_two_states_of_one_tile_and_one_split(root, tmp_path):
    found = run(root, tmp_path / "s1.parquet")
    assert tuple(found) == COLUMNS
    assert set(found["split"]) >= {"train", "test"}
    cells = pd.read_parquet(root / "slides/s1/cells.parquet")
    cells["tile"] = pd.read_parquet(root / "slides/s1/shards/cell.parquet")["region_id"]
    cells["split"] = pd.read_parquet(root / "dataset/splits/s1.parquet")["split"]
    of = cells.set_index("cell_id")
    for number, side in enumerate(("control_id", "target_id")):
        own = of.loc[found[side]]
        np.testing.assert_array_equal(own["tile"], found["group"])
        np.testing.assert_array_equal(own["split"], found["split"])
        assert own["label_type"].tolist() == [name.split(" -> ")[number] for name in found["transition"]]
    assert found["confidence"].between(0, 1, inclusive="right").all()
    told = json.loads((tmp_path / "s1.parquet.meta.json").read_text())
    assert (told["seed"], told["params"]["slide"]) == (0, "s1")
    best = best_of_targets(found)
    assert len(best) == found["target_id"].nunique() < len(found)
    assert best["confidence"].sum() == pytest.approx(found.groupby("target_id")["confidence"].max().sum())


def test_the_same_settings_give_the_same_bytes(root, tmp_path):
    for name in ("a", "b"):
        run(root, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_only_encoded_cells_are_paired_where_their_folder_is_given(root, tmp_path):
    index = pd.read_parquet(root / "slides/s1/shards/cell.parquet")
    index["split"] = pd.read_parquet(root / "dataset/splits/s1.parquet")["split"]
    kept = index.iloc[::2].assign(row=index.index[::2])
    n = len(kept)
    origin = LatentOrigin(0, "a", "c", "d", 16, ((True,) * 4,) * 2)
    arrays = [np.zeros((n, *shape), dtype=np.float32) for shape in ((1, 2, 2), (1, 2, 2), (2, 4, 3))]
    with LatentWriter(tmp_path / "latents", origin, n) as writer:
        writer.put(kept, Encoded(*arrays))
    found = run(root, tmp_path / "s1.parquet", latents=tmp_path / "latents", niche="type", label="type", min_cells=1)
    assert found.empty  # no cell of a niche of one type has another
    found = run(root, tmp_path / "s1.parquet", latents=tmp_path / "latents", min_cells=1)
    assert len(found)
    assert {*found["control_id"], *found["target_id"]} <= set(kept["cell_id"])
    with pytest.raises(InputError, match="latents of another slide than s2"):
        run(root, tmp_path / "s2.parquet", "s2", latents=tmp_path / "latents")


def test_a_slide_without_the_states_gives_an_empty_table_and_a_cohort_of_such_slides_an_error(root, tmp_path, caplog):
    paths = [tmp_path / "s1.parquet", tmp_path / "s2.parquet"]
    with caplog.at_level(logging.WARNING, "mistline.pairs"):
        assert run(root, paths[0], transitions=[["type 0", "no such type"]]).empty
        assert run(root, paths[1], "s2", niche="type").empty
    assert "s1: no pair; values of type are: type 0, type 1, type 2, type 3, type 4" in caplog.text
    assert read_states(paths[1]).values == {}
    with pytest.raises(InputError, match="column type: its values are type 0, type 1, type 2, type 3, type 4"):
        read_pairs(paths)
    with pytest.raises(InputError, match=r"on any of 1 slides .*none of the slides has this column"):
        read_pairs(paths[1:])
    run(root, paths[0])
    assert set(read_pairs(paths)["slide"]) == {"s1"}


def test_bad_settings_are_told_in_one_sentence(root, tmp_path):
    to = tmp_path / "pairs.parquet"
    with pytest.raises(InputError, match=r"niche 'tile' is neither a scale .*choose one of niche, region, type, size"):
        run(root, to, niche="tile")
    with pytest.raises(ConfigError, match="a transition leads from type 1 to itself"):
        run(root, to, transitions=[["type 1", "type 1"]])
    with pytest.raises(ConfigError, match="transitions"):
        run(root, to, transitions=[])
    with pytest.raises(ConfigError, match="min_cells 9 is above max_cells 8"):
        run(root, to, min_cells=9, max_cells=8)
    with pytest.raises(InputError, match="it has no slide s9; choose one of s1, s2"):
        run(root, to, slide="s9")
    assert not to.exists()
    to.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not a table of pairs; remove it and run pair_cells"):
        read_pairs([to])
