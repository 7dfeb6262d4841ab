"""What `train` and `embed` give to every registered model and ask of it. No torch is imported here.

`B` cells of a batch, `G` genes of the dataset's vocabulary, `C` channels, `S` side of an image in pixels,
`D` width of an embedding.

A model's `model.py` offers a class `Model` with the members of the protocol below. It is created from its
settings, trained by `fit`, which reads the dataset as often as it likes through a `Source`, stored as named
arrays, restored from them, and embeds a slide by reading a `Source` of that slide and yielding blocks in the
order of its cells. It never opens a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Needs:
    """What of the dataset a model reads.

    Args:
        scale: name of the scale, such as cell or niche.
        image_size: side in pixels that images are resized to; None for no image.
        genes: dense counts, sparse (index, count) pairs one record after the other, or None.
        batch_size: records of a batch.
    """

    scale: str = "cell"
    image_size: int | None = None
    genes: Literal["dense", "sparse"] | None = None
    batch_size: int = 1024


class Batch(Protocol):
    """Records of one scale, as `mistline.data` makes them; what was not asked for is None."""

    @property
    def slide(self) -> Sequence[str]:
        """Return [B] names."""
        ...

    @property
    def donor(self) -> Sequence[str]:
        """Return [B] whose tissue it is."""
        ...

    @property
    def record_id(self) -> Sequence[str]:
        """Return [B] `cell_id`, or a tile's `row_col` at a grid scale."""
        ...

    @property
    def xy_um(self) -> Tensor:
        """Return [B, 2] centre, micrometres."""
        ...

    @property
    def side_um(self) -> Tensor:
        """Return [B] side of the square that the image shows."""
        ...

    @property
    def image(self) -> Any:
        """Return uint8 [B, C, S, S]."""
        ...

    @property
    def genes(self) -> Tensor | None:
        """Return float32 [B, G] counts (or other `Source.values`) over the vocabulary, for dense."""
        ...

    @property
    def measured(self) -> Tensor | None:
        """Return bool [B, G], the genes on the slide's panel: where False, `genes` says nothing."""
        ...

    @property
    def gene_index(self) -> Tensor | None:
        """Return [N] place in the vocabulary of every count of the batch, record after record, for sparse."""
        ...

    @property
    def gene_count(self) -> Tensor | None:
        """Return [N] the counts."""
        ...

    @property
    def gene_offset(self) -> Tensor | None:
        """Return [B + 1] where each record starts in `gene_index` and `gene_count`."""
        ...

    @property
    def metacell(self) -> Tensor | None:
        """Return [B] row of the meta-cell vocabulary; None for tiles."""
        ...

    @property
    def tiles(self) -> Mapping[str, Sequence[str]]:
        """Return Coarser scale -> [B] `row_col` of the tile that holds the record."""
        ...

    @property
    def labels(self) -> Mapping[str, Sequence[Any]]:
        """Return Column -> [B] known labels, None where unknown."""
        ...


class Source(Protocol):
    """A part of the dataset (a split, or one slide) that can be read again and again."""

    genes: tuple[str, ...]
    """The vocabulary: ids in the order of dense counts, and what sparse indices point into."""

    common_genes: tuple[str, ...]
    """Those measured on every slide of the dataset, in the order of `genes`."""

    channels: tuple[str, ...]
    """The image's channels, by name; none where the slides are tables."""

    values: Literal["counts", "normalised", "log"]
    """What the genes' values are: counts, counts brought to one depth, or log1p of that."""

    def count(self, scale: str = "cell") -> int:
        """Return the number of records."""
        ...

    def batches(self, needs: Needs, shuffle: int | None = None) -> Iterator[Batch]:
        """Yield every record once: in the order of the files, or in the order that the seed `shuffle` gives."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Where and how a model runs.

    Args:
        seed: of this training run; every draw derives from it (`core.seeds`).
        device: a torch device, such as cpu or cuda.
        threads: CPU threads; must not change the result.
        resume: folder that survives a killed job, for the state of a training that takes long.
    """

    seed: int
    device: str
    threads: int
    resume: Path


@dataclass(frozen=True, slots=True)
class Block:
    """Embeddings of consecutive cells.

    Args:
        cell_id: [B].
        z: [B, D] float32, the embedding that tasks judge.
        parts: further arrays [B, ...] by name, such as the embedding of one modality; stored beside z.
    """

    cell_id: Sequence[str]
    z: Any
    parts: Mapping[str, Any]


class Model(Protocol):
    """A registered model."""

    genes: tuple[str, ...]
    """Ids of the genes it reads, in its own order; empty for none. Written to genes.txt."""

    @classmethod
    def create(cls, params: Any, source: Source, context: Context) -> Model:
        """Return an untrained model that fits the source's genes and channels."""
        ...

    @classmethod
    def restore(cls, params: Any, arrays: Mapping[str, Any], genes: tuple[str, ...]) -> Model:
        """Return a trained model from what `arrays` gave."""
        ...

    def fit(self, train: Source, val: Source, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train, and yield the rows of metrics.jsonl as they come; no clock time in them."""
        ...

    def arrays(self) -> dict[str, Any]:
        """Return the weights: name -> numpy array."""
        ...

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Yield every cell of the slide, in the order of the source; deterministic and batch-size invariant."""
        ...


class Images(Protocol):
    """The images of one slide's cells."""

    channels: tuple[str, ...]
    """Names of the C channels."""

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


@dataclass(frozen=True, slots=True)
class Problem:
    """One fold of a task with labels.

    Args:
        slides: those of the fold.
        genes: ids of the G genes that all its slides measure.
        values: what `counts` hold: counts, normalised (by depth) or log (of that).
        classes: names of the L classes.
    """

    slides: Sequence[SlideCells]
    genes: tuple[str, ...]
    values: str
    classes: tuple[str, ...]


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
        """Yield [n, L] probabilities of all cells of each slide, in the order of the problem."""
        ...
