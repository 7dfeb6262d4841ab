"""The network: tokens, pre-norm blocks, the head, and the loss (specs/gest.md sections 6 to 8).

`M` cells of all windows, `B` windows, `R = M - B` pairs of a cell and the place asked after it, `D` width, `H` heads,
`d` width of a head, `K` meta-cells over `T` genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from mistline.models.gest.attention import causal_attention, context_attention, spatial_attention
from mistline.models.gest.losses import level_losses
from mistline.models.gest.positions import Positions, bands
from mistline.models.gest.serialise import Serialisation

_NEARNESS = 2.0  # of queries and keys that begin as codes of places


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a network is made of; see `Params`.

    Args:
        width: D.
        layers: number of blocks.
        heads: H.
        dropout: of what blocks add.
        step_um: length of one step of positions.
        spatial: whether positions are told.
        head: kind of the head.
        groups: number of groups of each coarser level that is learned.
    """

    width: int
    layers: int
    heads: int
    dropout: float
    step_um: float
    spatial: bool
    head: Literal["codebook", "direct"]
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Packed windows, their cells in any order.

    Args:
        delta_um: float32 [M, 2] places relative to the centre of the window.
        metacell: int64 [M].
        window: int64 [M] number of the window, rising.
        jitter_um: float32 [B] of the rule `jitter`.
        seen: int64 [R] rows of all cells but the last of each window.
        asked: int64 [R] rows of all but the first.
        lengths: [B] cells of each window, at least 2.
    """

    delta_um: Tensor
    metacell: Tensor
    window: Tensor
    jitter_um: Tensor
    seen: Tensor
    asked: Tensor
    lengths: tuple[int, ...]

    def to(self, device: str) -> Inputs:
        """Return them on a device."""
        names = ("delta_um", "metacell", "window", "jitter_um", "seen", "asked")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True, slots=True)
class Cache:
    """What asked places attend to: keys and values of the context's n cells, a pair [n, H, d] for each block."""

    layers: tuple[tuple[Tensor, Tensor], ...]


class Tokens(nn.Module):
    """Cells and places as vectors.

    Args:
        sizes: of the network.
        profiles: float32 [K, p] whitened profiles of the meta-cells.
    """

    profiles: Tensor

    def __init__(self, sizes: Sizes, profiles: Tensor) -> None:
        super().__init__()
        self.register_buffer("profiles", profiles)
        self.positions = Positions(sizes.width, sizes.step_um, sizes.spatial)
        self.read = nn.Linear(profiles.shape[1], sizes.width)
        self.norm = nn.LayerNorm(sizes.width)
        self.asked = nn.Parameter(torch.randn(sizes.width) * sizes.width**-0.5)

    def cells(self, delta_um: Tensor, metacell: Tensor) -> Tensor:
        """Return [n, D] of cells at places [n, 2] relative to the centre, of meta-cells int64 [n]."""
        return self.norm(self.read(self.profiles[metacell])) + self.positions(delta_um)

    def places(self, delta_um: Tensor) -> Tensor:
        """Return [n, D] of asked places [n, 2] relative to the centre."""
        return self.positions(delta_um) + self.asked


