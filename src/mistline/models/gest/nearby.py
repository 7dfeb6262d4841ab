"""What lies nearby, mixed with what the network says: a copy of the seen meta-cells by their distance (`copies`).

No part of the paper. A network that saw few cells does not learn to say what the nearest seen cells say; here it need
not: with attention that falls off over a learned distance and a share that depends on the hidden state,

    p = (1 - s) softmax(z) + s sum_i a_i [meta-cell i],   a = softmax(-|x - x_i| / w).

`R` asked places, `n` seen cells, `K` meta-cells, `D` width of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_REACH_UM = 30.0  # w at the beginning
_LEAST = 1e-6  # of a copied probability, so that its logarithm is finite


class Nearby(nn.Module):
    """See the module.

    Args:
        width: D.
        n_metacells: K.
    """

    def __init__(self, width: int, n_metacells: int) -> None:
        super().__init__()
        self.n_metacells = n_metacells
        self.share = nn.Linear(width, 1)
        nn.init.zeros_(self.share.weight)
        nn.init.zeros_(self.share.bias)
        self.log_reach = nn.Parameter(torch.tensor(_REACH_UM).log())

    def forward(self, h: Tensor, said: Tensor, places: Tensor, seen: Tensor, content: Tensor) -> Tensor:
        """Return log-probabilities [R, K] of places that all see the same cells.

        Args:
            h: [R, D].
            said: [R, K] scores of the network.
            places: [R, 2] um.
            seen: [n, 2] um.
            content: int64 [n].
        """
        return self._mixed(h, said, self._copied(torch.cdist(places, seen), content))

    def in_order(
        self, h: Tensor, said: Tensor, places: Tensor, seen: Tensor, content: Tensor, lengths: Sequence[int]
    ) -> Tensor:
        """Return log-probabilities [R, K] of packed windows; the place after cell i of a window sees cells 1 to i.

        Args:
            h: [R, D].
            said: [R, K].
            places: [R, 2] um.
            seen: [R, 2] um, as many as there are places.
            content: int64 [R].
            lengths: of each window, adding up to R.
        """
        parts = zip(*(value.split(list(lengths)) for value in (places, seen, content)), strict=True)
        copied = []
        for asked, cells, own in parts:
            later = torch.ones(len(own), len(own), dtype=torch.bool, device=own.device).triu(1)
            copied.append(self._copied(torch.cdist(asked, cells), own, later))
        return self._mixed(h, said, torch.cat(copied))

    def _copied(self, away_um: Tensor, content: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return [R, K] of distances [R, n], of which some are not to be seen."""
        scores = -away_um / self.log_reach.exp()
        # Hidden after the division: an infinite distance would make its gradient nan.
        attention = (scores if hidden is None else scores.masked_fill(hidden, -torch.inf)).softmax(dim=1)
        return attention @ functional.one_hot(content, self.n_metacells).to(attention.dtype)

    def _mixed(self, h: Tensor, said: Tensor, copied: Tensor) -> Tensor:
        share = self.share(h).float()
        own = said.float().log_softmax(dim=1) + functional.logsigmoid(-share)
        return torch.logaddexp(own, copied.float().clamp(min=_LEAST).log() + functional.logsigmoid(share))
