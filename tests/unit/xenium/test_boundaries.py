from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mistline.core.errors import InputError
from mistline.xenium import tables
from mistline.xenium.boundaries import count_nuclei, read_polygons
from tests.unit.xenium.conftest import make


def _polygons(tmp_path, table, ids):
    path = tmp_path / "cell_boundaries.parquet"
    table.to_parquet(path, index=False)
    return read_polygons(path, pd.Index([str(value) for value in ids]))


def _shape(cell_id, *points):
    return pd.DataFrame([(cell_id, *point) for point in points], columns=["cell_id", "vertex_x", "vertex_y"])


@pytest.mark.parametrize("layout", ["1.0", "3.0"])
def test_boxes_equal_a_group_by(tmp_path, layout):
    bundle = make(layout)
    found = _polygons(tmp_path, bundle.cell_boundaries, bundle.cells["cell_id"])
    grouped = bundle.cell_boundaries.groupby("cell_id", sort=False)
    expected = grouped.agg(
        x0=("vertex_x", "min"), x1=("vertex_x", "max"), y0=("vertex_y", "min"), y1=("vertex_y", "max")
    )
    assert np.array_equal(found.box_um, expected.loc[bundle.cells["cell_id"]].to_numpy(np.float64))
    assert (found.n_vertices == 9).all()
    assert not found.is_flat.any()


def test_order_of_rows_and_size_of_batches_change_nothing(tmp_path, bundle, monkeypatch):
    flat = _shape(bundle.cells["cell_id"][0], (1, 1), (2, 2), (9, 9))
    table = pd.concat([bundle.cell_boundaries[9:], flat], ignore_index=True)
    ids = bundle.cells["cell_id"]
    expected = _polygons(tmp_path, table, ids)
    assert np.flatnonzero(expected.is_flat).tolist() == [0]
    for seed, rows in enumerate((1 << 18, 50, 7, 1)):
        monkeypatch.setattr(tables, "_BATCH_ROWS", rows)
        found = _polygons(tmp_path, table.sample(frac=1, random_state=seed), ids)
        assert np.array_equal(found.n_vertices, expected.n_vertices)
        assert np.array_equal(found.box_um, expected.box_um)
        assert np.array_equal(found.is_flat, expected.is_flat)


def test_a_cell_without_polygon_has_no_box(tmp_path, bundle):
    found = _polygons(tmp_path, bundle.cell_boundaries[9:], bundle.cells["cell_id"])
    assert np.flatnonzero(found.n_vertices == 0).tolist() == [0]
    assert np.isnan(found.box_um[0]).all()
    assert np.isfinite(found.box_um[1:]).all()
    assert not found.is_flat[0]


@pytest.mark.parametrize(
    ("points", "is_flat"),
    [
        ([(5, 5)], True),
        ([(5, 5), (9, 7)], True),
        ([(5, 5), (9, 7), (5, 5), (9, 7)], True),
        ([(0, 0), (1, 0.5), (40, 20), (0, 0)], True),
        ([(7, 1), (7, 9), (7, 4)], True),
        ([(0, 0), (10, 0), (5, 0.2), (0, 0)], False),
        ([(0, 0), (1, 0), (0, 1)], False),
        ([(30_000, 20_000), (30_001, 20_000), (30_000, 20_001)], False),
        ([(30_000, 20_000), (30_001, 20_001), (30_008, 20_008)], True),
    ],
)
def test_flat_polygons(tmp_path, points, is_flat):
    assert _polygons(tmp_path, _shape("a", *points), ["a"]).is_flat.tolist() == [is_flat]


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 6.28), st.floats(0.5, 300), st.integers(3, 60))
def test_points_on_a_line_are_flat_at_any_angle(tmp_path_factory, angle, length, n):
    along = np.linspace(0, length, n)
    points = np.stack([100 + along * np.cos(angle), 100 + along * np.sin(angle)], axis=1)
    tmp_path = tmp_path_factory.mktemp("flat")
    assert _polygons(tmp_path, _shape("a", *points), ["a"]).is_flat.all()


