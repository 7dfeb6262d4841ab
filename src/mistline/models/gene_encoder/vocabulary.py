"""What an encoder calls genes, and which of the dataset's it knows.

`G` genes of the dataset, `M` of them in the encoder's vocabulary.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.models.contract import Source
from mistline.models.gene_encoder.params import Params
from mistline.models.weights import check

_SPECIAL = ("<pad>", "<cls>", "<eos>")
_NONE = -1


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The dataset's genes as tokens of an encoder.

    Args:
        genes: [M] ids of the dataset's genes that the encoder knows.
        token: [M] their tokens.
        median: [M] their usual share of a cell, per 10,000; ones where the encoder has none.
        special: tokens of padding, of the whole cell and of its end; -1 for one that the encoder has not.
        n_genes: G.
    """

    genes: tuple[str, ...]
    token: NDArray[np.int64]
    median: NDArray[np.float64]
    special: tuple[int, int, int]
    n_genes: int

    @property
    def mapped(self) -> float:
        """Share of the dataset's genes that the encoder knows."""
        return len(self.genes) / self.n_genes if self.n_genes else 0.0


def read_vocabulary(params: Params, source: Source) -> Vocabulary:
    """Match the dataset's genes with the encoder's.

    Raises:
        InputError: a file is missing, another one or damaged, or too few genes are known.
    """
    tokens = _numbers(params, "vocabulary")
    medians = _numbers(params, "medians") if params.medians is not None else {}
    names = source.symbols if params.encoder.genes == "symbol" else [name.split(".")[0] for name in source.genes]
    chosen = _known(names, tokens, medians)
    special = tuple(int(tokens.get(name, _NONE)) for name in _SPECIAL)
    found = Vocabulary(
        tuple(source.genes[row] for row in chosen),
        np.array([tokens[names[row]] for row in chosen], dtype=np.int64),
        np.array([medians.get(names[row], 1.0) for row in chosen], dtype=np.float64),
        (special[0], special[1], special[2]),
        len(source.genes),
    )
    path = Path(str(params.vocabulary))
    if found.special[0] < 0:
        raise InputError(path, "it has no token <pad>", f"give the vocabulary of {params.preset}")
    if not len(found.genes) or found.mapped < params.min_mapped:
        what = f"it has {len(found.genes)} of the dataset's {found.n_genes} genes ({found.mapped:.0%})"
        kind = "symbols" if params.encoder.genes == "symbol" else "Ensembl ids"
        raise InputError(path, what, f"it names genes by {kind}: check the dataset's, or lower min_mapped")
    return found


def _known(names: Sequence[str], tokens: Mapping[str, float], medians: Mapping[str, float]) -> list[int]:
    """Return the rows of genes that have a token (and a median, where there are any), the first of each name."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in tokens and (not medians or medians.get(name, 0) > 0):
            first.setdefault(name, row)
    return sorted(first.values())


def _numbers(params: Params, key: str) -> dict[str, float]:
    """Return name -> number from a file of JSON, or of a pickle that holds nothing else."""
    path = Path(str(getattr(params, key)))
    check(path, getattr(params, f"{key}_sha256"), f"{key}_sha256", params.encoder.how)
    try:
        if path.suffix == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
        else:
            with path.open("rb") as stream:
                found = _Plain(stream).load()
    except _ForeignError:
        raise InputError(path, "it holds more than names and numbers, and is not opened", "save it as JSON") from None
    except (pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, AttributeError) as error:
        raise InputError(path, f"not a readable {key} ({type(error).__name__})", "copy it again") from None
    if not isinstance(found, dict) or not all(_is_entry(*item) for item in found.items()):
        raise InputError(path, "not a table of names and numbers", f"give the {key} of {params.preset}")
    return found


def _is_entry(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, int | float) and math.isfinite(value)


class _ForeignError(pickle.UnpicklingError):
    """A file asks for more than text and numbers."""


class _Plain(pickle.Unpickler):
    """Reads dictionaries of text and numbers; whatever would have to be imported is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise _ForeignError(f"{module}.{name}")
