from __future__ import annotations

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.tasks import controls


def test_places_of_two_slides_never_meet(cohort):
    cohort.add("a", "d1")
    cohort.add("b", "d2")
    cells = cohort.inputs().cells("test")
    xy = controls.coordinates(cells)
    first, second = xy[cells["slide"] == "a"], xy[cells["slide"] == "b"]
    assert second[:, 0].min() - first[:, 0].max() > np.ptp(first[:, 0])


def test_places_within_a_slide_run_from_0_to_1_on_every_slide():
    import pandas as pd

    cells = pd.DataFrame({"slide": ["b", "a", "b", "b"], "x_um": [10.0, 5.0, 30.0, 15.0], "y_um": [1.0, 7.0, 1.0, 1.0]})
    found = controls.scaled_places(cells)
    np.testing.assert_allclose(found, [[0, 0], [0, 0], [1, 0], [0.25, 0]])


def test_shuffled_rows_are_the_same_rows_elsewhere(cohort):
    points = np.arange(40, dtype=np.float32)[:, None]
    dealt = controls.shuffled(points, 0)
    assert sorted(dealt.ravel()) == list(range(40))
    assert (dealt != points).mean() > 0.8


def test_fit_sees_training_cells_only(cohort):
    item = cohort.add("a", "d1")
    inputs = cohort.inputs()
    train = inputs.cells("train")
    fitted, rows = controls.fit_log_counts(inputs, train)
    counts = inputs.counts(train, fitted.genes)
    assert fitted.depth == np.median(np.asarray(counts.sum(axis=1)))
    assert rows.shape == (len(train), 12)
    # The counts of test cells may change as they like.
    import anndata

    table = anndata.read_h5ad(item.counts)
    is_test = ~table.obs_names.isin(train["cell_id"])
    table.X = table.X.toarray() * np.where(is_test, 7, 1)[:, None]
    from scipy import sparse

    table.X = sparse.csr_matrix(table.X)
    table.write_h5ad(item.counts)
    again, rows_again = controls.fit_log_counts(cohort.inputs(), train)
    assert again == fitted
    assert abs(rows - rows_again).max() == 0


def test_depth_normalised_rows_share_their_total(cohort):
    cohort.add("a", "d1")
    inputs = cohort.inputs()
    cells = inputs.cells("test")
    fitted, _ = controls.fit_log_counts(inputs, inputs.cells("train"))
    rows = fitted.rows(inputs, cells)
    np.testing.assert_allclose(np.expm1(rows.toarray()).sum(axis=1), fitted.depth, rtol=1e-4)


@pytest.mark.parametrize("values", ["counts", "normalised", "log"])
def test_genes_that_are_left_out_are_part_of_every_cell_s_total(cohort, monkeypatch, values):
    """A model scales cells by all common genes; what it tells of the kept ones is to be on the scale of the truth."""
    _give(cohort.add("a", "d1"), values)
    inputs = cohort.inputs()
    train = inputs.cells("train")
    every, told = controls.fit_log_counts(inputs, train)
    monkeypatch.setattr(controls, "MAX_GENES", 5)
    fitted, rows = controls.fit_log_counts(inputs, train)
    columns = [every.genes.index(gene) for gene in fitted.genes]
    assert (len(every.genes), len(columns), fitted.depth) == (12, 5, every.depth)
    np.testing.assert_array_equal(rows.toarray(), told.toarray()[:, columns])
    np.testing.assert_array_equal(fitted.rows(inputs, train).toarray(), rows.toarray())
    test = inputs.cells("test")
    np.testing.assert_array_equal(fitted.rows(inputs, test).toarray(), every.rows(inputs, test).toarray()[:, columns])


def _without_places(item):
    import pandas as pd

    cells = pd.read_parquet(item.cells).assign(x_um=np.nan, y_um=np.nan)
    cells.to_parquet(item.cells)


def test_slides_without_coordinates(cohort):
    cohort.add("a", "d1")
    _without_places(cohort.add("b", "d2"))
    inputs = cohort.inputs()
    cells = inputs.cells("test")
    assert controls.left_out(inputs, cells) == {"coordinates": "not every slide has coordinates"}
    assert controls.left_out(inputs, cells[cells["slide"] == "a"]) == {}
    with pytest.raises(InputError, match=r"tasks\.domains: asks for coordinates, and 1 slides have none, such as b"):
        controls.require_coordinates(cells, "domains")
    controls.require_coordinates(cells[cells["slide"] == "a"], "domains")


def _give(item, values):
    import anndata

    table = anndata.read_h5ad(item.counts)
    table.uns["values"] = values
    table.X = table.X.astype(np.float32) * (1 if values == "counts" else 0.5)
    table.write_h5ad(item.counts)


@pytest.mark.parametrize("values", ["normalised", "log"])
def test_values_are_not_scaled_or_logged_twice(cohort, values):
    _give(cohort.add("a", "d1"), values)
    inputs = cohort.inputs()
    fitted, rows = controls.fit_log_counts(inputs, inputs.cells("train"))
    given = inputs.counts(inputs.cells("train"), fitted.genes).toarray()
    assert inputs.values == fitted.values == values
    np.testing.assert_allclose(rows.toarray(), given if values == "log" else np.log1p(given), rtol=1e-6)
    cohort.add("b", "d2")
    with pytest.raises(InputError, match="values differ between slides"):
        _ = cohort.inputs().values
