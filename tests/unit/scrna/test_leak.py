from __future__ import annotations

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.scrna.leak import refuse_shown, shown_share

N, GENES = 800, 30


def random() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture(scope="module")
def slide() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sparse log values [n, W] of two kinds of cells, the kind of each cell, and whether a kind has a gene."""
    rng = np.random.default_rng(0)
    kind, has = rng.integers(0, 2, N), rng.uniform(size=(2, GENES)) < 0.4
    counts = rng.poisson(np.where(has, 1.5, 0.05)[kind])
    return np.log1p(counts * rng.uniform(50, 150, (N, 1))).astype(np.float32), kind, has


def test_measured_values_of_which_some_are_set_to_zero_are_refused(slide):
    truth, hidden = slide[0], np.random.default_rng(2).uniform(size=slide[0].shape) < 0.3
    pasted = np.where(hidden & (truth > 0), 0, truth).astype(np.float32)
    assert shown_share(truth, pasted, random()) > 0.1
    with pytest.raises(InputError, match=r"genes of x: \d+\.\d% of the values equal the measured ones beyond chance"):
        refuse_shown("genes of x", truth, pasted, random())
    # Another rounding of the same values is the same.
    assert shown_share(truth, np.expm1(np.log1p(pasted.astype(np.float64))).astype(np.float32), random()) > 0.1


def test_zeros_that_are_all_where_they_were_measured_are_refused(slide):
    noise = np.random.default_rng(2).normal(0, 1, slide[0].shape)
    assert shown_share(slide[0], np.where(slide[0] > 0, slide[0] + noise, 0).astype(np.float32), random()) > 0.1


def test_one_measured_gene_of_thirty_is_enough(slide):
    guess = np.random.default_rng(2).normal(3, 1, slide[0].shape).astype(np.float32)
    guess[:, 0] = slide[0][:, 0]
    assert shown_share(slide[0], guess, random()) > 0.01


def test_honest_predictions_are_not(slide):
    truth, kind, has = slide
    rng = np.random.default_rng(2)
    means = np.array([truth[kind == k].mean(axis=0) for k in (0, 1)])
    by_kind = np.where(has, means, 0)[kind].astype(np.float32)  # exact zeros where a kind lacks a gene
    sparse = (by_kind * (rng.uniform(size=by_kind.shape) < 0.7)).astype(np.float32)
    good = (truth + rng.normal(0, 0.1, truth.shape)).astype(np.float32)
    for honest in (by_kind, sparse, good, np.zeros_like(truth)):
        assert shown_share(truth, honest, random()) < 0.005
        refuse_shown("x", truth, honest, random())
    equal = np.mean((by_kind == truth) & (truth == 0)) - np.mean(random().permuted(by_kind, axis=0) == truth)
    assert equal > 0.05  # plain counting would have refused it
