"""Profiles of cells, and the content that a model sees cells with whose profiles were changed (algorithm 2).

`B` cells of a batch, `T` genes of what knows cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.mist.metacells import Query, Vocabulary
from mistline.models.contract import Batch, Source
from mistline.models.gest.vocabulary import VALUES, columns, values_of

Values = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Profiles:
    """How cells of one slide are read, changed and seen again.

    Args:
        genes: [T] ids.
        measured: [T] whether the slide measured a gene.
        of: batch with dense genes -> [B, T] log-normalised values.
        content: [B, T] such values -> [B] meta-cells, or [B, T] where cells are seen as profiles.
    """

    genes: tuple[str, ...]
    measured: NDArray[np.bool_]
    of: Callable[[Batch], Values]
    content: Callable[[Values], NDArray[Any]]


def profiles_of(model: Any, source: Source, vocabulary: Callable[[], Vocabulary]) -> Profiles:
    """Return how a model's cells are read on the one slide of a source.

    Args:
        model: with `query` and `genes`; a query is its own, and without one its meta-cells are the dataset's.
        source: all cells of the slide.
        vocabulary: reads the dataset's meta-cells.

    Raises:
        InputError: the slide measured too few of the genes, or cells are no meta-cells and nothing normalises them.
    """
    query = getattr(model, "query", None)
    if query is not None:
        return _own(model, query, source)
    if not model.is_quantised:
        what = "it sees cells as profiles, and does not say how it normalises them"
        raise InputError("model", what, "give a model that has meta-cells")
    return _dataset(vocabulary(), source)


def _dataset(vocabulary: Vocabulary, source: Source) -> Profiles:
    slide = source.slides[0]
    panel = np.flatnonzero(source.panels[slide])
    query = Query(vocabulary, np.array(source.genes)[panel], f"slide {slide}")
    genes = vocabulary.genes.gene_ids[query.measured]

    def of(batch: Batch) -> Values:
        counts = _dense(batch)[:, panel].astype(np.int64)
        return query.normalise(sparse.csr_matrix(counts)).toarray()

    def content(profiles: Values) -> NDArray[Any]:
        rows = sparse.csr_matrix(profiles.astype(np.float32))
        return query.assign(query.scores(rows)).metacell.astype(np.int64)

    return Profiles(tuple(genes.tolist()), np.ones(len(genes), dtype=bool), of, content)


def _own(model: Any, query: Any, source: Source) -> Profiles:
    places = columns(model.genes, source, model.params.min_overlap)
    measured = (places >= 0) & np.asarray(source.panels[source.slides[0]], dtype=bool)[places]
    # What is changed is log-normalised already.
    again = replace(query, values=np.array([VALUES.index("log")], dtype=np.int64))

    def of(batch: Batch) -> Values:
        return query.normalised(*values_of(batch, places))

    def content(profiles: Values) -> NDArray[Any]:
        known = np.broadcast_to(measured, profiles.shape)
        return again.assign(profiles, known) if model.is_quantised else again.profiles(profiles, known)

    return Profiles(tuple(model.genes), measured, of, content)


def _dense(batch: Batch) -> NDArray[np.float32]:
    if batch.genes is None:
        raise RuntimeError("the source gave no dense genes although they were asked for")
    return batch.genes.numpy()
