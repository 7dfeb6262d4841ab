"""What of a cell a generator is told: readings, tokens and the protocols made of them. No torch is imported.

The frozen run that gives the condition embeds a slide twice. Reading `all` is what it embeds from everything it reads.
Reading `genes` is made from genes alone at every level: neither the cell's own image is read nor those of its niche
and region, in which the cell's pixels would be seen. The cell itself takes no part in its z_n and z_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

READINGS = ("all", "genes")
TOKENS = ("z", "z_gene", "z_n", "z_t")


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of asking for an image.

    Args:
        reading: which reading its tokens are of.
        tokens: those that are told; the others are the null tokens of their places.
    """

    reading: str
    tokens: tuple[str, ...]

    def is_offered(self, present: Sequence[Sequence[bool]]) -> bool:
        """Return whether a run gives any of the tokens.

        Args:
            present: [2][4], by reading and token.
        """
        own = present[READINGS.index(self.reading)]
        return any(own[TOKENS.index(token)] for token in self.tokens)


MODES = {
    "recon": Mode("all", TOKENS),
    "gene2img": Mode("genes", TOKENS),
    "context2img": Mode("genes", ("z_n", "z_t")),
}


def offered(present: Sequence[Sequence[bool]]) -> tuple[str, ...]:
    """Return the modes for which a run gives any token."""
    return tuple(name for name, mode in MODES.items() if mode.is_offered(present))
