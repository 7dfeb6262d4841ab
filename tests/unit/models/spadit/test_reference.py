"""What single cells say of genes."""

from __future__ import annotations

import numpy as np
import pytest

from mistline.models.spadit.reference import Levels, Reference, nearest, standardised
from tests.unit.models.spadit.pairs import pair


def test_neighbours_are_the_most_correlated_and_never_the_gene_itself():
    correlations = np.array([[1.0, 0.2], [0.9, 1.0], [-0.5, 0.7]])
    np.testing.assert_array_equal(nearest(correlations, 2), [[0, 1], [1, 2]])
    np.testing.assert_array_equal(nearest(correlations, 2, np.array([0, 1])), [[1, 2], [2, 0]])


def test_profiles_are_standardised_means_of_groups_that_training_genes_shape():
    view, _ = pair()
    train = view.reference[:, ~view.is_val]
    reference = Reference.of(train, 10, 0)
    assert reference.n_metacells <= 10
    found = reference.profiles(view.wanted_reference)
    assert found.shape == (4, reference.n_metacells)
    means = [view.wanted_reference[reference.metacell == k, 0].mean() for k in range(reference.n_metacells)]
    np.testing.assert_allclose(found[0], standardised(np.array(means)[:, None])[:, 0], atol=1e-4)


def test_level_and_spread_follow_those_of_training_genes_within_their_range():
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, rng.uniform(0.2, 2, 40), size=(300, 40)).astype(np.float32)
    levels = Levels.of(values[:, :30], 2 * values[:, :30].mean(axis=0), 3 * values[:, :30].std(axis=0))
    mean, scale = levels.told(values[:, 30:])
    np.testing.assert_allclose(mean, 2 * values[:, 30:].mean(axis=0), rtol=0.1)
    np.testing.assert_allclose(scale, 3 * values[:, 30:].std(axis=0), rtol=0.15)
    mean, _ = levels.told(1000 * values[:, 30:])
    assert mean.max() == pytest.approx(2 * values[:, :30].mean(axis=0).max(), rel=1e-5)