def test_foreign_ids_are_counted_over_the_whole_table(tmp_path, bundle, monkeypatch):
    monkeypatch.setattr(tables, "_BATCH_ROWS", 20)
    known = bundle.cells["cell_id"][5:]
    example = bundle.cells["cell_id"][:5].min()
    with pytest.raises(InputError, match=f"polygons of 5 ids that are no cell of the bundle, such as '{example}'; use"):
        _polygons(tmp_path, bundle.cell_boundaries, known)


def test_unused_words_of_a_dictionary_are_not_foreign(tmp_path, bundle):
    table = bundle.cell_boundaries.assign(cell_id=bundle.cell_boundaries["cell_id"].astype("category"))[9:]
    found = _polygons(tmp_path, table, bundle.cells["cell_id"][1:])
    assert (found.n_vertices == 9).all()


def test_vertex_that_is_no_number(tmp_path, bundle):
    bundle.cell_boundaries.loc[3, "vertex_x"] = np.nan
    with pytest.raises(InputError, match=r"cell_boundaries.parquet: a vertex is no finite number; copy"):
        _polygons(tmp_path, bundle.cell_boundaries, bundle.cells["cell_id"])


def test_vertex_without_id(tmp_path, bundle):
    bundle.cell_boundaries.loc[3, "cell_id"] = None
    with pytest.raises(InputError, match="1 vertices have no cell_id"):
        _polygons(tmp_path, bundle.cell_boundaries, bundle.cells["cell_id"])


@pytest.mark.parametrize("name", ["cell_id", "vertex_x"])
def test_missing_column(tmp_path, bundle, name):
    with pytest.raises(InputError, match=f"column {name} is missing"):
        _polygons(tmp_path, bundle.cell_boundaries.drop(columns=name), bundle.cells["cell_id"])


@pytest.mark.parametrize(("layout", "of_cell_0"), [("1.0", 1), ("2.0", 2), ("3.0", 2)])
def test_nuclei_are_counted_by_label(tmp_path, layout, of_cell_0, monkeypatch):
    monkeypatch.setattr(tables, "_BATCH_ROWS", 20)
    bundle = make(layout)
    path = tmp_path / "nucleus_boundaries.parquet"
    bundle.nucleus_boundaries.sample(frac=1, random_state=0).to_parquet(path, index=False)
    found = count_nuclei(path, pd.Index(bundle.cells["cell_id"].astype(str)))
    assert found.tolist() == [of_cell_0, 0] + [1] * 46


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ([1.5, 2.0], "label_id is not a whole number"),
        ([-1, 2], "a label_id does not fit 32 bits"),
        ([None, 1], "label_id"),
    ],
)
def test_bad_labels(tmp_path, labels, what):
    path = tmp_path / "nucleus_boundaries.parquet"
    _shape("a", (0, 0), (1, 1)).assign(label_id=labels).to_parquet(path, index=False)
    with pytest.raises(InputError, match=rf"nucleus_boundaries.parquet: {what}"):
        count_nuclei(path, pd.Index(["a"]))


def test_largest_labels_are_told_apart(tmp_path):
    path = tmp_path / "nucleus_boundaries.parquet"
    table = pd.concat([_shape("a", (0, 0), (1, 1)), _shape("b", (0, 0), (1, 1))])
    table.assign(label_id=np.array([2**32 - 1, 0, 2**32 - 1, 2**32 - 1], dtype=np.uint32)).to_parquet(path, index=False)
    assert count_nuclei(path, pd.Index(["a", "b"])).tolist() == [2, 1]


def test_real_crops(real):
    for name, without in (("breast_rep1_crop_a", 2), ("breast_rep1_crop_b", 34)):
        ids = pd.Index(pd.read_parquet(real / name / "cells.parquet")["cell_id"].astype(str))
        polygons = read_polygons(real / name / "cell_boundaries.parquet", ids)
        assert (polygons.n_vertices >= 3).all()
        assert not polygons.is_flat.any()
        assert int((count_nuclei(real / name / "nucleus_boundaries.parquet", ids) == 0).sum()) == without
