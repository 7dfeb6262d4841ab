"""Classes from z (specs/spatia.md, section 7): off unless `class_heads` names label columns.

One linear layer a column, a binary cross-entropy a class, and parents of an ontology scored by the log-sum-exp of
their leaves. Labels come with the training records alone; what is trained so has seen them, and says so
(`Params.reads`).

`B` cells, `K` label columns, `L` leaves of a column, `P` its parents, `D` width of z.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.core.errors import ConfigError
from mistline.models.contract import Batch, Needs, Source

_BIAS = -0.13  # of a new head, as in the published code
UNKNOWN = -1

Parents = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of one label column.

    Args:
        column: its name.
        leaves: L names.
        parents: P names -> the leaves below each.
    """

    column: str
    leaves: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Return [L + P], leaves first: what a label's number points into."""
        return (*self.leaves, *self.parents)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        below = {name: list(leaves) for name, leaves in self.parents.items()}
        return {"column": self.column, "leaves": list(self.leaves), "parents": below}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Classes:
        """Return the classes that `as_json` gave."""
        below = {name: tuple(leaves) for name, leaves in told["parents"].items()}
        return cls(told["column"], tuple(told["leaves"]), below)


def read_classes(source: Source, columns: Sequence[str], parents: Mapping[str, Parents]) -> tuple[Classes, ...]:
    """Return the classes of the training records, column by column.

    Args:
        source: training records; no image and no genes are read.
        columns: of labels.
        parents: column -> parent -> its leaves; a leaf may be one that no training record has.

    Raises:
        ConfigError: no training record has a label of a column, or a column has fewer than two leaves.
    """
    found: dict[str, set[str]] = {column: set() for column in columns}
    for batch in source.batches(Needs(batch_size=4096)) if columns else ():
        for column in columns:
            found[column].update(str(value) for value in batch.labels.get(column, ()) if value is not None)
    return tuple(_classes(column, known, parents.get(column, {})) for column, known in found.items())


def _classes(column: str, known: Iterable[str], parents: Parents) -> Classes:
    below = {name: tuple(sorted(set(leaves))) for name, leaves in sorted(parents.items())}
    leaves = (set(known) | {leaf for own in below.values() for leaf in own}) - set(below)
    if not set(known):
        what = f"no training record has a label {column}"
        raise ConfigError("class_heads", what, "name a column of the training slides' labels, or leave it out")
    if len(leaves) < 2:
        raise ConfigError("class_heads", f"label {column} has one class only", "leave it out")
    return Classes(column, tuple(sorted(leaves)), below)


def numbers(batch: Batch, classes: Sequence[Classes]) -> Tensor | None:
    """Return int64 [B, K], the place of each record's label in `Classes.names`; -1 for unknown ones.

    A label that no training record had, as a validation record may have, is unknown.
    """
    if not classes:
        return None
    columns = []
    for own in classes:
        place = {name: number for number, name in enumerate(own.names)}
        values = batch.labels.get(own.column, [None] * len(batch.xy_um))
        columns.append([UNKNOWN if value is None else place.get(str(value), UNKNOWN) for value in values])
    return torch.tensor(columns, dtype=torch.int64).T.contiguous()


class ClassHead(nn.Module):
    """One column's classes from z.

    Args:
        width: D.
        classes: of the column.
    """

    def __init__(self, width: int, classes: Classes) -> None:
        super().__init__()
        self.leaves = nn.Linear(width, len(classes.leaves))
        nn.init.constant_(self.leaves.bias, _BIAS)
        member = torch.eye(len(classes.names), len(classes.leaves), dtype=torch.bool)  # [L + P, L]
        for number, below in enumerate(classes.parents.values(), len(classes.leaves)):
            member[number] = torch.tensor([leaf in below for leaf in classes.leaves])
        above = (member[:, None] <= member[None]).all(2)  # [a, b]: all leaves of a are leaves of b
        apart = ~(member[:, None] & member[None]).any(2)
        self.register_buffer("member", member, persistent=False)
        self.register_buffer("target", above.float(), persistent=False)  # [label, class]
        # A cell known by a parent only says nothing about its leaves, nor about other parents that share some.
        self.register_buffer("scored", (above | apart).float(), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Return float32 logits [B, L + P] of z [B, D]."""
        leaves = self.leaves(z).float()
        parents = self.member[leaves.shape[1] :]  # [P, L]
        if not len(parents):
            return leaves
        below = leaves[:, None].masked_fill(~parents, -torch.inf)
        return torch.cat([leaves, below.logsumexp(2)], dim=1)

    def loss(self, z: Tensor, number: Tensor) -> Tensor:
        """Return the mean over cells of known label of the mean over their scored classes; 0 where none is known.

        Args:
            z: [B, D].
            number: int64 [B] of the label, -1 for unknown.
        """
        known = (number >= 0).float()
        row = number.clamp(min=0)
        scored = self.scored[row] * known[:, None]
        loss = functional.binary_cross_entropy_with_logits(self(z), self.target[row], reduction="none")
        of_cell = (loss * scored).sum(1) / scored.sum(1).clamp(min=1)
        return of_cell.sum() / known.sum().clamp(min=1)


class ClassHeads(nn.Module):
    """The heads of all columns.

    Args:
        width: D.
        classes: of each of K columns.
    """

    def __init__(self, width: int, classes: Sequence[Classes]) -> None:
        super().__init__()
        self.columns = tuple(own.column for own in classes)
        self.heads = nn.ModuleList(ClassHead(width, own) for own in classes)

    def forward(self, z: Tensor, number: Tensor | None) -> dict[str, Tensor]:
        """Return the loss of each column, `classes_<column>`.

        Args:
            z: [B, D].
            number: int64 [B, K]; None where no label is read.
        """
        if number is None:
            return {}
        return {
            f"classes_{column}": head.loss(z, number[:, place])
            for place, (column, head) in enumerate(zip(self.columns, self.heads, strict=True))
        }
