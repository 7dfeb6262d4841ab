from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mistline.config.cells import Cells
from mistline.core.errors import InputError
from mistline.mist.cells import Raw, join
from mistline.xenium.boundaries import read_polygons
from mistline.xenium.cells import read_cells
from mistline.xenium.counts import read_counts
from tests.unit.xenium.conftest import PIXEL_UM, SHAPE_PX, Bundle, make, polygons

LENIENT = Cells(max_excluded_share=0.2)


def _raw(tmp_path, bundle: Bundle, shape_px=SHAPE_PX, pixel_um=PIXEL_UM) -> Raw:
    root = bundle.write(tmp_path / "b")
    cells = read_cells(root / "cells.parquet")
    return Raw(
        where="bundle b",
        cells=cells,
        polygons=read_polygons(root / "cell_boundaries.parquet", pd.Index(cells["cell_id"])),
        n_nuclei=np.ones(len(cells), dtype=np.int64),
        counts=read_counts(root / "cell_feature_matrix.h5"),
        shape_px=shape_px,
        pixel_size_um=pixel_um,
    )


def _move(bundle: Bundle, number: int, x: float, y: float) -> None:
    """Put a cell and its polygon elsewhere."""
    cell = bundle.cells["cell_id"][number]
    bundle.cells.loc[number, ["x_centroid", "y_centroid"]] = x, y
    bundle.cell_boundaries = bundle.cell_boundaries[bundle.cell_boundaries["cell_id"] != cell]
    there = polygons(np.array([cell]), np.array([x]), np.array([y]), 5.0, np.array([number]))
    bundle.cell_boundaries = pd.concat([bundle.cell_boundaries, there], ignore_index=True)


@pytest.fixture
def bundle() -> Bundle:
    return make()


def test_everything_is_kept_and_counted(tmp_path, bundle):
    joined = join(_raw(tmp_path, bundle), Cells(min_counts=0))
    assert joined.summary["n_read"] == joined.summary["n_kept"] == 48
    assert set(joined.summary["excluded"].values()) == {0}
    assert joined.summary["control_features"] == {"Negative Control Probe": 1, "Unassigned Codeword": 1}
    assert joined.summary["control_counts"] == bundle.counts[:, 4:].sum()


def test_each_row_is_its_own_cell(tmp_path, bundle):
    order = np.random.default_rng(3).permutation(48)  # the matrix in another order than the table
    bundle.barcodes = [bundle.barcodes[row] for row in order]
    bundle.counts = bundle.counts[order]
    raw = _raw(tmp_path, bundle)
    joined = join(raw, Cells(min_counts=0))
    expected = bundle.cells.set_index("cell_id").loc[joined.table["cell_id"]]
    assert np.array_equal(joined.table["n_counts"], expected["transcript_counts"])
    assert np.array_equal(joined.table["x_um"], expected["x_centroid"])
    assert raw.counts.cell_ids[joined.count_rows].tolist() == joined.table["cell_id"].tolist()
    assert raw.cells["cell_id"].to_numpy()[joined.cell_rows].tolist() == joined.table["cell_id"].tolist()
    inside = (joined.table["x_min_um"] < joined.table["x_um"]) & (joined.table["x_um"] < joined.table["x_max_um"])
    assert inside.all()


def test_shuffled_tables_give_the_same_join(tmp_path, bundle):
    expected = join(_raw(tmp_path, bundle), Cells(min_counts=0)).table
    order = np.random.default_rng(5).permutation(48)
    bundle.cells = bundle.cells.iloc[order]
    bundle.cell_boundaries = bundle.cell_boundaries.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(join(_raw(tmp_path / "2", bundle), Cells(min_counts=0)).table, expected)


def test_order_is_by_block_then_row_of_the_slide(tmp_path, bundle):
    raw = _raw(tmp_path, bundle, shape_px=(2400, 3200), pixel_um=0.05)
    table = join(raw, Cells(min_counts=0)).table
    row, col = np.floor(table["y_um"] / 51.2), np.floor(table["x_um"] / 51.2)
    assert len(set(zip(row, col, strict=True))) == 9  # the cells reach over 3 x 3 blocks
    expected = table.assign(row=row, col=col).sort_values(["row", "col", "y_um", "x_um", "cell_id"])
    assert expected["cell_id"].tolist() == table["cell_id"].tolist()


