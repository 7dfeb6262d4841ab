"""Genes of the cells of a circle changed, and the ring around it generated from that (GeST, section 4.4 and A.5).

Values are log-normalised. `r` is the distance from the circle's centre, `s` the width of the change:

    activated:  a exp(-r^2 / 2 s^2), whatever the cell had; `a` is the gene's largest value on the visible slide
    inhibited:  g (1 - exp(-r^2 / 2 s^2)), of its own value g

The changed profiles are seen as the cells were before: as their nearest meta-cells, which can undo a small change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.config.perturbation import Perturbation
from mistline.core.seeds import generator
from mistline.graphs.rois import Elsewhere, Roi, away_um
from mistline.infer.fill import Control, Filling, fill
from mistline.infer.fill_slides import Cells
from mistline.infer.requantise import Profiles, Values
from mistline.store.perturbed import CONTROL, ELSEWHERE, PERTURBED, RANDOM_GENES

Columns = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Which genes are changed.

    Args:
        activated: columns of the profiles.
        inhibited: the same.
    """

    activated: Columns
    inhibited: Columns

    def other(self, measured: NDArray[np.bool_], seed: int, *names: str | int) -> Change:
        """Return as many other measured genes, or as many as there are, changed the same ways."""
        own = {*self.activated, *self.inhibited}
        free = np.array([column for column in np.flatnonzero(measured).tolist() if column not in own], dtype=np.int64)
        drawn = generator(seed, "perturb", "genes", *names).permutation(free).tolist()
        n = len(self.activated)
        return Change(tuple(drawn[:n]), tuple(drawn[n : n + len(self.inhibited)]))


def changed(profiles: Values, away: NDArray[np.float64], change: Change, peak: Values, width_um: float) -> Values:
    """Return changed profiles.

    Args:
        profiles: [n, T] log-normalised.
        away: [n] distance from the centre of the change, um.
        change: the genes.
        peak: [T] largest value of each gene on the visible slide.
        width_um: of the change.
    """
    share = np.exp(-np.square(away) / (2 * width_um**2))[:, None]
    found = profiles.copy()
    raised, lowered = list(change.activated), list(change.inhibited)
    found[:, raised] = share * peak[raised]
    found[:, lowered] = profiles[:, lowered] * (1 - share)
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """A circle with its ring, and what changing it needs of the slide.

    Args:
        roi: the circle and the ring.
        elsewhere: a circle far away.
        change: the genes of the settings.
        other: as many others.
        peak: [T] largest values of the slide without the ring.
        inside: [n, T] profiles of the circle.
        far: [m, T] those of the circle far away.
        genes: [T] ids.
    """

    roi: Roi
    elsewhere: Elsewhere
    change: Change
    other: Change
    peak: Values
    inside: Values
    far: Values
    genes: tuple[str, ...]

    def names_of(self, columns: Columns) -> list[str]:
        """Return the ids of genes."""
        return [self.genes[column] for column in columns]


@dataclass(frozen=True, slots=True)
class Variant:
    """A ring as it was generated.

    Args:
        name: one of `store.perturbed.VARIANTS`.
        sigma: width of the change in radii; 0 for the control.
        share_changed: of the changed circle's cells, how many are seen otherwise than before.
        filling: the ring's cells.
    """

    name: str
    sigma: float
    share_changed: float
    filling: Filling


def variants(
    model: Any, cells: Cells, profiles: Profiles, place: Place, rule: Perturbation, control: Control | None = None
) -> Iterator[Variant]:
    """Yield the ring generated from the circle as measured, and from each change of it.

    Args:
        model: a `fill.Filler`.
        cells: of the slide.
        profiles: how its cells are read.
        place: the circle.
        rule: widths.
        control: of filling.
    """
    hidden = np.zeros(len(cells.cell_id), dtype=bool)
    hidden[place.roi.ring] = True
    yield Variant(CONTROL, 0.0, 0.0, fill(model, cells.xy_um, cells.content, hidden, control))
    here, there = (place.roi, place.inside), (place.elsewhere, place.far)
    asked: list[tuple[str, float, tuple[Any, Values], Change]] = [
        *((PERTURBED, sigma, here, place.change) for sigma in rule.sigmas),
        (RANDOM_GENES, rule.sigma, here, place.other),
        (ELSEWHERE, rule.sigma, there, place.change),
    ]
    for name, sigma, (circle, own), change in asked:
        away = away_um(cells.xy_um[circle.inside], circle.centre_um)
        told = profiles.content(changed(own, away, change, place.peak, sigma * rule.radius_um))
        content = np.array(cells.content)
        content[circle.inside] = told
        yield Variant(
            name,
            sigma,
            _differs(told, cells.content[circle.inside]),
            fill(model, cells.xy_um, content, hidden, control),
        )


def _differs(told: NDArray[Any], before: NDArray[Any]) -> float:
    is_other = told != before if told.ndim == 1 else ~np.isclose(told, before, atol=1e-5).all(axis=1)
    return float(is_other.mean())


def needed_rows(rois: Sequence[Roi], others: Sequence[Elsewhere]) -> NDArray[np.int64]:
    """Return the rows of all circles, rising: the cells whose whole profiles are held."""
    return np.unique(np.concatenate([circle.inside for circle in (*rois, *others)]))
