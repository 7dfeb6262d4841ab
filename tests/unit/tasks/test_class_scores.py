from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score

from mistline.tasks.class_scores import METRICS, accuracy, macro_f1, macro_precision, table


def test_by_hand():
    # true a a a b, said a a b b: precision 1 and 1/2, recall 2/3 and 1, F1 4/5 and 2/3
    found = table(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), 3)
    assert macro_f1(found)[0] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert macro_precision(found)[0] == pytest.approx(0.75)
    assert accuracy(found)[0] == 0.75


def test_a_class_that_is_predicted_and_never_true_counts_zero():
    found = table(np.array([0, 0, 2]), np.array([0, 0, 0]), 3)
    assert macro_f1(found)[0] == pytest.approx((0.8 + 0) / 2)
    assert macro_precision(found)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_as_scikit_learn_has_it(seed):
    rng = np.random.default_rng(seed)
    truth, said = rng.integers(0, 4, 40), rng.integers(1, 6, 40)
    found = table(said, truth, 7)
    assert macro_f1(found)[0] == pytest.approx(f1_score(truth, said, average="macro"))
    assert macro_precision(found)[0] == pytest.approx(precision_score(truth, said, average="macro", zero_division=0))
    assert accuracy(found)[0] == pytest.approx(accuracy_score(truth, said))


def test_many_tables_are_each_scored_and_an_empty_one_has_no_score():
    one = table(np.array([0, 1]), np.array([0, 0]), 2)
    both = np.concatenate([one, np.zeros_like(one)])
    for function in METRICS.values():
        assert function(both)[0] == function(one)[0]
        assert np.isnan(function(both)[1])
