from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from mistline.tasks.agreement import METRICS

REFERENCE = {
    "ari": metrics.adjusted_rand_score,
    "nmi": metrics.normalized_mutual_info_score,
    "ami": metrics.adjusted_mutual_info_score,
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("error", [0.0, 0.2, 1.0])
def test_every_table_scores_as_scikit_learn_does(metric, error):
    rng = np.random.default_rng(7)
    label = rng.integers(0, 5, (3, 400))
    cluster = np.where(rng.random(label.shape) < error, rng.integers(0, 6, label.shape), label)
    tables = np.stack([np.bincount(c * 5 + k, minlength=30).reshape(6, 5) for c, k in zip(cluster, label, strict=True)])
    expected = [REFERENCE[metric](k, c) for c, k in zip(cluster, label, strict=True)]
    np.testing.assert_allclose(METRICS[metric](tables), expected, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_one_cluster_scores_zero(metric):
    assert METRICS[metric](np.array([[[30, 20, 10]]]))[0] == pytest.approx(0, abs=1e-12)


def test_replicates_of_a_large_table_share_their_expectation_almost_exactly(monkeypatch):
    rng = np.random.default_rng(0)
    tables = rng.multinomial(6000, rng.dirichlet(np.ones(40)), size=200).reshape(200, 8, 5)
    shared = METRICS["ami"](tables)
    monkeypatch.setattr("mistline.tasks.agreement._EXACT_ITEMS", 10**9)
    exact = METRICS["ami"](tables)
    assert np.abs(shared - exact).max() < 1e-3
    assert (shared != exact).any()