class Block(nn.Module):
    """Attention and two layers, each after a norm and added to what comes in.

    Args:
        sizes: of the network.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(sizes.dropout)
        if sizes.spatial:
            self._begin_near()

    @torch.no_grad()
    def _begin_near(self) -> None:
        """Let queries and keys begin with the codes of places, so that each token attends what lies near it."""
        width = self.out.in_features
        near = _NEARNESS * torch.eye(width)[bands(width, self.heads)]
        self.qkv.weight[: 2 * width] += near.repeat(2, 1)

    def forward(self, h: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return [2, R, D] of cells and asked places [2, R, D]."""
        q, k, v = self._qkv(h)
        return self._added(h, spatial_attention(q, k, v, lengths))

    def cells(self, h: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return [n, D] of tokens [n, D] that each see those before it, and their keys and values [n, H, d]."""
        q, k, v = self._qkv(h)
        return self._added(h, causal_attention(q, k, v, lengths)), k, v

    def places(self, h: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return [m, D] of asked places [m, D] that each see a context [n, H, d] and themselves."""
        q, k, v = self._qkv(h)
        return self._added(h, context_attention(q, k, v, keys, values))

    def _qkv(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.qkv(self.norm_attention(h))
        q, k, v = found.unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return q, k, v

    def _added(self, h: Tensor, seen: Tensor) -> Tensor:
        h = h + self.dropout(self.out(seen.flatten(-2)))
        return h + self.dropout(self.mlp(self.norm_mlp(h)))


class Head(nn.Module):
    """Scores of the meta-cells: of a profile that is predicted, with the meta-cells' own; or at once.

    Profiles are centred over the meta-cells, and of mean square 1: what all of them share tells none from another.

    Args:
        sizes: of the network.
        expression: float32 [K, T] of the meta-cells.
    """

    codebook: Tensor

    def __init__(self, sizes: Sizes, expression: Tensor) -> None:
        super().__init__()
        n_metacells, n_genes = expression.shape
        self.kind = sizes.head
        centred = expression - expression.mean(0)
        scale = centred.square().mean().sqrt().clamp(min=torch.finfo(centred.dtype).tiny)
        self.register_buffer("codebook", centred / scale, persistent=False)
        width = n_genes if sizes.head == "codebook" else n_metacells
        self.mlp = nn.Sequential(nn.Linear(sizes.width, sizes.width), nn.GELU(), nn.Linear(sizes.width, width))
        if sizes.head == "codebook":
            self.temperature = nn.Parameter(torch.tensor(n_genes**-0.5))

    def forward(self, h: Tensor) -> Tensor:
        """Return [n, K] scores of hidden states [n, D]."""
        found: Tensor = self.mlp(h)
        return found if self.kind == "direct" else (found @ self.codebook.t()) * self.temperature


class Network(nn.Module):
    """See the module.

    Args:
        sizes: of everything.
        profiles: float32 [K, p] whitened profiles of the meta-cells.
        expression: float32 [K, T] of the meta-cells.
        levels: int64 [K, n] their groups at the coarser levels.
        serialisation: how orders are drawn.
        side_um: of the windows.
    """

    expression: Tensor
    levels: Tensor

    def __init__(
        self,
        sizes: Sizes,
        profiles: Tensor,
        expression: Tensor,
        levels: Tensor,
        serialisation: Serialisation,
        side_um: float,
    ) -> None:
        super().__init__()
        self.sizes, self.serialisation, self.side_um = sizes, serialisation, side_um
        self.register_buffer("expression", expression)
        self.register_buffer("levels", levels)
        self.tokens = Tokens(sizes, profiles)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.head = Head(sizes, expression)

    def forward(self, inputs: Inputs, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of windows, in an order that is drawn: means over a window's cells, then over windows."""
        if not inputs.lengths:
            return {"loss": 0 * self.norm.weight.sum()}
        given = (inputs.delta_um, inputs.window, self.side_um, inputs.jitter_um)
        order = self.serialisation(*given, draw)
        ordered = replace(inputs, delta_um=inputs.delta_um[order], metacell=inputs.metacell[order])
        logits, wanted = self.logits(ordered), ordered.metacell[inputs.asked]
        losses = level_losses(logits, wanted, self.levels, self.sizes.groups)
        cells = torch.tensor(inputs.lengths, device=logits.device)
        weight = (1 / ((cells - 1) * len(cells)))[inputs.window[inputs.asked]]
        means = [(loss * weight).sum() for loss in losses]
        named = {f"level_{number}": value for number, value in enumerate(means)}
        hits = ((logits.argmax(1) == wanted) * weight).sum()
        return {"loss": torch.stack(means).mean(), **named, "accuracy": hits, "cells": cells.float().mean()}

    def logits(self, inputs: Inputs) -> Tensor:
        """Return [R, K] scores for every cell but the first of each window, read in the order in which they lie."""
        return self.head(self.hidden(inputs))

    def hidden(self, inputs: Inputs) -> Tensor:
        """Return [R, D] of the asked places."""
        cells = self.tokens.cells(inputs.delta_um[inputs.seen], inputs.metacell[inputs.seen])
        h = torch.stack([cells, self.tokens.places(inputs.delta_um[inputs.asked])])
        lengths = [length - 1 for length in inputs.lengths]
        for block in self.blocks:
            h = block(h, lengths)
        return self.norm(h[1])

    def context(self, delta_um: Tensor, metacell: Tensor) -> Cache:
        """Return what asked places attend to.

        Args:
            delta_um: [n, 2] places of the seen cells relative to a centre, in the order of the serialisation.
            metacell: int64 [n].
        """
        h, layers = self.tokens.cells(delta_um, metacell), []
        for block in self.blocks:
            h, keys, values = block.cells(h, [len(h)])
            layers.append((keys, values))
        return Cache(tuple(layers))

    def target(self, cache: Cache, delta_um: Tensor) -> Tensor:
        """Return [m, K] scores at places [m, 2] relative to the centre; each sees the whole context and itself."""
        h = self.tokens.places(delta_um)
        for block, (keys, values) in zip(self.blocks, cache.layers, strict=True):
            h = block.places(h, keys, values)
        return self.head(self.norm(h))

    def niche(self, delta_um: Tensor, metacell: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return [B, D], the hidden state at the first cell's place after all cells of each window were read.

        Section 10: the place stands last, and what stands last sees all before it and itself.

        Args:
            delta_um: [M, 2] places relative to the centres, in order; a window's first cell is the embedded one.
            metacell: int64 [M].
            lengths: [B] cells of each window.
        """
        sizes = torch.tensor(lengths, device=delta_um.device)
        first = sizes.cumsum(0) - sizes
        number = torch.arange(len(sizes), device=delta_um.device)
        of_cell = torch.repeat_interleave(number, sizes)
        h = delta_um.new_empty(len(delta_um) + len(sizes), self.sizes.width)
        last = sizes.cumsum(0) + number
        h[torch.arange(len(delta_um), device=delta_um.device) + of_cell] = self.tokens.cells(delta_um, metacell)
        h[last] = self.tokens.places(delta_um[first])
        for block in self.blocks:
            h = block.cells(h, [length + 1 for length in lengths])[0]
        return self.norm(h[last])
