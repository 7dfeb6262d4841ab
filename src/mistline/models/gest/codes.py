"""What a cell is to the network: how it is read, what is said of an asked place, and what that costs.

`MetacellCode` is the paper's: a cell is its meta-cell, and probabilities of meta-cells are learned, level by level
(specs/gest.md sections 4, 7 and 8). `ProfileCode` is the ablation without quantisation: a cell is its own profile, and
a profile is learned with a squared error. `K` meta-cells over `T` genes, `D` width of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mistline.core.errors import InputError
from mistline.models.contract import Source
from mistline.models.gest import vocabulary
from mistline.models.gest.losses import level_losses
from mistline.models.gest.params import Params

_REMEDY = "restore them with their own settings, or train again"


class MetacellCode(nn.Module):
    """Cells as meta-cells, int64 [n].

    Scores are of a profile that is predicted, with the meta-cells' own, or come at once. Profiles are centred over the
    meta-cells, and of mean square 1: what all of them share tells none from another.

    Args:
        width: D.
        head: kind of the scores.
        profiles: float32 [K, p] whitened profiles, as they are read.
        expression: float32 [K, T].
        levels: int64 [K, n] groups at the coarser levels.
        groups: number of groups of each of these that is learned; none for the meta-cells alone.
    """

    profiles: Tensor
    expression: Tensor
    levels: Tensor
    codebook: Tensor

    def __init__(
        self,
        width: int,
        head: Literal["codebook", "direct"],
        profiles: Tensor,
        expression: Tensor,
        levels: Tensor,
        groups: Sequence[int],
    ) -> None:
        super().__init__()
        self.kind, self.groups = head, tuple(groups)
        for name, value in (("profiles", profiles), ("expression", expression), ("levels", levels)):
            self.register_buffer(name, value)
        n_metacells, n_genes = expression.shape
        centred = expression - expression.mean(0)
        scale = centred.square().mean().sqrt().clamp(min=torch.finfo(centred.dtype).tiny)
        self.register_buffer("codebook", centred / scale, persistent=False)
        self.mlp = _head(width, n_genes if head == "codebook" else n_metacells)
        if head == "codebook":
            self.temperature = nn.Parameter(torch.tensor(n_genes**-0.5))

    @property
    def read_width(self) -> int:
        """Return p, the width of what `read` gives."""
        return self.profiles.shape[1]

    def read(self, content: Tensor) -> Tensor:
        """Return [n, p] of cells."""
        return self.profiles[content]

    def forward(self, h: Tensor) -> Tensor:
        """Return [n, K] scores of hidden states [n, D]."""
        found: Tensor = self.mlp(h)
        return found if self.kind == "direct" else (found @ self.codebook.t()) * self.temperature

    def losses(self, said: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Return name -> [R] for scores [R, K] and cells [R]: `loss`, which is learned, and what is logged."""
        levels = level_losses(said, wanted, self.levels, self.groups)
        named = {f"level_{number}": value for number, value in enumerate(levels)}
        return {"loss": torch.stack(levels).mean(0), **named, "accuracy": (said.argmax(1) == wanted).float()}

    def told(self, said: Tensor) -> Tensor:
        """Return [n, K] probabilities of scores."""
        return said.float().softmax(dim=1)

    def answers(self) -> Tensor:
        """Return [K, T], of whose rows what is told are weights."""
        return self.expression


class ProfileCode(nn.Module):
    """Cells as log-normalised profiles, float32 [n, T]; each gene is learned at variance 1.

    Args:
        width: D.
        mean: float32 [T] over training cells.
        spread: float32 [T] standard deviation over them.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.mlp = _head(width, len(mean))

    @property
    def read_width(self) -> int:
        """Return T, the width of what `read` gives."""
        return len(self.mean)

    def read(self, content: Tensor) -> Tensor:
        """Return [n, T] of cells, each gene of mean 0 and variance 1."""
        return (content - self.mean) / self.spread

    def forward(self, h: Tensor) -> Tensor:
        """Return [n, T] as `read` gives cells, of hidden states [n, D]."""
        found: Tensor = self.mlp(h)
        return found

    def losses(self, said: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Return `loss` -> [R], the mean squared error over genes."""
        return {"loss": (said.float() - self.read(wanted)).square().mean(1)}

    def told(self, said: Tensor) -> Tensor:
        """Return [n, T] profiles."""
        return said.float() * self.spread + self.mean

    def answers(self) -> Tensor:
        """Return [T, T], which leaves what is told as it is."""
        return torch.eye(len(self.mean))


Code = MetacellCode | ProfileCode


def fitted(params: Params, source: Source, seed: int) -> tuple[tuple[str, ...], Code, vocabulary.Query | None]:
    """Return genes, an untrained code, and how content is given: of the dataset's meta-cells where it has them."""
    if not params.quantised:
        plain, spread = vocabulary.plain(source, params, seed)
        return source.common_genes, ProfileCode(params.width, *map(torch.from_numpy, (plain.mean, spread))), plain
    found, query = source.vocabulary, None
    if found is None:
        found, query = vocabulary.fit(source, params, seed)
    profiles = vocabulary.whitened(found.expression, params.profile_components)
    given = map(torch.from_numpy, (profiles, found.expression, found.levels))
    return found.genes, _metacell_code(params, *given), query


def restored(params: Params, tensors: Mapping[str, Tensor], n_genes: int) -> Code:
    """Return the code that weights are of; its layers are still to be filled.

    Raises:
        InputError: parts of it are missing or of another number of genes.
    """
    names = ("profiles", "expression", "levels") if params.quantised else ("mean", "spread")
    given = [tensors.get(f"code.{name}") for name in names]
    if any(value is None for value in given) or given[1].shape[-1] != n_genes:  # type: ignore[union-attr]
        raise InputError("weights of gest", "they lack what a cell is read as, or it has other genes", _REMEDY)
    return (_metacell_code if params.quantised else _profile_code)(params, *given)  # type: ignore[arg-type]


def _metacell_code(params: Params, profiles: Tensor, expression: Tensor, levels: Tensor) -> MetacellCode:
    groups = [int(level.max()) + 1 for level in levels.t()] if params.hierarchy else []
    return MetacellCode(params.width, params.head, profiles, expression, levels, groups)


def _profile_code(params: Params, mean: Tensor, spread: Tensor) -> ProfileCode:
    return ProfileCode(params.width, mean, spread)


def _head(width: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, n_out))
