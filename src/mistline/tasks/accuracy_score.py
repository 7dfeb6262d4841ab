"""The accuracy score of benchmarks of imputation: one figure a row, from its ranks among the rows of a table.

Rows are ranked by each of four metrics, the best one gets as many points as there are rows, and the score is the mean
of its four points over the number of rows. It compares the rows of one table and says nothing of how far they are
apart; ranks of genes within one method, which are the same for every method, make no such score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mistline.core.metrics import direction

RANKED = ("pcc", "ssim", "rmse", "js")


def accuracy_scores(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return row -> its score in (0, 1], models and controls ranked together; nothing where a metric is missing.

    Args:
        metrics: metric -> what `compare` tells of it.
    """
    from scipy.stats import rankdata

    if any(name not in metrics for name in RANKED):
        return {}
    means = [{row: told["mean"] for row, told in metrics[name]["rows"].items()} for name in RANKED]
    rows = sorted(set.intersection(*(set(own) for own in means)))
    if not rows:
        return {}
    # Rows of equal values share their mean rank: equal methods have equal scores.
    ranks = [rankdata([direction(name) * own[row] for row in rows]) for name, own in zip(RANKED, means, strict=True)]
    return dict(zip(rows, (np.mean(ranks, axis=0) / len(rows)).tolist(), strict=True))