def test_each_exclusion_has_one_reason(tmp_path, bundle):
    ids = bundle.cells["cell_id"]
    bundle.cell_boundaries = bundle.cell_boundaries[bundle.cell_boundaries["cell_id"] != ids[0]]
    bundle.counts, bundle.barcodes = bundle.counts[[0, *range(2, 48)]], [bundle.barcodes[0], *bundle.barcodes[2:]]
    _move(bundle, 2, -1.0, 50.0)  # the centroid is outside, the polygon touches the image
    _move(bundle, 3, 500.0, 50.0)
    bundle.cell_boundaries.loc[bundle.cell_boundaries["cell_id"] == ids[4], "vertex_x"] = np.float32(
        bundle.cells["x_centroid"][4]
    )
    poor = int(bundle.cells["transcript_counts"][5])
    others = bundle.cells["transcript_counts"].drop([0, 1, 2, 3, 4])
    joined = join(_raw(tmp_path, bundle), Cells(min_counts=poor + 1, max_excluded_share=0.2))
    assert joined.summary["excluded"] == {
        "no_polygon": 1,
        "no_counts_row": 1,
        "outside_image": 2,
        "degenerate_polygon": 1,
        "below_min_counts": int((others <= poor).sum()),
    }
    assert joined.summary["n_read"] == joined.summary["n_kept"] + sum(joined.summary["excluded"].values())
    assert not set(ids[:6]) & set(joined.table["cell_id"])
    assert joined.summary["joins"]["cells_without_polygon"] == joined.summary["joins"]["cells_without_counts"] == 1


def test_too_many_cells_without_polygon(tmp_path, bundle):
    gone = bundle.cells["cell_id"][:3]
    bundle.cell_boundaries = bundle.cell_boundaries[~bundle.cell_boundaries["cell_id"].isin(gone)]
    raw = _raw(tmp_path, bundle)
    expected = "3 of 48 cells lack a usable polygon, counts or image (no_polygon 3), more than cells.max_excluded_share"
    with pytest.raises(InputError, match=f"bundle b: {re.escape(expected)} 0.05; check that all files are of one run"):
        join(raw, Cells())
    assert join(raw, LENIENT).summary["excluded"]["no_polygon"] == 3


def test_polygons_outside_the_image(tmp_path, bundle):
    raw = _raw(tmp_path, bundle, shape_px=(240, 160))
    with pytest.raises(InputError, match=r"\d\d of 48 cells lack a usable .*\(outside_image \d\d\)"):
        join(raw, Cells())


def test_swapped_x_and_y(tmp_path, bundle):
    bundle.cells = bundle.cells.rename(columns={"x_centroid": "y_centroid", "y_centroid": "x_centroid"})
    bundle.cell_boundaries = bundle.cell_boundaries.rename(columns={"vertex_x": "vertex_y", "vertex_y": "vertex_x"})
    with pytest.raises(InputError, match=r"cells.parquet: x and y look swapped: 25% of the centroids .*, 0% with"):
        join(_raw(tmp_path, bundle), Cells())


def test_swapped_polygons(tmp_path, bundle):
    bundle.cell_boundaries = bundle.cell_boundaries.rename(columns={"vertex_x": "vertex_y", "vertex_y": "vertex_x"})
    with pytest.raises(InputError, match=r"cell_boundaries.parquet: .*% of the centroids .* look swapped in one of"):
        join(_raw(tmp_path, bundle), Cells())


def test_polygons_of_another_run(tmp_path, bundle):
    bundle.cell_boundaries["vertex_x"] += 15
    with pytest.raises(InputError, match=r"100% of the centroids .* lie outside their own polygon: they are of diff"):
        join(_raw(tmp_path, bundle), Cells())


def test_foreign_barcodes(tmp_path, bundle):
    bundle.barcodes[3] = "zzzz-1"
    with pytest.raises(InputError, match=r"feature matrix: 1 barcodes are no cell of cells.parquet, such as 'zzzz-1'"):
        join(_raw(tmp_path, bundle), LENIENT)


def test_counts_that_contradict_the_table(tmp_path, bundle, caplog):
    bundle.cells.loc[:3, "transcript_counts"] += 1
    raw = _raw(tmp_path, bundle)
    example = bundle.cells["cell_id"][:4].min()
    expected = f"gene counts of 4 of 48 cells differ from transcript_counts in cells.parquet, such as '{example}'"
    with pytest.raises(InputError, match=f"bundle b, feature matrix: {expected}"):
        join(raw, Cells())
    assert join(raw, LENIENT).summary["joins"]["counts_differ_from_cells"] == 4
    assert expected in caplog.text


def test_no_cell_remains(tmp_path, bundle):
    with pytest.raises(InputError, match=r"no cell remains \(below_min_counts 48\); lower cells.min_counts"):
        join(_raw(tmp_path, bundle), Cells(min_counts=10_000))


def test_unknown_number_of_nuclei_is_null(tmp_path, bundle):
    table = join(replace(_raw(tmp_path, bundle), n_nuclei=None), Cells()).table
    assert table["n_nuclei"].isna().all()
