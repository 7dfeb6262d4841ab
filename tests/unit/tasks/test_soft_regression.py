from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from mistline.tasks import soft_regression
from mistline.tasks.soft_regression import cross_entropy, fit


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    weights = np.array([[2.0, 0.0, -2.0], [0.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    return points, softmax(points @ weights, axis=1)


def test_proportions_are_recovered(planted):
    points, truth = planted
    fitted = fit(points[:200], truth[:200], points[200:300], truth[200:300])
    predicted = fitted.predict(points[300:])
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert np.abs(predicted - truth[300:]).max() < 0.02
    assert fitted.l2 == min(soft_regression.L2)


def test_cross_entropy_by_hand():
    predicted, truth = np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([[1.0, 0.0], [0.5, 0.5]])
    assert cross_entropy(predicted, truth) == pytest.approx((np.log(2) - 0.5 * np.log(0.25 * 0.75)) / 2)
    assert cross_entropy(predicted[:0], truth[:0]) == 0


def test_without_signal_the_answer_is_the_mean():
    truth = np.array([[0.8, 0.2], [0.4, 0.6]])
    fitted = fit(np.ones((2, 3)), truth, np.zeros((0, 3)), np.zeros((0, 2)))
    np.testing.assert_allclose(fitted.predict(np.full((1, 3), 7.0)), [[0.6, 0.4]], atol=1e-4)
    assert (fitted.scale == 1).all()


def test_noise_asks_for_the_strongest_penalty():
    rng = np.random.default_rng(1)
    points, truth = rng.normal(size=(60, 40)), rng.dirichlet([1, 1, 1], 60)
    assert fit(points[:30], truth[:30], points[30:], truth[30:]).l2 == max(soft_regression.L2)


def test_a_class_that_is_never_seen_is_unlikely_but_not_impossible(planted):
    points, _ = planted
    truth = np.column_stack([np.ones(400), np.zeros(400)])
    predicted = fit(points[:300], truth[:300], points[300:], truth[300:]).predict(points)
    assert (predicted[:, 1] > 0).all()
    assert predicted[:, 1].max() < 0.05
