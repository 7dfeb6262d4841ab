"""Pairs of encoded cells as a flow from cell to cell reads them: a part of `mistline.models.contract.Source`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.store.pairs import best_of_targets, read_pairs
from mistline.train.latents import LatentBatch, LatentSource, Numbered

logger = logging.getLogger("mistline.train")

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class PairBatch(LatentBatch):
    """Target cells, as a `LatentBatch` has them, each with the control cell it is reached from.

    Attributes:
        start: float32 [B, c, h, w] mean latents of the control cells.
        weight: float32 [B] confidence of the pair, in (0, 1].
    """

    start: Tensor
    weight: Tensor


class PairSource(Numbered):
    """The pairs of one split whose cells were both encoded.

    Args:
        latents: slide -> its folder of `encode_cells`.
        pairs: files of `pair_cells`.
        split: whose pairs.

    Attributes:
        origin: as `LatentSource` has it; so are the next three.
        latent_shape: (c, h, w).
        token_shape: (R, T, D).
        present: [R][T] which tokens are given.
        slides: those with a pair of the split.
        cells: table of the encoded cells of the split, whether or not they are in a pair.
        pairs: [n] table of the pairs.
        confidence: float64 [n] of them.

    Raises:
        InputError: a file or folder is missing, damaged or does not fit the others, no pair is found at all, or a
            training split has none.
    """

    genes: tuple[str, ...] = ()

    def __init__(self, latents: Mapping[str, Path], pairs: Sequence[Path], split: Split) -> None:
        self._cells = LatentSource(latents, split)
        self.cells = self._cells.cells
        self.origin, self.present = self._cells.origin, self._cells.present
        self.latent_shape, self.token_shape = self._cells.latent_shape, self._cells.token_shape
        table = read_pairs(pairs)
        own = table[table["split"] == split].reset_index(drop=True)
        at = self._places(own)
        encoded = (at >= 0).all(axis=1)
        if not encoded.all():
            logger.info(
                "%d of %d %s pairs are left out: a cell of them was not encoded", (~encoded).sum(), len(own), split
            )
        self.pairs = own[encoded].reset_index(drop=True)
        self._control, self._target = at[encoded].T
        self.confidence: NDArray[np.float64] = self.pairs["confidence"].to_numpy(dtype=np.float64)
        self.slides = tuple(self.pairs["slide"].unique().tolist())
        if split == "train" and self.pairs.empty:
            what = f"none of {len(table)} pairs has two encoded cells of the train split ({len(own)} are of this split)"
            raise InputError("pairs", what, "encode more cells, choose a coarser `niche`, or look at splits.json")

    def count(self, scale: str = "cell") -> int:
        """Return the number of pairs."""
        self._cells.count(scale)
        return len(self.pairs)

    def read(self, rows: NDArray[np.int64]) -> PairBatch:
        """Return some pairs.

        Args:
            rows: [B] of `pairs`, in any order.
        """
        target = self._cells.read(self._target[rows])
        told = {name: getattr(target, name) for name in LatentBatch.__dataclass_fields__}
        weight = torch.from_numpy(self.confidence[rows].astype(np.float32))
        return PairBatch(**told, start=self._cells.read(self._control[rows]).mean, weight=weight)

    def reaching(self, cells: pd.DataFrame) -> NDArray[np.int64]:
        """Return the rows of `pairs` that lead to cells: of each cell the surest pair, in the order of the cells.

        Args:
            cells: `slide` and `cell_id` are read; those that are no pair's target are left out.
        """
        best = best_of_targets(self.pairs)
        targets = pd.MultiIndex.from_frame(best[["slide", "target_id"]])
        at = targets.get_indexer(pd.MultiIndex.from_frame(cells[["slide", "cell_id"]]))
        return best.index.to_numpy(dtype=np.int64)[at[at >= 0]]

    def _places(self, pairs: pd.DataFrame) -> NDArray[np.int64]:
        """Return int64 [n, 2] rows of the control and the target among the encoded cells, -1 for none.

        Only cells of this source's own split are found, whatever a file says of a pair.
        """
        known = pd.MultiIndex.from_frame(self.cells[["slide", "cell_id"]])
        asked = [pd.MultiIndex.from_frame(pairs[["slide", side]]) for side in ("control_id", "target_id")]
        return np.stack([known.get_indexer(one) for one in asked], axis=1).astype(np.int64).reshape(-1, 2)
