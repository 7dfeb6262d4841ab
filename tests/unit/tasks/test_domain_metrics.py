from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn import metrics as reference

from mistline.graphs.build import nearest
from mistline.tasks.domain_metrics import border_curve, borders, heated, log_loss, tally, temperature

N, L = 300, 5


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1000, (N, 2))
    labels = (xy[:, 0] // 200).astype(np.int64)
    logits = rng.normal(size=(N, L)) + 2.0 * np.eye(L)[labels]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return xy, labels, probability


def scored(drawn, k: int = 6):
    xy, labels, probability = drawn
    where = borders(nearest(xy, k), labels, xy, L)
    return where, {name: float(value[0]) for name, value in tally(probability, labels, where).scores().items()}


def test_scores_agree_with_scikit_learn(drawn):
    _, labels, probability = drawn
    found = scored(drawn)[1]
    predicted = probability.argmax(axis=1)
    expected = {
        "ari": reference.adjusted_rand_score(labels, predicted),
        "nmi": reference.normalized_mutual_info_score(labels, predicted),
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "macro_f1": reference.f1_score(labels, predicted, average="macro"),
        "top2": reference.top_k_accuracy_score(labels, probability, k=2),
        "log_loss": reference.log_loss(labels, probability),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_the_border_equals_a_brute_force_search(drawn):
    xy, labels, _probability = drawn
    labels = labels.copy()
    labels[::7] = -1
    graph = nearest(xy, 6)
    where = borders(graph, labels, xy, L)
    for cell in range(N):
        around = [other for other in graph[cell].indices if labels[other] >= 0]
        is_ring = labels[cell] >= 0 and any(labels[other] != labels[cell] for other in around)
        assert where.is_ring[cell] == is_ring
        near = {labels[other] for other in around} | ({labels[cell]} if labels[cell] >= 0 else set())
        assert set(np.flatnonzero(where.near[cell])) == near


def test_ring_accuracy_depends_on_the_ring_alone(drawn):
    _xy, labels, probability = drawn
    where, found = scored(drawn)
    right = probability.argmax(axis=1) == labels
    assert found["ring_accuracy"] == pytest.approx(right[where.is_ring].mean())
    assert found["interior_accuracy"] == pytest.approx(right[~where.is_ring].mean())
    assert found["within_one_ring"] >= found["accuracy"]


def test_one_domain_has_no_border():
    xy = np.random.default_rng(1).uniform(0, 10, (20, 2))
    where = borders(nearest(xy, 3), np.zeros(20, dtype=np.int64), xy, 2)
    assert not where.is_ring.any()
    assert np.isinf(where.distance_um).all()
    probability = np.tile([0.9, 0.1], (20, 1))
    found = tally(probability, np.zeros(20, dtype=np.int64), where).scores()
    assert np.isnan(found["ring_accuracy"][0])
    assert found["interior_accuracy"][0] == 1


def test_calibration_of_honest_and_boastful_probabilities():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 20_000)
    probability = np.column_stack([sure, 1 - sure])
    labels = (rng.uniform(size=len(sure)) > sure).astype(np.int64)
    where = borders(sparse.csr_matrix((len(sure), len(sure)), dtype=bool), labels, np.zeros((len(sure), 2)), 2)
    honest = tally(probability, labels, where).scores()["ece"][0]
    boastful = tally(heated(probability, 0.3), labels, where).scores()["ece"][0]
    assert honest < 0.015
    assert boastful > 0.1
    assert temperature(heated(probability, 0.3), labels) == pytest.approx(1 / 0.3, rel=0.1)


def test_heat_keeps_the_order_and_the_sum(drawn):
    probability = drawn[2]
    for t in (0.2, 1.0, 5.0):
        found = heated(probability, t)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        np.testing.assert_array_equal(found.argmax(axis=1), probability.argmax(axis=1))
    np.testing.assert_allclose(heated(probability, 1.0), probability)


def test_replicates_scatter_around_the_estimate(drawn):
    _xy, labels, probability = drawn
    counted = tally(probability, labels, scored(drawn)[0])
    replicates = counted.resampled(4000, np.random.default_rng(0)).scores()
    estimate = counted.scores()
    p = estimate["accuracy"][0]
    assert replicates["accuracy"].mean() == pytest.approx(p, abs=0.003)
    assert replicates["accuracy"].std() == pytest.approx(np.sqrt(p * (1 - p) / N), rel=0.1)
    assert replicates["log_loss"].mean() == pytest.approx(estimate["log_loss"][0], abs=0.01)


def test_equal_probabilities_are_no_merit():
    labels = np.zeros(50, dtype=np.int64)
    where = borders(sparse.csr_matrix((50, 50), dtype=bool), labels, np.zeros((50, 2)), L)
    found = tally(np.full((50, L), 1 / L), labels, where).scores()
    assert found["top2"][0] == 0  # two of five equal places would be luck
    assert found["log_loss"][0] == pytest.approx(np.log(L))


def test_the_curve_counts_every_cell_once(drawn):
    _xy, labels, probability = drawn
    where = scored(drawn)[0]
    curve = border_curve(probability.argmax(axis=1), labels, where.distance_um)
    assert sum(item["n"] for item in curve) == N
    assert curve[0]["from_um"] == 0


def test_a_certain_mistake_costs_no_infinity():
    assert np.isfinite(log_loss(np.array([[1.0, 0.0]]), np.array([1])))
