from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.models.contract import Context
from mistline.models.spage.model import Model, components
from mistline.models.spage.params import Params
from tests.unit.models.paired import correlation, paired

CONTEXT = Context(0, "cpu", 1, Path("nowhere"))


def impute(view, **settings):
    model = Model.create(Params(**settings), view, CONTEXT)
    rows = list(model.fit(view, CONTEXT))
    return model.impute(view, CONTEXT), rows


def test_wanted_genes_come_back_better_than_of_permuted_single_cells():
    view, truth = paired()
    found, rows = impute(view, n_components=10)
    assert found.mean.shape == truth.shape
    assert found.sd is None
    assert 1 <= rows[0]["vectors"] <= rows[0]["components"] == 10
    order = np.random.default_rng(0).permutation(len(view.reference))
    permuted, _ = impute(replace(view, wanted_reference=view.wanted_reference[order]), n_components=10)
    assert correlation(truth, found.mean) > 0.5
    assert abs(correlation(truth, permuted.mean)) < 0.2


def test_the_same_view_gives_the_same_bytes_and_order_of_cells_is_nothing():
    view, _ = paired(n=50, m=60)
    found, _ = impute(view)
    assert impute(view)[0].mean.tobytes() == found.mean.tobytes()
    turned = replace(view, spatial=view.spatial[::-1], cell_id=view.cell_id[::-1])
    np.testing.assert_allclose(impute(turned)[0].mean[::-1], found.mean, rtol=1e-3, atol=1e-3)


def test_sides_that_are_the_same_have_vectors_of_cosine_one():
    view, _ = paired(n=100, n_genes=8)
    _, rows = impute(replace(view, reference=view.spatial, wanted_reference=view.wanted_reference[:100]))
    assert rows[0]["cosine_first"] == pytest.approx(1)
    assert rows[0]["vectors"] == rows[0]["components"] == 8


def test_components_are_those_of_the_singular_values():
    values = paired(n=40)[0].spatial
    values = values - values.mean(axis=0)
    _, _, axes = np.linalg.svd(values.astype(np.float64), full_matrices=False)
    found = components(values, 3)
    np.testing.assert_allclose(np.abs(np.sum(found * axes[:3].T, axis=0)), 1, atol=1e-6)


def test_a_pair_that_is_too_small_is_one_sentence():
    view, _ = paired(n=1)
    with pytest.raises(InputError, match="slide s: 1 cells, and SpaGE needs 2"):
        Model.create(Params(), view, CONTEXT)
