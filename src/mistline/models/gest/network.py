"""The network: tokens, pre-norm blocks, and the loss (specs/gest.md sections 6 to 8).

`M` cells of all windows, `B` windows, `R = M - B` pairs of a cell and the place asked after it, `D` width, `H` heads,
`d` width of a head. What is known of a cell, its content, is int64 [n] or float32 [n, T], and what is said of a place
is [n, W], as `codes.Code` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mistline.models.gest.attention import causal_attention, context_attention, spatial_attention
from mistline.models.gest.codes import Code, MetacellCode
from mistline.models.gest.nearby import Nearby
from mistline.models.gest.positions import Positions, turned
from mistline.models.gest.serialise import Serialisation


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
        turns: whether training windows are turned and mirrored.
        copies: whether meta-cells of seen cells are copied by their distance.
    """

    width: int
    layers: int
    heads: int
    dropout: float
    step_um: float
    spatial: bool
    turns: bool
    copies: bool


@dataclass(frozen=True, slots=True)
class Inputs:
    """Packed windows, their cells in any order.

    Args:
        delta_um: float32 [M, 2] places relative to the centre of the window.
        content: [M] or [M, T] of the cells.
        window: int64 [M] number of the window, rising.
        jitter_um: float32 [B] of the rule `jitter`.
        seen: int64 [R] rows of all cells but the last of each window.
        asked: int64 [R] rows of all but the first.
        lengths: [B] cells of each window, at least 2.
    """

    delta_um: Tensor
    content: Tensor
    window: Tensor
    jitter_um: Tensor
    seen: Tensor
    asked: Tensor
    lengths: tuple[int, ...]

    def to(self, device: str) -> Inputs:
        """Return them on a device."""
        names = ("delta_um", "content", "window", "jitter_um", "seen", "asked")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True, slots=True)
class Cache:
    """What asked places attend to.

    Args:
        layers: keys and values of the context's n cells, a pair [n, H, d] for each block.
        delta_um: [n, 2] places of these cells relative to the centre.
        content: [n] or [n, T] of them.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    delta_um: Tensor
    content: Tensor


class Tokens(nn.Module):
    """Cells and places as vectors.

    Args:
        sizes: of the network.
        read_width: of what is read of a cell.
    """

    def __init__(self, sizes: Sizes, read_width: int) -> None:
        super().__init__()
        self.positions = Positions(sizes.width, sizes.step_um, sizes.spatial)
        self.read = nn.Linear(read_width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width)
        self.asked = nn.Parameter(torch.randn(sizes.width) * sizes.width**-0.5)

    def cells(self, delta_um: Tensor, values: Tensor) -> Tensor:
        """Return [n, D] of cells at places [n, 2] relative to the centre, of which [n, p] is read."""
        return self.norm(self.read(values)) + self.positions(delta_um)

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


class Network(nn.Module):
    """See the module.

    Args:
        sizes: of the blocks.
        code: what a cell is.
        serialisation: how orders are drawn.
        side_um: of the windows.
    """

    def __init__(self, sizes: Sizes, code: Code, serialisation: Serialisation, side_um: float) -> None:
        super().__init__()
        self.sizes, self.serialisation, self.side_um = sizes, serialisation, side_um
        self.tokens = Tokens(sizes, code.read_width)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)
        self.code = code
        copied = isinstance(code, MetacellCode) and sizes.copies
        self.nearby = Nearby(sizes.width, len(code.answers())) if copied else None

    def forward(self, inputs: Inputs, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of windows, in an order that is drawn: means over a window's cells, then over windows."""
        if not inputs.lengths:
            return {"loss": 0 * self.norm.weight.sum()}
        if self.training and self.sizes.turns:
            inputs = replace(inputs, delta_um=turned(inputs.delta_um, inputs.window, draw))
        given = (inputs.delta_um, inputs.window, self.side_um, inputs.jitter_um)
        order = self.serialisation(*given, draw)
        ordered = replace(inputs, delta_um=inputs.delta_um[order], content=inputs.content[order])
        found = self.code.losses(self.said(ordered), ordered.content[inputs.asked])
        cells = torch.tensor(inputs.lengths, device=inputs.delta_um.device)
        weight = (1 / ((cells - 1) * len(cells)))[inputs.window[inputs.asked]]
        return {**{name: (value * weight).sum() for name, value in found.items()}, "cells": cells.float().mean()}

    def said(self, inputs: Inputs) -> Tensor:
        """Return [R, W] for every cell but the first of each window, read in the order in which they lie."""
        h = self.hidden(inputs)
        said = self.code(h)
        if self.nearby is None:
            return said
        places, seen = inputs.delta_um[inputs.asked], inputs.delta_um[inputs.seen]
        lengths = [length - 1 for length in inputs.lengths]
        return self.nearby.in_order(h, said, places, seen, inputs.content[inputs.seen], lengths)

    def hidden(self, inputs: Inputs) -> Tensor:
        """Return [R, D] of the asked places."""
        cells = self._cells(inputs.delta_um[inputs.seen], inputs.content[inputs.seen])
        h = torch.stack([cells, self.tokens.places(inputs.delta_um[inputs.asked])])
        lengths = [length - 1 for length in inputs.lengths]
        for block in self.blocks:
            h = block(h, lengths)
        return self.norm(h[1])

    def context(self, delta_um: Tensor, content: Tensor) -> Cache:
        """Return what asked places attend to.

        Args:
            delta_um: [n, 2] places of the seen cells relative to a centre, in the order of the serialisation.
            content: [n] or [n, T] of them.
        """
        h, layers = self._cells(delta_um, content), []
        for block in self.blocks:
            h, keys, values = block.cells(h, [len(h)])
            layers.append((keys, values))
        return Cache(tuple(layers), delta_um, content)

    def target(self, cache: Cache, delta_um: Tensor) -> Tensor:
        """Return [m, W] at places [m, 2] relative to the centre; each sees the whole context and itself."""
        h = self.tokens.places(delta_um)
        for block, (keys, values) in zip(self.blocks, cache.layers, strict=True):
            h = block.places(h, keys, values)
        h = self.norm(h)
        said = self.code(h)
        return said if self.nearby is None else self.nearby(h, said, delta_um, cache.delta_um, cache.content)

    def niche(self, delta_um: Tensor, content: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return [B, D], the hidden state at the first cell's place after all cells of each window were read.

        Section 10: the place stands last, and what stands last sees all before it and itself.

        Args:
            delta_um: [M, 2] places relative to the centres, in order; a window's first cell is the embedded one.
            content: [M] or [M, T] of them.
            lengths: [B] cells of each window.
        """
        sizes = torch.tensor(lengths, device=delta_um.device)
        first = sizes.cumsum(0) - sizes
        number = torch.arange(len(sizes), device=delta_um.device)
        of_cell = torch.repeat_interleave(number, sizes)
        h = delta_um.new_empty(len(delta_um) + len(sizes), self.sizes.width)
        last = sizes.cumsum(0) + number
        h[torch.arange(len(delta_um), device=delta_um.device) + of_cell] = self._cells(delta_um, content)
        h[last] = self.tokens.places(delta_um[first])
        for block in self.blocks:
            h = block.cells(h, [length + 1 for length in lengths])[0]
        return self.norm(h[last])

    def _cells(self, delta_um: Tensor, content: Tensor) -> Tensor:
        return self.tokens.cells(delta_um, self.code.read(content))
