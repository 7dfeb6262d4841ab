"""The viewer's data: what was put in comes out, alike on all slides, within the budget; nothing breaks out of it."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mistline.config.report import Report
from mistline.core.errors import InputError
from mistline.core.files import read_json, write_json
from mistline.report import viewer
from mistline.report.sources import open_slide
from mistline.report.viewer_columns import colours_of
from mistline.report.viewer_pack import Blocks, json_text, quantise
from mistline.store.absent import write_absent
from mistline.store.embeddings import Origin
from mistline.store.predictions import write_predictions
from mistline.store.reader import ShardReader
from tests.unit.report.tree import HOSTILE, N_CELLS, write_tree

SETTINGS = Report(viewer_genes=2, viewer_markers=("g00",), viewer_crops=7)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("viewer") / "results")


def sources(tree):
    grids = ["niche", "region"]
    return [open_slide(tree.root, tree.root / "dataset/splits", entry, grids) for entry in tree.entries]


def build(tree, settings=SETTINGS, **options):
    return viewer.build(sources(tree), settings, 0, tree.version, **options)


def about(found):
    """Return the slides' entries, columns with the names and colours they refer to."""
    told = json.loads(str(found.about))
    for slide in told["slides"]:
        for item in slide["columns"]:
            item |= told["palettes"][item["palette"]] if "palette" in item else {}
    return told["slides"]


def inflated(found, number):
    return zlib.decompress(base64.b64decode(found.blocks[number]))


def codes(found, number, width):
    raw = np.frombuffer(inflated(found, number), np.uint8)
    if width == 1:
        return raw
    low, high = raw.reshape(2, -1)
    return low.astype(int) + 256 * high.astype(int)


def column(found, slide, title):
    entry = next(item for item in about(found)[slide]["columns"] if item["title"] == title)
    return entry, codes(found, entry["block"], entry["bytes"])


def test_places_and_ids_come_back(tree):
    found = build(tree)
    for number, source in enumerate(sources(tree)):
        entry, cells = about(found)[number], pd.read_parquet(source.folder / "cells.parquet")
        assert inflated(found, entry["ids"]).decode().split("\0") == cells["cell_id"].tolist()
        places = codes(found, entry["xy"]["block"], 2).reshape(2, -1).T * entry["xy"]["step"] + entry["xy"]["low"]
        assert np.abs(places - cells[["x_um", "y_um"]].to_numpy()).max() < 1e-3
        assert entry["n"] == entry["n_all"] == N_CELLS


def test_squares_are_exact(tree):
    found = build(tree)
    for number, source in enumerate(sources(tree)):
        entry = about(found)[number]
        xy, squares = entry["xy"], entry["squares"]
        x, y = (
            codes(found, xy["block"], 2).reshape(2, -1) * np.array(xy["step"])[:, None] + np.array(xy["low"])[:, None]
        )
        row, col, side = (
            codes(found, squares["block"], squares["bytes"]).reshape(3, -1) + np.array(squares["low"])[:, None]
        )
        index = pd.read_parquet(source.index("cell"))
        assert (np.floor(y / squares["um_per_px"]) + row == index["row_px"]).all()
        assert (np.floor(x / squares["um_per_px"]) + col == index["col_px"]).all()
        assert (side == index["side_px"]).all()


def test_stored_crops_are_the_records(tree):
    found = build(tree)
    for number, source in enumerate(sources(tree)):
        crops = about(found)[number]["crops"]
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.blocks[crops["block"]]))))
        assert len(crops["places"]) == 7
        for key, (left, top, side) in crops["places"].items():
            wanted = ShardReader(source.shards("cell"))[int(key)].image[0]
            assert wanted.shape == (side, side)
            np.testing.assert_array_equal(sheet[top : top + side, left : left + side, 0], wanted)


def test_patches_of_a_table_are_stored_with_their_side_but_no_image_lies_under_them(tree):
    tables = [replace(slide, image={}, patches={"side_um": 12.5}) for slide in sources(tree)]
    found = viewer.build(tables, SETTINGS, 0, tree.version)
    for slide in about(found):
        assert (slide["layers"], slide["squares"]) == ([], None)
        assert (slide["crops"]["side_um"], len(slide["crops"]["places"])) == (12.5, 7)


