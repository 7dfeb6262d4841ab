"""Values of a table: checked against what they are said to be, genes sorted by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mistline.config.slides import Values
from mistline.core.errors import InputError
from mistline.spots.table import Genes
from mistline.xenium.ids import Ids


def check(where: Path, matrix: sparse.csr_matrix, cell_ids: Ids, values: Values) -> sparse.csr_matrix:
    """Return the matrix without stored zeros, in the type that its kind of values has.

    Args:
        where: the table, for errors.
        matrix: [n, G].
        cell_ids: [n] ids of its rows.
        values: what the slide says they are.

    Raises:
        InputError: a value is not finite or negative, or it is not whole although counts are announced.
    """
    data = matrix.data
    _refuse(where, matrix, cell_ids, ~np.isfinite(data), "is not a finite number", "remove or correct this cell")
    negative = "give counts, normalised or log values: scaled ones no longer tell zero"
    _refuse(where, matrix, cell_ids, data < 0, "is negative", negative)
    if values == "counts":
        not_whole = (data != np.trunc(data)) | (data > np.iinfo(np.int32).max)
        remedy = "set values: normalised or values: log of this table, or give raw counts"
        _refuse(where, matrix, cell_ids, not_whole, "is no whole number, and values: counts is set", remedy)
    matrix = sparse.csr_matrix(matrix, dtype=np.int32 if values == "counts" else np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def sort_genes(
    where: Path,
    matrix: sparse.csr_matrix,
    ids: Sequence[str],
    symbols: Sequence[str],
    types: Sequence[str] | None = None,
) -> Genes:
    """Bring the columns into the order of their ids, features that are no genes left out.

    Raises:
        InputError: an id is empty or occurs twice, or no feature is a gene.
    """
    is_gene = np.ones(len(ids), dtype=bool) if types is None else np.array(types) == "Gene Expression"
    if len(ids) and not is_gene.any():
        raise InputError(where, 'no feature has the type "Gene Expression"', "correct var['feature_types']")
    kept = np.flatnonzero(is_gene).tolist()
    names = [ids[i] for i in kept]
    doubled = sorted(name for name, times in Counter(names).items() if times > 1 or not name)
    if doubled:
        what = f"{len(doubled)} gene ids are empty or occur more than once, such as {doubled[0]!r}"
        raise InputError(where, what, "make them unique, or put Ensembl ids into var['gene_ids']")
    order = [i for _, i in sorted(zip(names, kept, strict=True))]
    others = Counter(str(kind) for kind, gene in zip(types or (), is_gene, strict=bool(types)) if not gene)
    chosen = sparse.csr_matrix(matrix[:, order])
    chosen.sort_indices()
    return Genes(chosen, tuple(ids[i] for i in order), tuple(symbols[i] for i in order), dict(sorted(others.items())))


def _refuse(
    where: Path, matrix: sparse.csr_matrix, cell_ids: Ids, bad: NDArray[np.bool_], what: str, remedy: str
) -> None:
    if bad.any():
        rows = np.unique(np.searchsorted(matrix.indptr, np.flatnonzero(bad), side="right") - 1)
        first = min(str(cell_ids[row]) for row in rows)
        cells = f"{len(rows)} cells" if len(rows) > 1 else "one cell"
        raise InputError(where, f"a value {what} ({cells}, such as {first!r})", remedy)
