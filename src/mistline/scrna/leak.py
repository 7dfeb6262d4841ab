"""Whether a prediction holds measured values that its method was never given.

No method guesses a measured value to the last digit. Zeros are another matter: where a kind of cell lacks a gene, an
honest method says exactly zero as well, and is right more often than chance. So equal zeros count only in genes whose
zeros are told from the other values almost without an error, which sparse measurements allow nobody.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError

MOST = 0.01  # share of equal values beyond chance, above which a method has read what it was tested on
_RELATIVE = 1e-6  # both went through a normalisation in float32
_WRONG = 0.01  # of the rarer of zeros and other values: fewer mistakes than this are no guess
_FEWEST = 10  # zeros, and other values, of a gene that can be told apart by more than luck

Table = NDArray[np.float32]


def shown_share(truth: Table, predicted: Table, random: np.random.Generator) -> float:
    """Return the share of values equal to the truth, less what equals it by chance.

    Args:
        truth: [n, W] measured, a column a gene.
        predicted: [n, W].
        random: deals each gene's prediction to other cells, which says what chance gives.
    """
    if not truth.size:
        return 0.0
    counts = np.where(_same_zeros(truth, predicted), True, truth != 0)
    dealt = random.permuted(predicted, axis=0)
    found = [(_equal(truth, own) & counts).mean(dtype=np.float64) for own in (predicted, dealt)]
    return float(found[0] - found[1])


def refuse_shown(where: str | Path, truth: Table, predicted: Table, random: np.random.Generator) -> None:
    """Refuse a prediction of which more equals the truth than chance gives.

    Args:
        where: what is judged, for the sentence.
        truth: [n, W].
        predicted: [n, W].
        random: as in `shown_share`.

    Raises:
        InputError: names the share.
    """
    share = shown_share(truth, predicted, random)
    if share > MOST:
        what = f"{share:.1%} of the values equal the measured ones beyond chance, so the method has read tested genes"
        raise InputError(where, what, "give the method nothing of the genes it is tested on, and run it again")


def _equal(truth: Table, predicted: Table) -> NDArray[np.bool_]:
    return np.abs(predicted.astype(np.float64) - truth) <= _RELATIVE * np.abs(truth)


def _same_zeros(truth: Table, predicted: Table) -> NDArray[np.bool_]:
    """Return [W], the genes whose zeros are those of the truth."""
    is_zero = truth == 0
    rarer = np.minimum(is_zero.sum(axis=0), (~is_zero).sum(axis=0))
    wrong = (is_zero != (predicted == 0)).sum(axis=0)
    found: NDArray[np.bool_] = (rarer >= _FEWEST) & (wrong <= _WRONG * rarer)
    return found
