"""Given vectors of genes, and their places along the genome, read from parquet (specs/spatia.md, section 3).

`G` genes of the vocabulary, `V` numbers of a given vector, `D` width of the gene encoder.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mistline.core.errors import InputError

logger = logging.getLogger("mistline.models")

_GAP_BASES = 10_000
_SPREAD = 0.5  # that of drawn gene vectors, which given ones are added beside
_VERSION = re.compile(r"^(ENS[A-Z]*G\d{11})\.\d+$")  # of an Ensembl id; symbols may end alike and differ


def read_vectors(path: Path, genes: Sequence[str], width: int, min_mapped: float) -> Tensor:
    """Read vectors of genes.

    Vectors wider than D are averaged over neighbouring numbers (the published pooling), centred, and brought to the
    spread of drawn ones.

    Args:
        path: parquet with a column gene_id, and either one column of lists or a column a number.
        genes: [G] ids of the vocabulary; the version of an Ensembl id does not matter.
        width: D.
        min_mapped: refuse if a smaller share of the vocabulary has a vector.

    Returns:
        float32 [G, D]; zeros where a gene has no vector.

    Raises:
        InputError: the file cannot be read as that, or too few genes have a vector.
    """
    table = _read(path, ["gene_id"])
    numbers = _numbers(path, table)
    if numbers.shape[1] < width:
        what = f"its vectors have {numbers.shape[1]} numbers, the gene encoder is {width} wide"
        raise InputError(path, what, "give wider vectors, or choose a smaller size of the model")
    row = _rows(_ids(path, table), genes)
    found = row >= 0
    share = float(found.mean()) if len(genes) else 0.0
    said = f"{int(found.sum())} of {len(genes)} genes of the vocabulary have a vector ({share:.1%})"
    if share < min_mapped:
        raise InputError(
            path, f"{said}, fewer than {min_mapped:.1%}", "give a table of these genes, or lower the share"
        )
    logger.info("%s: %s", path, said)
    vectors = torch.zeros(len(genes), width)
    if found.any():
        pooled = functional.adaptive_avg_pool1d(torch.from_numpy(numbers[row[found]])[:, None], width)[:, 0]
        pooled = pooled - pooled.mean(0)
        vectors[torch.from_numpy(found)] = pooled * (_SPREAD / pooled.std(correction=0).clamp(min=1e-12))
    return vectors


def read_positions(path: Path, genes: Sequence[str]) -> Tensor:
    """Read where genes lie, as an index along the genome.

    The genes of the file are walked chromosome by chromosome, by start; a new index begins with each chromosome and
    where the next start is more than 10,000 bases away.

    Args:
        path: parquet with columns gene_id, chromosome and start (bases).
        genes: [G] ids of the vocabulary.

    Returns:
        int64 [G]; -1 where the file does not have the gene.

    Raises:
        InputError: the file cannot be read as that, or has none of the genes.
    """
    table = _read(path, ["gene_id", "chromosome", "start"])
    if table["chromosome"].null_count or table["start"].null_count or not pa.types.is_integer(table["start"].type):
        raise InputError(path, "chromosome and start are not full, or start is no integer", "give every gene a place")
    chromosome = table["chromosome"].cast(pa.string()).to_pylist()
    start = table["start"].to_numpy().astype(np.int64)
    row = _rows(_ids(path, table), genes)
    if not (row >= 0).any():
        what = f"it has none of the {len(genes)} genes of the vocabulary"
        raise InputError(path, what, "give a table with the same kind of gene ids")
    logger.info("%s: %d of %d genes of the vocabulary have a place", path, int((row >= 0).sum()), len(genes))
    index = _walk(chromosome, start)
    return torch.from_numpy(np.where(row >= 0, index[row], -1))


def _walk(chromosome: Sequence[str], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of each gene, from 0."""
    names = sorted(set(chromosome), key=_chromosome_key)
    rank = {name: number for number, name in enumerate(names)}
    number = np.array([rank[name] for name in chromosome], dtype=np.int64)
    order = np.lexsort((start, number))
    is_new = (np.diff(number[order]) != 0) | (np.diff(start[order]) > _GAP_BASES)
    index = np.zeros(len(order), dtype=np.int64)
    index[order[1:]] = np.cumsum(is_new)
    return index


def _chromosome_key(name: str) -> tuple[int, int, str]:
    """Sort 1, 2, .. 22 by number, then names; `chr` does not matter."""
    short = name.removeprefix("chr")
    return (0, int(short), "") if short.isdigit() else (1, 0, short)


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(path, "it cannot be read as parquet", "check the path and the file") from error
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        has = ", ".join(table.column_names[:8]) or "none"
        raise InputError(path, f"there is no column {absent[0]} (columns: {has})", f"give it the column {absent[0]}")
    if not len(table):
        raise InputError(path, "it has no rows", "give a table of genes")
    return table


def _ids(path: Path, table: pa.Table) -> list[str]:
    ids = [_VERSION.sub(r"\1", str(name)) for name in table["gene_id"].to_pylist()]
    twice, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise InputError(path, f"gene {twice} is there twice", "leave one row a gene")
    return ids


def _rows(ids: Sequence[str], genes: Sequence[str]) -> NDArray[np.int64]:
    """Return [G] the row of each gene, -1 for none."""
    place = {name: row for row, name in enumerate(ids)}
    return np.array([place.get(_VERSION.sub(r"\1", gene), -1) for gene in genes], dtype=np.int64)


def _numbers(path: Path, table: pa.Table) -> NDArray[np.float32]:
    """Return [rows, V]."""
    rest = table.drop_columns(["gene_id"])
    lists = [name for name in rest.column_names if _is_list(rest[name].type)]
    if len(lists) == 1:
        column = rest[lists[0]].combine_chunks()
        lengths = pc.list_value_length(column).unique()
        if len(lengths) != 1 or not lengths[0].as_py():
            raise InputError(path, f"the lists of {lists[0]} differ in length", "give every gene as many numbers")
        numbers = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    else:
        kept = [name for name in rest.column_names if pa.types.is_floating(rest[name].type)]
        if not kept:
            raise InputError(path, "it has no column of numbers", "give a column of lists, or a column a number")
        numbers = np.column_stack([rest[name].to_numpy() for name in kept])
    if not np.isfinite(numbers).all():
        raise InputError(path, "some of its numbers are missing or infinite", "leave out genes without a full vector")
    return np.ascontiguousarray(numbers, dtype=np.float32)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