def test_classes_have_one_colour_on_all_slides_and_missing_is_zero(tree):
    found = build(tree)
    for number, source in enumerate(sources(tree)):
        entry, values = column(found, number, "kind")
        assert entry["names"] == ["</script>", HOSTILE, "A"]
        assert entry["colours"] == list(colours_of(3))
        kinds = pd.read_parquet(source.folder / "cells.parquet")["label_kind"]
        assert [None if code == 0 else entry["names"][code - 1] for code in values] == kinds.tolist()
        split, sides = column(found, number, "split")
        assert {split["names"][code - 1] for code in sides} == {["train", "test"][number]}


def test_numbers_come_back(tree):
    found = build(tree)
    cells = pd.read_parquet(sources(tree)[0].folder / "cells.parquet")
    for title, name, error in (
        ("counts", "n_counts", 0),
        ("genes", "n_genes", 0),
        ("cell area (µm²)", "cell_area_um2", 3e-3),
    ):
        entry, values = column(found, 0, title)
        assert np.abs(entry["low"] + (values - 1) * entry["step"] - cells[name]).max() <= error


def test_genes_are_the_markers_and_the_most_variable(tree):
    import anndata

    found = build(tree)
    counts = [anndata.read_h5ad(source.folder / "counts.h5ad") for source in sources(tree)]
    logged = np.log1p(np.concatenate([item.X.toarray() for item in counts]).astype(float))
    most = np.argsort(-logged.var(axis=0))[:2]
    wanted = sorted(counts[0].var["symbol"].iloc[[0, *most]].tolist(), key=str.lower)
    titles = [item["title"] for item in about(found)[0]["columns"] if item["group"] == "Genes"]
    assert titles == wanted
    entry, values = column(found, 1, titles[-1])
    place = counts[1].var["symbol"].tolist().index(titles[-1])
    np.testing.assert_array_equal(entry["low"] + (values - 1) * entry["step"], counts[1].X.toarray()[:, place])


def test_an_unknown_marker_is_refused(tree):
    with pytest.raises(InputError, match="viewer_markers names gene 'nowhere'"):
        build(tree, Report(viewer_markers=("nowhere",)))


def test_nothing_can_break_out(tree):
    found = build(tree)
    assert re.search(r"[<>&']", str(found.about)) is None
    assert all(re.fullmatch(r"[A-Za-z0-9+/]+=*", text) for text in found.blocks)


def predictions(tree, folder, origin_version, part="test"):
    path = folder / "annotation" / "random_split" / "net.seed-0.parquet"
    ids = pd.read_parquet(tree.root / "slides/s1/cells.parquet")["cell_id"][:4]
    table = pd.DataFrame({"slide": "s1", "cell_id": ids, "fold": 0, "part": ["test", "test", part, "val"]})
    table["p_A"], table[f"p_{HOSTILE}"] = [0.9, 0.2, 0.7, 0.8], [0.1, 0.8, 0.3, 0.2]
    write_predictions(path, table, Origin("net", 0, "ab", origin_version))
    return path


def test_predictions_are_of_tested_cells_in_the_colours_of_the_labels(tree, tmp_path):
    found = build(tree, predictions=[predictions(tree, tmp_path, tree.version)])
    entry, values = column(found, 0, "net: annotation, random split")
    assert entry["names"] == column(found, 0, "kind")[0]["names"]
    assert [entry["names"][code - 1] if code else None for code in values[:5]] == ["A", HOSTILE, "A", None, None]
    assert all(item["group"] != "Predictions" for item in about(found)[1]["columns"])  # none was made there


def test_predictions_of_another_dataset_are_refused(tree, tmp_path):
    path = predictions(tree, tmp_path, "f" * 64)
    with pytest.raises(InputError, match="was made from dataset ffffffffffff"):
        build(tree, predictions=[path])


