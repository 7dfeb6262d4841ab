"""The zero-shot niche embedding of every cell of a slide (specs/gest.md section 10).

All cells of the niche are read, the embedded one first and the others by their distance to a corner; then its place is
asked, which sees all of them. The hidden state there, the mean over the corners, is the embedding. Nothing is drawn:
where the training's rule has noise, its middle is taken. Cells go through the network in groups of a fixed number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mistline.models.contract import Block
from mistline.models.gest.network import Network
from mistline.models.gest.reading import Slide
from mistline.models.gest.serialise import CORNERS
from mistline.models.gest.windows import Cells, Windows, around

_GROUP = 32  # cells that the network is given at once
_BLOCK = 32  # groups of a block


@dataclass(frozen=True, slots=True)
class Niche:
    """What of the tissue is embedded.

    Args:
        side_um: of the square around a cell.
        most: cells of it, the nearest.
        corners: how many orders an embedding is the mean of, 1 to 4.
    """

    side_um: float
    most: int
    corners: int


def embed(net: Network, slide: Slide, niche: Niche) -> Iterator[Block]:
    """Yield every cell of a slide, in its order."""
    net.eval()
    size = _GROUP * _BLOCK
    for first in range(0, len(slide.cell_id), size):
        rows = np.arange(first, min(first + size, len(slide.cell_id)))
        groups = [rows[low : low + _GROUP] for low in range(0, len(rows), _GROUP)]
        z = np.concatenate([embedded(net, slide.cells, own, niche) for own in groups])
        yield Block(slide.cell_id[first : first + size], z, {})


@torch.no_grad()
def embedded(net: Network, cells: Cells, rows: NDArray[np.int64], niche: Niche) -> NDArray[np.float32]:
    """Return float32 [B, D] of some cells; `rows` is int64 [B]."""
    device = net.norm.weight.device
    centres = cells.xy_um[rows].astype(np.float64)
    windows = around(cells, centres, niche.side_um, niche.most)
    lengths = windows.lengths.tolist()
    total = torch.zeros(len(rows), net.sizes.width)
    for corner in range(niche.corners):
        order = ordered(cells, windows, centres, niche.side_um, corner, rows)
        delta = torch.from_numpy((cells.xy_um[order] - centres[windows.number]).astype(np.float32))
        content = torch.from_numpy(cells.content[order])
        total += net.niche(delta.to(device), content.to(device), lengths).float().cpu()
    return (total / niche.corners).numpy()


def ordered(
    cells: Cells,
    windows: Windows,
    centres_um: NDArray[np.float64],
    side_um: float,
    corner: int,
    first: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return int64 [M] rows of the cells of windows, in each by the distance to a corner.

    Args:
        cells: of the slide.
        windows: M cells, B windows.
        centres_um: [B, 2].
        side_um: of the windows.
        corner: a place in `CORNERS`.
        first: int64 [B] the cell that stands first in each; None for none.
    """
    anchor = centres_um + np.array(CORNERS[corner]) * side_um
    distance = np.linalg.norm(cells.xy_um[windows.cells] - anchor[windows.number], axis=1)
    if first is not None:
        distance[windows.cells == first[windows.number]] = -1.0
    return windows.cells[np.lexsort((distance, windows.number))]
