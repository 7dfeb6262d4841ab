from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.models.fusion.preprocess import choose_genes, fit_scaler, log_rows, moments, select


def _counts(n=60, n_genes=30, seed=0):
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(0.8, (n, n_genes)).astype(np.int32))


def test_values_are_brought_to_one_depth_unless_they_are():
    counts = _counts()
    plain = counts.toarray().astype(float)
    by_depth = np.log1p(plain / plain.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(log_rows(counts, "counts", 1e4).toarray(), by_depth, rtol=1e-5)
    np.testing.assert_allclose(log_rows(counts, "normalised", 1e4).toarray(), np.log1p(plain), rtol=1e-6)
    np.testing.assert_array_equal(log_rows(counts, "log", 1e4).toarray(), plain)


@pytest.mark.parametrize("n_genes", [10, 30])
def test_the_input_is_left_as_it_is_by_all_that_reads_its_places(n_genes):
    counts = _counts()
    for start, end in pairwise(counts.indptr):  # unsorted: to sort what is shared would mix the counts up
        counts.indices[start:end] = counts.indices[start:end][::-1].copy()
        counts.data[start:end] = counts.data[start:end][::-1].copy()
    counts.has_sorted_indices = False
    before = [values.copy() for values in (counts.data, counts.indices, counts.indptr)]
    logged = log_rows(counts, "counts", 1e4)
    chosen = select(logged, choose_genes(logged, n_genes, 3))
    fit_scaler([chosen[:40]], 10.0).dense(chosen[40:], np.zeros(20, dtype=np.int64))
    for values, kept in zip((counts.data, counts.indices, counts.indptr), before, strict=True):
        np.testing.assert_array_equal(values, kept)


def test_moments_count_zeros():
    rows = log_rows(_counts(), "counts", 1e4)
    mean, variance = moments(rows)
    np.testing.assert_allclose(mean, rows.toarray().mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, rows.toarray().astype(float).var(0), rtol=1e-5)


def test_a_gene_of_two_cells_is_left_out():
    counts = _counts().tolil()
    counts[:, 4] = 0
    counts[[3, 9], 4] = 50
    chosen = choose_genes(log_rows(sparse.csr_matrix(counts), "counts", 1e4), 30, 3)
    assert 4 not in chosen
    assert len(chosen) == 29
    with pytest.raises(InputError, match="no gene occurs in 61 of the 60 training cells"):
        choose_genes(sparse.csr_matrix((60, 3), dtype=np.float32), 3, 61)


def test_the_most_variable_of_their_mean_are_kept():
    rng = np.random.default_rng(0)
    rate = np.tile(np.repeat([1.0, 8.0], 20), (300, 1))
    varied = [3, 11, 25, 33]
    rate[:, varied] *= rng.choice([0.2, 1.8], (300, 4))
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.int32))
    assert choose_genes(log_rows(counts, "normalised", 1.0), 4, 3).tolist() == varied


def test_standardised_values_are_cut():
    rows = sparse.csr_matrix(np.r_[np.zeros(400), 1000.0][:, None].astype(np.float32))
    scaler = fit_scaler([rows], clip=5.0)
    found = scaler.dense(rows, np.zeros(401, dtype=np.int64))
    assert found.max() == 5
    assert fit_scaler([rows[:9]], 5.0).spread.tolist() == [[1.0]]  # a gene that never varies
