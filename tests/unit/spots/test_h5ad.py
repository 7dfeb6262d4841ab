from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.spots.reading import read_table
from tests.unit.spots.written import GENES, hexagons, pixels, table, write_h5ad


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, lambda matrix: matrix.toarray()])
def test_values_places_and_labels(tmp_path, form):
    data = table()
    expected = data.X.toarray()
    data.X = form(data.X.astype(np.float32))
    found = read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", 0.5)
    assert found.genes.matrix.dtype == np.int32
    assert np.array_equal(found.genes.matrix.toarray(), expected)
    np.testing.assert_allclose(found.places.xy_um, data.obsm["spatial"] * 0.5)
    assert (found.places.source, found.places.grid) == ("um_per_unit of the slide", None)
    assert found.labels["layer"].tolist() == data.obs["layer"].tolist()
    assert (found.kind, found.problems) == ("h5ad", ())


def test_a_dense_matrix_is_read_in_blocks(tmp_path, monkeypatch):
    data = table()
    expected = data.X.toarray()
    data.X = expected.astype(np.float64)
    monkeypatch.setattr("mistline.spots.h5ad._BLOCK_VALUES", 7 * len(GENES))
    found = read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", 1.0)
    assert np.array_equal(found.genes.matrix.toarray(), expected)


def test_ensembl_ids_come_first_and_genes_are_sorted(tmp_path):
    data = table()
    data.var_names = [f"Z{number}" for number in range(len(GENES))]
    data.var["gene_ids"] = list(GENES[::-1])
    data.var["feature_types"] = ["Antibody Capture", *["Gene Expression"] * (len(GENES) - 1)]
    found = read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", 1.0).genes
    assert found.ids == GENES[:-1]
    assert found.symbols == tuple(f"Z{number}" for number in range(11, 0, -1))
    assert np.array_equal(found.matrix.toarray(), data.X.toarray()[:, :0:-1])
    assert found.other_features == {"Antibody Capture": 1}


def test_text_columns_are_labels_where_they_can_be(tmp_path):
    data = table()
    n = data.n_obs
    data.obs["some"] = pd.Categorical([None, *["a"] * (n - 1)])
    data.obs["number"] = np.arange(n)
    data.obs["name"] = [f"x{number}" for number in range(n)]
    data.obs["level"] = pd.Categorical(np.arange(n) % 3)
    found = read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", 1.0)
    assert list(found.labels) == ["layer", "some", "level"]
    assert found.labels["some"].tolist()[:2] == [None, "a"]
    assert found.labels["level"].tolist()[:3] == ["0", "1", "2"]
    assert found.left_out == {"name": "another value for every cell"}


def test_the_array_tells_the_micrometres(tmp_path):
    grid = hexagons()
    data = table(len(grid), obsm={"spatial": pixels(grid)})
    data.obs[["array_row", "array_col"]] = grid
    places = read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", None).places
    assert places.um_per_unit == pytest.approx(100 / 137)
    assert np.array_equal(places.grid, grid)
    found = read_table(tmp_path / "t.h5ad", "counts", 0.5)
    assert found.places.um_per_unit == 0.5
    assert "its spots are 69 um apart" in found.problems[0]["what"]
    data.obsm["spatial"] = data.obsm["spatial"][::-1] * [1, -1] + np.random.default_rng(0).normal(0, 900, grid.shape)
    with pytest.raises(InputError, match="coordinates do not follow array_row and array_col"):
        read_table(write_h5ad(tmp_path / "u.h5ad", data), "counts", None)


def test_the_scale_factors_tell_the_micrometres(tmp_path):
    factors = {"one": {"scalefactors": {"spot_diameter_fullres": 130.0}}}
    found = read_table(write_h5ad(tmp_path / "t.h5ad", table(uns={"spatial": factors})), "counts", None)
    assert found.places.um_per_unit == 0.5
    assert "known to some 10 %" in found.problems[0]["what"]
    factors["two"] = {"scalefactors": {"spot_diameter_fullres": 90.0}}
    with pytest.raises(InputError, match="2 libraries of different scale"):
        read_table(write_h5ad(tmp_path / "u.h5ad", table(uns={"spatial": factors})), "counts", None)


def test_no_coordinates_and_doubled_ones(tmp_path):
    found = read_table(write_h5ad(tmp_path / "t.h5ad", table(obsm={})), "counts", None)
    assert found.places is None
    assert "no coordinates" in found.problems[0]["what"]
    data = table()
    data.obsm["spatial"][1] = data.obsm["spatial"][0]
    found = read_table(write_h5ad(tmp_path / "u.h5ad", data), "counts", 1.0)
    assert len(found.cell_ids) == data.n_obs
    assert found.problems[0]["what"] == "1 cells have the coordinates of another"


def _nan(data):
    data.X = data.X.toarray().astype(float)
    data.X[3, 2] = np.nan


def _negative(data):
    data.X = data.X.toarray() - 2.0


def _scaled(data):
    data.X = data.X.astype(float) * 0.5


def _twice(data):
    data.obs_names = ["c"] * data.n_obs


def _genes_twice(data):
    data.var_names = ["g"] * data.n_vars


def _lost(data):
    data.obsm["spatial"][4, 0] = np.nan


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_nan, "a value is not a finite number (one cell, such as 'c0-003')"),
        (_negative, "a value is negative"),
        (_scaled, "a value is no whole number, and values: counts is set"),
        (_twice, "239 cell ids occur more than once, such as 'c'"),
        (_genes_twice, "1 gene ids are empty or occur more than once, such as 'g'"),
        (_lost, "1 cells have coordinates that are no number, such as 'c0-004'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*names are not unique")
def test_bad_tables_are_refused_in_a_sentence(tmp_path, spoil, sentence):
    data = table()
    spoil(data)
    with pytest.raises(InputError) as caught:
        read_table(write_h5ad(tmp_path / "t.h5ad", data), "counts", 1.0)
    assert sentence in str(caught.value)


def test_units_must_be_known_and_of_something(tmp_path):
    with pytest.raises(InputError, match="set um_per_unit"):
        read_table(write_h5ad(tmp_path / "t.h5ad"), "counts", None)
    with pytest.raises(InputError, match="there is no obsm"):
        read_table(write_h5ad(tmp_path / "u.h5ad", table(obsm={})), "counts", 1.0)


def test_other_values_are_floats(tmp_path):
    data = table()
    data.X = data.X.astype(np.float64) * 0.5
    for values in ("normalised", "log"):
        found = read_table(write_h5ad(tmp_path / "t.h5ad", data), values, 1.0)
        assert found.genes.matrix.dtype == np.float32
        assert np.array_equal(found.genes.matrix.toarray(), data.X.toarray())


def test_what_is_no_table(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_table(tmp_path / "none", "counts", None)
    (tmp_path / "text.h5ad").write_text("no")
    with pytest.raises(InputError, match="truncated or not an HDF5 file"):
        read_table(tmp_path / "text.h5ad", "counts", None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no positions of spots here"):
        read_table(tmp_path / "folder", "counts", None)