def test_a_method_that_did_not_run_has_no_column(tree, tmp_path):
    path = tmp_path / "annotation/random_split/peer.seed-0.parquet"
    write_absent(path, ["slide", "cell_id"], Origin("peer", 0, "ab", tree.version), "not there")
    assert build(tree, predictions=[path]).blocks == build(tree).blocks


def test_it_is_the_same_twice(tree):
    assert build(tree) == build(tree)


def test_it_stays_within_its_budget_and_says_what_is_left_out(tree):
    whole = build(tree)
    for budget in (*(int(sum(map(len, whole.blocks)) * share) for share in (0.9, 0.4, 0.15)), 1500):
        small = build(tree, budget=budget)
        assert sum(map(len, small.blocks)) <= budget
        entry = about(small)[1]
        told = " ".join(small.notes)
        assert (f"s2: {entry['n']} of 40 cells" in told) == (entry["n"] < 40)
        assert ("s2: no room for the DAPI image" in told) == (entry["layers"][0]["levels"] == [])
    assert entry["n"] < 40
    assert whole.notes == []


def test_slides_share_names_and_colours(tree):
    told = json.loads(str(build(tree).about))
    assert len(told["palettes"]) == len({json.dumps(palette) for palette in told["palettes"]}) == 5
    assert [item.get("palette") for item in told["slides"][0]["columns"]] == [
        item.get("palette") for item in told["slides"][1]["columns"]
    ]


def test_fewer_cells_are_asked_for(tree):
    found = build(tree, Report(viewer_cells=10, viewer_genes=0))
    entry = about(found)[0]
    ids = inflated(found, entry["ids"]).decode().split("\0")
    cells = pd.read_parquet(tree.root / "slides/s1/cells.parquet")["cell_id"].tolist()
    assert len(ids) == len(set(ids)) == 10
    assert [cells.index(name) for name in ids] == sorted(cells.index(name) for name in ids)
    for key, (_, _, side) in entry["crops"]["places"].items():
        record = ShardReader(tree.root / "slides/s1/shards/cell")[cells.index(ids[int(key)])]
        assert record.image.shape[1] == side


def test_a_cohort_without_coordinates_has_no_viewer(tmp_path):
    found = write_tree(tmp_path / "results", n_slides=1)
    path = found.root / "slides/s1/bundle.json"
    write_json(path, read_json(path) | {"has_coordinates": False})
    assert build(found) is None


def test_an_index_of_other_cells_is_refused(tmp_path):
    found = write_tree(tmp_path / "results", n_slides=1)
    path = found.root / "slides/s1/shards/cell.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    with pytest.raises(InputError, match=r"lists 39 cells, cells\.parquet 40"):
        build(found)


@pytest.mark.parametrize(
    ("values", "expected", "step"),
    [([3, 5, 3], [1, 3, 1], 1.0), ([np.nan, 7.0], [0, 1], 1.0), ([np.nan], [0], 1.0), ([0.5, 0.5], [1, 1], 1.0)],
)
def test_codes_by_hand(values, expected, step):
    found = quantise(np.array(values))
    assert found.codes.tolist() == expected
    assert found.step == step


def test_wide_numbers_and_fractions_keep_16_bits():
    assert quantise(np.array([0, 65533])).codes.tolist() == [1, 65534]
    found = quantise(np.linspace(-2, 3, 1000))
    assert found.codes.dtype == np.uint16
    assert (
        np.abs(found.low + (found.codes - 1.0) * found.step - np.linspace(-2, 3, 1000)).max() <= 5 / 65534 / 2 * 1.001
    )


def test_only_small_unsigned_numbers_are_stored():
    with pytest.raises(ValueError, match="int64"):
        Blocks().add_array(np.arange(3))


def test_colours_differ():
    assert len(set(colours_of(200))) > 190
    assert colours_of(16)[:15] == colours_of(15)


def test_json_keeps_what_it_says():
    assert json.loads(str(json_text({"a": HOSTILE}))) == {"a": HOSTILE}
