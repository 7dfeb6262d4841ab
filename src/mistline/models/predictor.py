"""What `predict` gives to every registered model that learns classes, and asks of it. No torch is imported here.

Such a model is trained anew on each fold of a task. `n` cells of a slide, `G` genes, `L` classes, `C` channels of
images with `S` pixels a side, `D` width of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mistline.models.contract import Context

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Images(Protocol):
    """The images of one slide's cells; `channels` names the C channels."""

    channels: tuple[str, ...]

    def __call__(self, rows: NDArray[np.int64], size_px: int) -> NDArray[np.uint8]:
        """Return [B, C, S, S] of these cells."""
        ...


@dataclass(frozen=True, slots=True)
class SlideCells:
    """All `n` cells of one slide, as a predictor reads them in one fold.

    Args:
        slide: name.
        donor: whose tissue it is.
        cell_id: [n].
        counts: CSR [n, G] over the problem's genes.
        xy_um: [n, 2] places; NaN where the slide has none.
        array_yx: [n, 2] place on the array; None where the cells lie on none.
        label: [n] class, or -1: unknown, or hidden because the cell is tested.
        part: [n] of `store.parts.PARTS`.
        embeddings: run that the model builds on -> its [n, D].
        images: of the cells; None where the slide has none, or the model reads none.
        metacell: [n] row of the dataset's meta-cell vocabulary; None where there is none, or the model asks for none.
    """

    slide: str
    donor: str
    cell_id: Sequence[str]
    counts: Any
    xy_um: NDArray[np.float64]
    array_yx: NDArray[np.int64] | None
    label: NDArray[np.int64]
    part: NDArray[np.object_]
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    images: Images | None = None
    metacell: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One fold of a task with labels.

    Args:
        slides: those of the fold.
        genes: ids of the G genes that all its slides measure.
        values: what `counts` hold: counts, normalised (by depth) or log (of that).
        classes: names of the L classes.
        start: the trained model whose weights the predictor begins with, where its settings name one; never changed.
    """

    slides: Sequence[SlideCells]
    genes: tuple[str, ...]
    values: str
    classes: tuple[str, ...]
    start: Any = None


class Predictor(Protocol):
    """A registered model whose params serve predictions: it is trained fold by fold and predicts classes."""

    @classmethod
    def create(cls, params: Any, problem: Problem, context: Context) -> Predictor:
        """Return an untrained model that fits the problem."""
        ...

    def fit(self, problem: Problem, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train, and yield the rows of the course as they come; no clock time in them."""
        ...

    def predict(self, problem: Problem, context: Context) -> Iterator[NDArray[np.float32]]:
        """Yield [n, L] probabilities of all cells of each slide, in the order of the problem.

        Of cells that are neither validated nor tested they are never read, and may be 0.
        """
        ...
