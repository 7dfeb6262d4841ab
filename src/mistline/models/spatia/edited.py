"""What a trained model says of cells whose counts were changed, and of nothing else.

A cell takes no part in its own z_n and z_t (specs/spatia.md, section 6): a change of its counts leaves them as they
are. So the cells are encoded again alone, and joined with what lies around them as it was told of the whole slide.

`B` cells, `N` counts of all of them, `R` readings (everything the model reads; genes alone) of `T` = 4 tokens
(z, z_gene, z_n, z_t) of `D` numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.models.contract import Batch, Context, Needs, Source
from mistline.models.spatia.embedding import Reading, encoded
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Modality

Z, Z_GENE, Z_N, Z_T = range(4)
_LEVELS = {"niche": Z_N, "tissue": Z_T}
_READ: tuple[Modality, ...] = ("image", "genes")  # without which there is no such reading


@dataclass(frozen=True, slots=True)
class Cells:
    """Some cells of a slide, with counts that need not be those they have.

    Args:
        slide: where they lie; its genes are those of the counts.
        record_id: [B] ids.
        side_um: float32 [B] side of the square that the image shows.
        image: uint8 [B, C, S, S] at the model's size; None for a model that reads no image.
        counts: [B, G] over the slide's genes.
    """

    slide: Source
    record_id: Sequence[str]
    side_um: Tensor
    image: Tensor | None
    counts: NDArray[np.int64]


def encode_again(model: Model, cells: Cells, tokens: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
    """Return float32 [B, R, T, D], the tokens of the cells by their counts.

    Args:
        model: that gave the tokens.
        cells: B of them.
        tokens: float32 [B, R, T, D] of the same cells by the counts they have; z_n and z_t are taken from here.
        context: where to compute.

    Raises:
        InputError: the model reads no genes, or the genes of other cells.
    """
    if not model.params.embeds("genes") or model.params.pairs != "true":
        what = "it reads no genes, or those of other cells; to it a change of a cell's genes is none"
        raise InputError("the run that gives the condition", what, "edit with a generator of another condition")
    found = tokens.copy()
    model.net.to(context.device).eval()
    place = model.place(cells.slide)
    for number, modality in enumerate(_READ):
        if model.params.embeds(modality):
            params = model.params if modality == "image" else model.params.model_copy(update={"embed_from": "genes"})
            around = [tokens[:, number, _LEVELS[level]] for level in params.levels if level != "cell"]
            found[:, number, [Z, Z_GENE]] = _alone(model, cells, around, Reading(params, place, context))
    return found


def _alone(model: Model, cells: Cells, around: Sequence[NDArray[np.float32]], reading: Reading) -> NDArray[np.float32]:
    """Return [B, 2, D]: z and z_gene in one reading.

    Args:
        model: the model.
        cells: B of them.
        around: z_n and z_t, each [B, D], as far as the model has them.
        reading: what of the cells is read.
    """
    parts = [found for _, found, _ in encoded(model.net, _Given(cells), reading)]
    own, genes = (np.concatenate([part[name] for part in parts]) for name in ("z_c", "z_gene"))
    device = reading.context.device
    cell, *others = (torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in (own, *around))
    with torch.inference_mode():
        z = model.net.join(cell, others)
    return np.stack([z.float().cpu().numpy(), genes], axis=1)


class _Given:
    """The cells as a `Source`, as far as encoding them alone asks for one."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def count(self, scale: str = "cell") -> int:
        del scale
        return len(self._cells.record_id)

    def batches(self, needs: Needs, **_: Any) -> Iterator[Batch]:
        cells = self._cells
        row, column = np.nonzero(cells.counts)
        offset = np.searchsorted(row, np.arange(len(cells.counts) + 1))
        whole = _Batch(
            cells.record_id,
            cells.side_um,
            cells.image if needs.image_size else None,
            torch.from_numpy(column),
            torch.from_numpy(cells.counts[row, column]),
            torch.from_numpy(offset),
        )
        yield whole  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What `inputs.records` asks of a batch."""

    record_id: Sequence[str]
    side_um: Tensor
    image: Tensor | None
    gene_index: Tensor
    gene_count: Tensor
    gene_offset: Tensor
