from __future__ import annotations

import pytest

from mistline.tasks.accuracy_score import RANKED, accuracy_scores


def told(**rows) -> dict:
    """Return what `compare` tells of the four metrics: row -> (pcc, ssim, rmse, js)."""
    return {
        name: {"rows": {row: {"mean": values[number]} for row, values in rows.items()}}
        for number, name in enumerate(RANKED)
    }


def test_equal_methods_have_equal_scores():
    assert accuracy_scores(told(a=(0.5, 0.4, 1.0, 0.2), b=(0.5, 0.4, 1.0, 0.2))) == {"a": 0.75, "b": 0.75}


def test_points_are_ranks_from_the_worst_row():
    # Points of a: 3, 2, 3, 3; of b: 2, 3, 2, 1; of c: 1, 1, 1, 2. Small is good for the last two.
    found = accuracy_scores(told(a=(0.9, 0.5, 0.4, 0.1), b=(0.5, 0.6, 1.0, 0.4), c=(0.1, 0.1, 1.3, 0.3)))
    assert found == {"a": pytest.approx(11 / 12), "b": pytest.approx(8 / 12), "c": pytest.approx(5 / 12)}


def test_other_tables_have_none():
    assert accuracy_scores({"pcc": {"rows": {"a": {"mean": 1.0}}}}) == {}
