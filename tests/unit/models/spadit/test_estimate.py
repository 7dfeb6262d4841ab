"""What is said of a gene without a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mistline.models.spadit import estimate as own
from mistline.models.spadit.estimate import Estimator
from mistline.models.spadit.reference import Reference, standardised
from mistline.models.spadit.space import Measured
from tests.unit.models.spadit.pairs import pair, pcc


def _estimator(view):
    measured = Measured.of(view.spatial, view.is_val)
    return Estimator.of(measured, Reference.of(view.reference[:, ~view.is_val], 8, 0))


def test_wanted_genes_are_estimated_on_the_scale_of_the_least_error():
    view, truth = pair()
    estimator, _ = _estimator(view)
    found, true = estimator.estimates(view.wanted_reference), standardised(truth)
    assert pcc(found, true).min() > 0.5
    np.testing.assert_allclose(found.std(axis=0), estimator.shrunk, rtol=1e-4)
    assert np.square(true - found).mean() < min(np.square(true - size * found).mean() for size in (0.5, 2.0))


def test_a_training_gene_is_estimated_without_its_own_values():
    view, _ = pair()
    gene = np.flatnonzero(~view.is_val)[3]
    changed = view.spatial.copy()
    changed[:, gene] = np.random.default_rng(5).permutation(changed[:, gene])
    plain, other = (_estimator(replace(view, spatial=values)) for values in (view.spatial, changed))
    for estimator, told in (plain, other):
        assert (told[:, 3] / estimator.shrunk).std() > 0.99
    if plain[0].ridge == other[0].ridge:  # which ridge is best is all that may hang on it
        np.testing.assert_allclose(
            plain[1][:, 3] / plain[0].shrunk, other[1][:, 3] / other[0].shrunk, rtol=0, atol=1e-5
        )


def test_weights_without_a_gene_are_those_of_the_regression_on_the_others():
    view, _ = pair()
    among = standardised(view.reference).T @ standardised(view.reference) / len(view.reference)
    spread = np.random.default_rng(0).uniform(0.5, 2, len(among))
    weights = own._left_out(own._inverse(among, spread, 2.0), among, spread)
    gene, rest = 5, np.delete(np.arange(len(among)), 5)
    scaled = spread[:, None] * among * spread + 2.0 * np.eye(len(among))
    expected = spread[rest] * np.linalg.solve(scaled[np.ix_(rest, rest)], spread[rest] * among[rest, gene])
    np.testing.assert_allclose(weights[rest, gene], expected, rtol=1e-6)
    assert abs(weights[gene, gene]) < 1e-12


def test_chunks_of_cells_do_not_matter(monkeypatch):
    view, _ = pair()
    whole = _estimator(view)[0].estimates(view.wanted_reference)
    monkeypatch.setattr(own, "_ROWS", 13)
    np.testing.assert_allclose(_estimator(view)[0].estimates(view.wanted_reference), whole, atol=1e-6)
