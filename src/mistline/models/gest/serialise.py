"""In which order the cells of a window are read (specs/gest.md section 5).

A window has an anchor, one of its four corners. Equation 5 as printed draws without replacement with probabilities
that grow with the distance to it; that order is nearly random, so the rule by default sorts by a distance with noise.

`M` cells of all windows together, `B` windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mistline.models.gest.params import Rule

CORNERS = ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5))  # of a window of side 1 around 0
_NEAR = 1e-3  # micrometres that a cell at the anchor itself is taken to be away from it


@dataclass(frozen=True, slots=True)
class Serialisation:
    """How orders are drawn.

    Args:
        rule: `sorted` by distance to the anchor; `jitter`, with a normal draw added to it; `inverse_power` and
            `paper_eq5`, drawn without replacement by weights 1 / distance^power and distance; `random`.
        power: of `inverse_power`.
        random_share: share of windows that are in random order whatever the rule.
    """

    rule: Rule = "jitter"
    power: float = 4.0
    random_share: float = 0.0

    def __call__(
        self, delta_um: Tensor, window: Tensor, side_um: float, jitter_um: Tensor, draw: torch.Generator
    ) -> Tensor:
        """Return int64 [M], which cell comes where: cells of a window stay together, windows in their order.

        Args:
            delta_um: [M, 2] places relative to the centres of their windows.
            window: int64 [M] number of the window of each cell, rising.
            side_um: of the windows.
            jitter_um: [B] standard deviation of the draws of `jitter`.
            draw: where draws come from.
        """
        n, device = len(jitter_um), delta_um.device
        corner = torch.randint(len(CORNERS), (n,), generator=draw, device=device)
        key = self.keys(distances(delta_um, corner[window], side_um), jitter_um[window], draw)
        if self.random_share:
            is_random = torch.rand(n, generator=draw, device=device) < self.random_share
            key = torch.where(is_random[window], torch.rand(len(key), generator=draw, device=device), key)
        return arranged(key, window)

    def keys(self, distance: Tensor, jitter: Tensor, draw: torch.Generator) -> Tensor:
        """Return [M] by which cells are sorted, rising.

        Drawing without replacement by weights w is sorting by exponential variates divided by w.

        Args:
            distance: [M] to the anchor, micrometres.
            jitter: [M] micrometres.
            draw: where draws come from.
        """
        if self.rule == "sorted":
            return distance
        if self.rule == "jitter":
            return distance + jitter * torch.randn(distance.shape, generator=draw, device=distance.device)
        drawn = torch.rand(distance.shape, generator=draw, device=distance.device)
        if self.rule == "random":
            return drawn
        waits = -torch.log1p(-drawn)  # exponential; in logarithms, so that no power overflows
        weight = distance.clamp(min=_NEAR).log() * (1.0 if self.rule == "paper_eq5" else -self.power)
        return waits.clamp(min=torch.finfo(waits.dtype).tiny).log() - weight


def distances(delta_um: Tensor, corner: Tensor, side_um: float) -> Tensor:
    """Return [M], how far cells are from an anchor.

    Args:
        delta_um: [M, 2] places relative to the centre of the window.
        corner: int64 [M] anchor of each, a place in `CORNERS`.
        side_um: of the window.
    """
    anchor = delta_um.new_tensor(CORNERS)[corner] * side_um
    return (delta_um - anchor).norm(dim=1)


def arranged(key: Tensor, window: Tensor) -> Tensor:
    """Return int64 [M], the cells window by window, in each by rising key; equal ones in the order they have."""
    by_key = torch.argsort(key, stable=True)
    return by_key[torch.argsort(window[by_key], stable=True)]
