"""Embedding a slide with a trained model, streamed to disk."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mistline.core.errors import InputError
from mistline.infer.annotated import AnnotatedWriter
from mistline.models.contract import Block
from mistline.store.embeddings import EmbeddingWriter, Origin


def write_blocks(blocks: Iterable[Block], embedding: Path, h5ad: Path, origin: Origin, n_cells: int) -> None:
    """Write a slide's blocks to parquet and h5ad; both files appear, or neither.

    Args:
        blocks: what `Model.embed` yields, every cell once.
        embedding: parquet file: cell_id, e0, e1, ...
        h5ad: the same as AnnData, with the blocks' parts in obsm.
        origin: what the rows are made from.
        n_cells: cells of the slide.

    Raises:
        InputError: a value is not finite, or the model gave another number of cells.
    """
    written = 0
    with ExitStack() as stack:
        table = stack.enter_context(EmbeddingWriter(embedding, origin))
        annotated = stack.enter_context(AnnotatedWriter(h5ad, origin))
        for block in blocks:
            table.put(block.cell_id, np.asarray(block.z, dtype=np.float32))
            annotated.put(block)
            written += len(block.cell_id)
        if written == 0 or written != n_cells:
            what = f"{written} of {n_cells} cells are embedded"
            raise InputError(embedding, what, "run seal-dataset and embed again")
