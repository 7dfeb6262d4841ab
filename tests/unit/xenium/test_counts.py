from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.xenium import counts as module
from mistline.xenium.counts import read_counts, read_features
from mistline.xenium.panel import Panel
from tests.unit.xenium.conftest import write_matrix

NO_COUNT = r"the count of GENE\d in cell a\w+-1 is {}, not a whole number from 0 to 2147483647"


@pytest.fixture
def path(tmp_path, bundle):
    path = tmp_path / "cell_feature_matrix.h5"
    write_matrix(path, bundle.counts, bundle.barcodes, bundle.features)
    return path


def _spoil(path, name, change):
    with h5py.File(path, "r+") as file:
        values = change(file["matrix"][name][()])
        del file["matrix"][name]
        file["matrix"][name] = values


@pytest.mark.parametrize("entries", [1 << 22, 10, 1])
def test_genes_are_sorted_and_controls_removed_and_counted(path, bundle, monkeypatch, entries):
    monkeypatch.setattr(module, "_CHUNK_ENTRIES", entries)
    found = read_counts(path)
    dense = bundle.counts.toarray()
    assert found.gene_ids == ("ENSG00000000001", "ENSG00000000003", "ENSG00000000005", "ENSG00000000009")
    assert found.symbols == ("GENE1", "GENE3", "GENE5", "GENE9")
    assert np.array_equal(found.matrix.toarray(), dense[:, [3, 1, 0, 2]])
    assert found.matrix.dtype == np.int32
    assert found.matrix.has_canonical_format
    assert np.array_equal(found.control_counts, dense[:, 4:].sum(axis=1))
    assert found.cell_ids.tolist() == bundle.barcodes
    assert found.features.n_by_other_type == {"Negative Control Probe": 1, "Unassigned Codeword": 1}


def test_cells_without_any_entry(tmp_path, bundle):
    matrix = bundle.counts.toarray()
    matrix[[0, 1, 20, 47]] = 0
    path = tmp_path / "m.h5"
    write_matrix(path, sparse.csr_matrix(matrix), bundle.barcodes, bundle.features)
    assert np.array_equal(read_counts(path).matrix.sum(axis=1).A1, matrix[:, :4].sum(axis=1))


def test_header_alone(path):
    features = read_features(path)
    assert (features.n_cells, len(features.gene_ids)) == (48, 4)


def test_panel_gives_ensembl_ids_to_symbols(tmp_path, bundle):
    bundle.features["id"] = bundle.features["name"]
    path = tmp_path / "m.h5"
    write_matrix(path, bundle.counts, bundle.barcodes, bundle.features)
    panel = Panel("p", {"GENE5": "ENSG00000000005", "GENE9": "ENSG00000000002"})
    found = read_counts(path, panel)
    assert found.gene_ids == ("ENSG00000000002", "ENSG00000000005", "GENE1", "GENE3")
    assert np.array_equal(found.matrix.toarray(), bundle.counts.toarray()[:, [2, 0, 3, 1]])


def test_proteins_are_neither_genes_nor_controls(tmp_path, bundle):
    bundle.features.loc[5, "feature_type"] = "Protein Expression"
    path = tmp_path / "m.h5"
    values = bundle.counts.astype(np.float32)
    values.data[values.indices == 5] = 0.5
    write_matrix(path, values, bundle.barcodes, bundle.features)
    found = read_counts(path)
    assert np.array_equal(found.control_counts, bundle.counts.toarray()[:, 4])
    assert np.array_equal(found.matrix.toarray(), bundle.counts.toarray()[:, [3, 1, 0, 2]])
    assert found.features.n_by_other_type == {"Negative Control Probe": 1, "Protein Expression": 1}


@pytest.mark.parametrize("size", [0, 100, 0.5])
def test_truncated(path, size):
    data = path.read_bytes()
    path.write_bytes(data[: int(size * len(data)) if isinstance(size, float) else size])
    with pytest.raises(
        InputError, match=r"cell_feature_matrix.h5: truncated or not an HDF5 file \(.*\); copy it again"
    ):
        read_features(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.h5: no such file; copy it"):
        read_counts(tmp_path / "nowhere.h5")


def test_another_hdf5_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="an HDF5 file, but not a 10x feature matrix"):
        read_counts(path)


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("data", lambda v: np.where(np.arange(len(v)) == 3, -1, v), NO_COUNT.format("-1")),
        ("data", lambda v: np.where(np.arange(len(v)) == 3, np.nan, v), NO_COUNT.format("nan")),
        ("data", lambda v: v * 0.5, NO_COUNT.format(r"\d\.5")),
        ("data", lambda v: v.astype(np.int64) + 2**31, NO_COUNT.format(r"2\.14748e\+09")),
        ("data", lambda v: v[:-1], "the matrix's shape contradicts its features, barcodes or entries"),
        ("barcodes", lambda v: v[:-1], "the matrix's shape contradicts its features, barcodes or entries"),
        ("indices", lambda v: v + 3, "an entry lies outside the matrix"),
        ("indices", lambda v: v - 3, "an entry lies outside the matrix"),
        ("indices", np.zeros_like, "a cell has two values for one gene"),
        ("indptr", lambda v: v[::-1], "the matrix's column pointers contradict its entries"),
        ("barcodes", lambda v: np.where(np.arange(len(v)) == 1, v[0], v), "1 cell ids occur more than once"),
        ("features/id", lambda v: np.where(np.arange(len(v)) == 1, v[0], v), "1 gene ids occur more than once"),
        ("features/id", lambda v: np.arange(len(v)), "matrix/features/id is not text"),
        ("features/id", lambda v: np.where(np.arange(len(v)) == 1, b"", v), "1 of 4 genes have no id, .* 'GENE3'"),
        ("features/id", lambda v: np.where(np.arange(len(v)) == 1, b"NaN", v), "1 of 4 genes have no id, .* 'GENE3'"),
        ("features/feature_type", lambda v: np.full_like(v, b"Blank"), 'no feature has the type "Gene Expression"'),
    ],
)
def test_damaged_matrix(path, name, change, what):
    _spoil(path, name, change)
    with pytest.raises(InputError, match=f"cell_feature_matrix.h5: {what}"):
        read_counts(path)


def test_symbols_are_the_ids_where_no_gene_has_one(path):
    _spoil(path, "features/id", lambda v: np.where(np.arange(len(v)) < 4, b"", v))
    assert read_counts(path).gene_ids == ("GENE1", "GENE3", "GENE5", "GENE9")


def test_no_cell(tmp_path, bundle):
    path = tmp_path / "m.h5"
    write_matrix(path, bundle.counts[:0], [], bundle.features)
    with pytest.raises(InputError, match="the matrix holds no cell"):
        read_features(path)


def test_gene_totals_of_the_real_crops(real):
    for name in ("breast_rep1_crop_a", "breast_rep1_crop_b"):
        path = real / name / "cell_feature_matrix.h5"
        found = read_counts(path)
        with h5py.File(path) as file:
            group = file["matrix"]
            stored = sparse.csc_matrix(
                (group["data"][()], group["indices"][()], group["indptr"][()]), shape=group["shape"][()]
            )
        assert np.array_equal(found.matrix.sum(axis=1).A1, stored.sum(axis=0).A1)
        assert found.matrix.nnz == stored.nnz
