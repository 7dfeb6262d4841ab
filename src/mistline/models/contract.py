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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
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
        """Return [B, G] counts over the vocabulary, for dense."""
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
    """The image's channels, by name."""

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
