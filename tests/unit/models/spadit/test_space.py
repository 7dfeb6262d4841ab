"""Components of training genes, from products of genes alone."""

from __future__ import annotations

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.models.spadit import space as own
from mistline.models.spadit.space import Measured, Space
from tests.unit.models.spadit.pairs import pair


def _measured() -> Measured:
    view, _ = pair()
    return Measured.of(view.spatial, view.is_val)


def test_all_components_give_training_genes_back():
    measured = _measured()
    places = np.flatnonzero(~measured.is_val)
    space = Space.of(measured, "pca", 128)
    z = measured.standardised()[:, places]
    rest = space.variables(measured, z - z.mean(axis=1, keepdims=True))
    assert rest.shape == (len(places), len(places) - 1)
    for rows, values in measured.chunks():
        back = space.at_cells(rows, values, rest) + values.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(back, z[rows], atol=1e-6)


def test_fewer_components_are_the_leading_ones_of_the_usual_decomposition():
    measured = _measured()
    places = np.flatnonzero(~measured.is_val)
    z = measured.standardised()[:, places]
    centred = z - z.mean(axis=1, keepdims=True)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    space = Space.of(measured, "pca", 3)
    rest = space.variables(measured, centred)
    parts = [space.at_cells(rows, values, rest) for rows, values in measured.chunks()]
    np.testing.assert_allclose(np.concatenate(parts), left[:, :3] * sizes[:3] @ right[:3], atol=1e-6)


def test_a_validation_gene_is_its_projection():
    measured = _measured()
    space = Space.of(measured, "pca", 5)
    gene = np.flatnonzero(measured.is_val)[:1]
    z = measured.standardised()
    u = z[:, ~measured.is_val] @ space.axes
    np.testing.assert_allclose(u.T @ u / len(u), np.eye(5), atol=1e-8)
    np.testing.assert_allclose(space.variables(measured, z[:, gene])[0], u.T @ z[:, gene[0]] / len(u), atol=1e-8)


def test_raw_space_is_the_gene_at_every_cell():
    measured = _measured()
    places = np.flatnonzero(~measured.is_val)
    space = Space.of(measured, "raw", 5)
    z = measured.standardised()[:, places]
    rest = space.variables(measured, z)
    np.testing.assert_array_equal(rest.T, z)
    rows = slice(10, 20)
    np.testing.assert_array_equal(space.at_cells(rows, z[rows], rest), rest[:, rows].T)


def test_chunks_of_cells_do_not_matter(monkeypatch):
    view, _ = pair()
    whole = Measured.of(view.spatial, view.is_val)
    monkeypatch.setattr(own, "_ROWS", 7)
    np.testing.assert_allclose(Measured.of(view.spatial, view.is_val).products, whole.products, atol=1e-9)


def test_a_gene_that_does_not_vary_is_zero_and_a_slide_of_such_is_refused():
    view, _ = pair()
    values = view.spatial.copy()
    values[:, 1] = 2
    measured = Measured.of(values, view.is_val)
    assert not measured.standardised()[:, 1].any()
    assert np.isfinite(Space.of(measured, "pca", 128).axes).all()
    with pytest.raises(InputError, match="none varies"):
        Space.of(Measured.of(np.ones_like(values), view.is_val), "pca", 128)
