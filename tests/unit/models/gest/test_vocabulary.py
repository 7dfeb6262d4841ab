from __future__ import annotations

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.models.gest.params import Params
from mistline.models.gest.vocabulary import columns, fit, whitened
from tests.unit.models.gest.synthetic import K, Tissue, vocabulary

SETTINGS = {"size": "tiny", "n_metacells": K, "n_components": 4, "levels": (3, 2), "min_cells_metacell": 5}


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    return Tissue(n=600, own=False)


def test_profiles_are_centred_and_white():
    found = whitened(vocabulary().expression, 50)
    assert found.shape == (K, K - 1)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.T @ found / K, np.eye(K - 1), atol=1e-4)
    assert whitened(vocabulary().expression, 2).shape == (K, 2)


def test_planted_kinds_are_found_and_asked_for(tissue):
    found, query = fit(tissue, Params(**SETTINGS), 0)
    given = query.assign(tissue.expression, np.ones_like(tissue.expression, dtype=bool))
    pairs = {(int(own), int(kind)) for own, kind in zip(given, tissue.metacell, strict=True)}
    assert len(pairs) == K  # one meta-cell a kind
    for own, kind in pairs:
        np.testing.assert_allclose(found.expression[own], vocabulary().expression[kind], atol=0.1)
    assert (np.diff(np.bincount(given)) <= 0).all()
    assert [level.max() + 1 for level in found.levels.T] == [3, 2]


def test_the_seed_gives_the_same_bytes(tissue):
    one, two = (fit(tissue, Params(**SETTINGS), 3)[0] for _ in range(2))
    assert one.expression.tobytes() == two.expression.tobytes()
    assert one.levels.tobytes() == two.levels.tobytes()


def test_genes_that_were_not_measured_say_nothing(tissue):
    _, query = fit(tissue, Params(**SETTINGS), 0)
    measured = np.ones_like(tissue.expression, dtype=bool)
    measured[:, 3] = False
    other = tissue.expression.copy()
    other[:, 3] = 99
    np.testing.assert_array_equal(query.scores(tissue.expression, measured), query.scores(other, measured))


def test_a_slide_with_too_few_of_the_genes_is_refused(tissue):
    other = Tissue(n=20, own=False)
    other.panels = {"s": np.arange(len(other.genes)) < 4}
    with pytest.raises(InputError, match="33%"):
        columns(tissue.genes, other, 0.5)
    other.genes = ("elsewhere", *other.genes[1:])
    assert columns(tissue.genes, other, 0.2)[:2].tolist() == [-1, 1]


def test_more_meta_cells_than_cells_are_refused():
    with pytest.raises(InputError, match="training cells"):
        fit(Tissue(n=4, own=False), Params(**SETTINGS), 0)
