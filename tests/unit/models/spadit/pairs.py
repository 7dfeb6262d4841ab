"""A slide and single cells in memory whose genes follow a few programs, alike in both up to noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mistline.models.contract import Context
from mistline.scrna.view import TrainView


def context(tmp_path, seed: int = 0) -> Context:
    return Context(seed, "cpu", 1, tmp_path)


def pair(n: int = 150, m: int = 120, n_genes: int = 24, n_wanted: int = 4, seed: int = 0):
    """Return (view, truth [n, W])."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(3, n_genes + n_wanted))
    values = [
        np.log1p(np.exp(rng.normal(size=(rows, 3)) @ loadings + 0.5 * rng.normal(size=(rows, n_genes + n_wanted))))
        for rows in (n, m)
    ]
    slide, reference = (value.astype(np.float32) for value in values)
    view = TrainView(
        slide="s",
        cell_id=np.array([f"c{number}" for number in range(n)]),
        genes=tuple(f"G{number}" for number in range(n_genes)),
        is_val=np.arange(n_genes) % 6 == 0,
        spatial=slide[:, :n_genes],
        counts=None,
        xy_um=np.full((n, 2), np.nan),
        reference=reference[:, :n_genes],
        reference_counts=None,
        wanted=tuple(f"W{number}" for number in range(n_wanted)),
        wanted_reference=reference[:, n_genes:],
        wanted_counts=None,
    )
    return view, slide[:, n_genes:]


def asked(view: TrainView, places: list[int]) -> TrainView:
    """Return the view with some of the wanted genes alone."""
    wanted = tuple(view.wanted[place] for place in places)
    return replace(view, wanted=wanted, wanted_reference=view.wanted_reference[:, places])


def with_wanted(view: TrainView, slide: np.ndarray) -> TrainView:
    """Return a view that was cut out of a whole matrix [n, G + W], as a guarded one is."""
    return replace(view, spatial=np.ascontiguousarray(slide[:, : len(view.genes)]))


def pcc(told: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(told.T, truth.T, strict=True)])
