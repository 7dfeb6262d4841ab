from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mistline.tasks.correlation import pearson, spearman


@pytest.mark.parametrize(("ours", "theirs"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr)])
def test_columns_are_those_of_scipy_ties_included(ours, theirs):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (50, 300)).astype(np.float32)
    predicted = (truth + rng.integers(0, 5, truth.shape)).astype(np.float32)
    found = ours(truth, predicted)
    expected = [theirs(truth[:, i], predicted[:, i]).statistic for i in range(300)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("correlate", [pearson, spearman])
def test_constants(correlate):
    changing, constant = np.arange(5.0)[:, None], np.full((5, 1), 0.1)
    assert correlate(changing, constant) == 0
    assert np.isnan(correlate(constant, changing))
    assert np.isnan(correlate(constant, constant))
    assert correlate(changing, -changing) == pytest.approx(-1)


def test_by_hand():
    truth, predicted = np.array([[1.0], [2], [3]]), np.array([[1.0], [3], [2]])
    assert pearson(truth, predicted) == pytest.approx(0.5)
    assert spearman(truth, 10**predicted) == pytest.approx(0.5)
