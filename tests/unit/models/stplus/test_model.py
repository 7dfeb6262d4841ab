from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from mistline.models.contract import Context
from mistline.models.stplus.model import Model
from mistline.models.stplus.params import Params
from tests.unit.models.paired import correlation, paired

SMALL = {"hidden": 32, "latent": 8, "steps": 120, "batch": 64, "neighbours": 20}


def fitted(view, seed=0, **settings):
    context = Context(seed, "cpu", 1, Path("nowhere"))
    model = Model.create(Params(**{**SMALL, **settings}), view, context)
    rows = list(model.fit(view, context))
    return (lambda other: model.impute(other, context)), rows


def test_wanted_genes_come_back_better_than_of_permuted_single_cells():
    view, truth = paired()
    impute, rows = fitted(view)
    found = impute(view)
    assert found.mean.dtype == np.float32
    assert found.sd is None
    assert [row["step"] for row in rows] == [50, 100, 120]
    assert rows[-1]["loss"] < rows[0]["loss"]
    order = np.random.default_rng(0).permutation(len(view.reference))
    permuted = impute(replace(view, wanted_reference=view.wanted_reference[order]))
    assert correlation(truth, found.mean) > 0.5
    assert abs(correlation(truth, permuted.mean)) < 0.25


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    view, _ = paired(n=30, m=40)
    first, again, other = (fitted(view, seed, steps=5)[0](view).mean.tobytes() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_states_are_of_the_last_half_of_training():
    view, _ = paired(n=10, m=10)
    model = Model.create(Params(**{**SMALL, "steps": 9, "snapshots": 3}), view, Context(0, "cpu", 1, Path("nowhere")))
    assert model._kept() == [5, 7, 9]
    with pytest.raises(ValidationError, match="3 states of 2 steps"):
        Params(steps=2)
