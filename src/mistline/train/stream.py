"""The training records as one long row of batches, epoch after epoch, which can be entered anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from mistline.core.errors import ConfigError
from mistline.core.seeds import derive
from mistline.models.contract import Batch, Recipe, Source
from mistline.train.distributed import Team


@dataclass(frozen=True, slots=True)
class Piece:
    """What one process reads in one step.

    Args:
        batches: `Recipe.accumulate` of them, fewer at the end of the last epoch.
        epoch: of the batch that follows.
        batch: its place in that epoch.
    """

    batches: tuple[Batch, ...]
    epoch: int
    batch: int

    @property
    def records(self) -> int:
        """Return how many records it has."""
        return sum(len(batch.xy_um) for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Stream:
    """All batches that one process reads; the order of epoch e is drawn from (seed, e).

    Args:
        source: of the training records.
        recipe: what batches hold, and how many epochs or steps.
        seed: of the training.
        team: that shares every epoch.
    """

    source: Source
    recipe: Recipe
    seed: int
    team: Team

    def steps(self) -> int:
        """Return the number of steps of the whole training.

        Raises:
            ConfigError: an epoch has no batch for every process.
        """
        recipe = self.recipe
        first = self._length(0)
        if not first:
            what = f"{self.source.count(recipe.needs.scale)} training records make no batch of {self.team.world} each"
            raise ConfigError("train", what, "use more records, smaller batches or fewer devices")
        if recipe.steps is not None:
            return recipe.steps
        epochs = range(1, recipe.epochs or 1)
        return -(-(first + sum(self._length(epoch) for epoch in epochs)) // recipe.accumulate)

    def pieces(self, epoch: int, batch: int) -> Iterator[Piece]:
        """Yield what each step reads, from a batch of an epoch on; accumulated batches may lie in two epochs."""
        following = self._batches(epoch, batch)
        while found := list(islice(following, self.recipe.accumulate)):
            yield Piece(tuple(batch for batch, _, _ in found), found[-1][1], found[-1][2])

    def _batches(self, epoch: int, batch: int) -> Iterator[tuple[Batch, int, int]]:
        """Yield batches, each with the epoch and number of the one after it."""
        last = self.recipe.epochs
        for number in count(epoch) if last is None else range(epoch, last):
            start = batch if number == epoch else 0
            part = {"rank": self.team.rank, "world": self.team.world}
            found = self.source.batches(self.recipe.needs, self._order(number), skip=start, **part)
            for following, read in enumerate(found, start + 1):
                yield read, number, following

    def _length(self, epoch: int) -> int:
        part = {"rank": self.team.rank, "world": self.team.world}
        return self.source.n_batches(self.recipe.needs, self._order(epoch), **part)

    def _order(self, epoch: int) -> int:
        return derive(self.seed, "epoch", epoch)


def validation(source: Source, recipe: Recipe, seed: int, team: Team) -> Iterator[Batch]:
    """Yield the batches that every validation of a training reads: the same ones each time, drawn by seed."""
    order = derive(seed, "validation")
    found = source.batches(recipe.needs, order, rank=team.rank, world=team.world)
    yield from islice(found, recipe.val_batches)
