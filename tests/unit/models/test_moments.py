from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mistline.core.errors import InputError
from mistline.models.moments import Moments


def _rows(n: int = 500, f: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, f)) @ np.diag(np.arange(f, 0, -1.0)) + 1000


def _streamed(rows: np.ndarray, size: int) -> Moments:
    moments = Moments(rows.shape[1])
    for start in range(0, len(rows), size):
        moments.add(rows[start : start + size])
    return moments


def test_agrees_with_scikit_learn():
    rows = _rows()
    ours = _streamed(rows, 37).components(3)
    theirs = PCA(3, svd_solver="full").fit(rows)
    np.testing.assert_allclose(ours.share, theirs.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(ours.project(rows)), np.abs(theirs.transform(rows)), atol=2e-3)


def test_sign_is_fixed():
    axes = _streamed(_rows(), 100).components(4).axes
    assert (axes[np.abs(axes).argmax(axis=0), range(4)] > 0).all()


def test_weights_bring_each_feature_to_its_deviation():
    rows = _rows(f=4)
    weight = np.array([1.0, 0.5, 0.25, 0.1])
    fitted = _streamed(rows, 100).components(4, weight)
    scaled = (rows - fitted.mean) / fitted.scale
    np.testing.assert_allclose(scaled.std(axis=0), weight, rtol=1e-3)


def test_a_constant_feature_stays_out():
    rows = _rows(f=4)
    rows[:, 2] = 7
    fitted = _streamed(rows, 100).components(9, np.ones(4))
    assert fitted.axes.shape == (4, 3)
    np.testing.assert_allclose(fitted.axes[2], 0, atol=1e-6)


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.ones((1, 3)), np.ones((9, 3))])
def test_nothing_to_learn_from_is_an_error(rows):
    moments = Moments(3)
    if len(rows):
        moments.add(rows)
    with pytest.raises(InputError):
        moments.components(2)
