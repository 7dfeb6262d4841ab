"""What `train` and `embed` give to every registered model and ask of it. No torch is imported here.

`B` cells of a batch, `G` genes of the dataset's vocabulary, `C` channels, `S` side of an image in pixels,
`D` width of an embedding.

A model's `model.py` offers a class `Model` with the members of the protocol below. It is created from its
settings, trained by `fit`, which reads the dataset as often as it likes through a `Source`, stored as named
arrays, restored from them, and embeds a slide by reading a `Source` of that slide and yielding blocks in the
order of its cells. It never opens a file.

A model whose training is many steps of AdamW need not write the loop: it offers `Trainable` instead of `fit`, and
`mistline.train.loop` trains it on any number of devices, with a state that survives a killed job. Where it reads more
of a part than batches hold, it offers `meet(val: Source)` as well, which is called before training.

A model that learns classes from the folds of a task is a `predictor.Predictor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from mistline.models.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Needs:
    """What of the dataset a model reads.

    Args:
        scale: name of the scale, such as cell or niche.
        image_size: side in pixels that images are resized to; None for no image.
        genes: dense counts, sparse (index, count) pairs one record after the other, or None.
        batch_size: records of a batch, at most.
        group: a coarser scale; in a shuffled epoch the records of one of its tiles come in one batch, and a batch
            holds as many whole tiles as fit. A tile of more than `batch_size` records is divided, along the tiles
            of `context` where it can be.
        context: (scale, image_size) of the tiles around the records that come with a batch, genes alike; finest first.
    """

    scale: str = "cell"
    image_size: int | None = None
    genes: Literal["dense", "sparse"] | None = None
    batch_size: int = 1024
    group: str | None = None
    context: tuple[tuple[str, int | None], ...] = ()


class Around(Protocol):
    """The tiles of one scale that hold the records of a batch."""

    @property
    def tiles(self) -> Batch:
        """Return [T] each tile once."""
        ...

    @property
    def row(self) -> Tensor:
        """Return int64 [B], which of the tiles holds each record."""
        ...


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

    @property
    def context(self) -> Mapping[str, Around]:
        """Return Scale -> the tiles around the records, for the scales of `Needs.context`."""
        ...


class Source(Protocol):
    """A part of the dataset (a split, or one slide) that can be read again and again."""

    genes: tuple[str, ...]
    """The vocabulary: ids in the order of dense counts, and what sparse indices point into."""

    symbols: tuple[str, ...]
    """The commonest name that slides give each of `genes`; the id itself where they have none."""

    common_genes: tuple[str, ...]
    """Those measured on every slide of the dataset, in the order of `genes`."""

    panels: Mapping[str, NDArray[np.bool_]]
    """Slide -> bool [G], the genes it measured; of all slides of the dataset."""

    slides: tuple[str, ...]
    """Names of the slides that this part has cells of."""

    channels: tuple[str, ...]
    """The image's channels, by name; none where the slides are tables."""

    values: Literal["counts", "normalised", "log"]
    """What the genes' values are: counts, counts brought to one depth, or log1p of that."""

    vocabulary: Vocabulary | None
    """The dataset's meta-cells; None for tables."""

    def count(self, scale: str = "cell") -> int:
        """Return the number of records."""
        ...

    def batches(
        self, needs: Needs, shuffle: int | None = None, *, skip: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Yield every record once: in the order of the files, or in the order that the seed `shuffle` gives.

        Args:
            needs: what to read.
            shuffle: seed of the order; None for the order of the files, in which `Needs.group` changes nothing.
            skip: batches of this rank left out at the beginning: they were given before an interruption.
            rank: which part of the epoch. Shuffled, all parts have equally many batches, and the records left over,
                fewer than a batch of every rank, are left out; not shuffled, the parts hold every record once.
            world: number of parts.
        """
        ...

    def n_batches(self, needs: Needs, shuffle: int | None = None, *, rank: int = 0, world: int = 1) -> int:
        """Return how many batches that yields, without reading any."""
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


class Embedder(Protocol):
    """What every registered model that gives an embedding has.

    One that offers `describe() -> Mapping[str, str]` besides tells its model card what it is.
    """

    genes: tuple[str, ...]
    """Ids of the genes it reads, in its own order; empty for none. Written to genes.txt."""

    @classmethod
    def create(cls, params: Any, source: Source, context: Context) -> Embedder:
        """Return an untrained model that fits the source's genes and channels."""
        ...

    @classmethod
    def restore(cls, params: Any, arrays: Mapping[str, Any], genes: tuple[str, ...]) -> Embedder:
        """Return a trained model from what `arrays` gave."""
        ...

    def arrays(self) -> dict[str, Any]:
        """Return the weights: name -> numpy array."""
        ...

    def embed(self, slide: Source, context: Context) -> Iterator[Block]:
        """Yield every cell of the slide, in the order of the source; deterministic and batch-size invariant."""
        ...


class Model(Embedder, Protocol):
    """A registered model that trains itself."""

    def fit(self, train: Source, val: Source, context: Context) -> Iterator[Mapping[str, Any]]:
        """Train, and yield the rows of metrics.jsonl as they come; no clock time in them."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How `mistline.train.loop` trains a `Trainable`; a step is one change of the weights.

    Args:
        needs: what one batch of one device holds; a step reads `accumulate` of them on every device.
        steps: how many; None where `epochs` says it; 0 for a model that came with its weights.
        epochs: how often every training record is read; None where `steps` says it.
        accumulate: batches of a device whose gradients a step adds up, weighted by their records.
        betas: of AdamW.
        warmup_steps: over which the learning rates rise from 0; then they fall along half a cosine.
        final_lr: where they end, as a share of what the groups say.
        clip: largest norm of the gradient.
        precision: `auto` computes in bfloat16 on a GPU (weights stay float32) and in float32 on the CPU.
        row_every: steps of a row of metrics, which holds their means.
        validate_every: steps between two validations; the last step is always followed by one.
        val_batches: batches of each device that a validation reads, the same ones every time; None for all.
        save_every: steps between two saved states.
        patience: validations without a lower `val_loss` after which training stops; the model then has the weights
            of the lowest. None trains to the end and keeps the last weights.
    """

    needs: Needs
    steps: int | None = None
    epochs: int | None = None
    accumulate: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 500
    final_lr: float = 0.0
    clip: float = 1.0
    precision: Literal["auto", "fp32"] = "auto"
    row_every: int = 50
    validate_every: int = 1000
    val_batches: int | None = None
    save_every: int = 500
    patience: int | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("say either steps or epochs")


class Trainable(Embedder, Protocol):
    """A registered model that `mistline.train.loop` trains: it has these members in place of `fit`."""

    net: nn.Module
    """`forward(inputs, draw)` takes what `prepare` gives and a `torch.Generator` on the same device and returns
    a dict of scalar tensors: `loss` is minimised, the others are logged. It draws from `draw` and, as dropout layers
    do, from torch's own generator; both are seeded anew at each step. In evaluation mode (validation) it may draw
    as well, from the same seeds every time."""

    def recipe(self, train: Source) -> Recipe:
        """Return how it is to be trained on these records."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """Return groups of the parameters to train for AdamW: `params`, a list, with `lr` and `weight_decay`."""
        ...

    def prepare(self, batch: Batch, device: str) -> Any:
        """Return a batch as `net` takes it, on the device; cheap, and draws nothing."""
        ...
