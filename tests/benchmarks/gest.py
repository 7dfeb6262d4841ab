"""GeST: attention against a dense mask, filling with a context that is read once, and what windows waste.

Attention has specs/performance.md's shape: eight windows of 600 cells and as many asked places, eight heads; width 64
as there, and 12, the paper's. The reference is torch's own attention with a boolean mask of 2L x 2L that is made
before, on tensors that lie as it likes them best. Filling has the paper's network, weights random, on which speed does
not depend. CPU seconds of one thread, all ways in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mistline.infer.fill import Control, fill
from mistline.models.gest.attention import spatial_attention
from mistline.models.gest.codes import MetacellCode
from mistline.models.gest.model import Model
from mistline.models.gest.params import Params
from mistline.models.gest.windows import Cells, around
from mistline.train.device import cpu_threads
from tests.benchmarks.bench import Bench, Gate, alternate

_WINDOWS, _HEADS = 8, 8
_SHAPES = ((600, 64, 1.6), (600, 12, 1.6), (300, 12, None), (100, 12, None))  # L, width of a head, the least ratio
_ERROR = 1e-5  # the most that results and gradients may differ by
_LEAST_FILLING = 3.0
_METACELLS, _GENES, _COMPONENTS = 512, 377, 50
_SPACING_UM = 27.0  # about 500 cells in a window of 600 um
_SIDE_CELLS, _HOLE_UM = 40, 160.0
_BATCHES = 5
_MOST_WASTE = 10.0  # per cent


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    with cpu_threads(1):  # CPU seconds of several threads count their waiting
        for length, width, least in _SHAPES:
            yield _attention(length, width, least, bench.rounds)
        yield _filling(bench.rounds)
        yield from _padding()


class Attention:
    """Both ways of one attention, forward and backward, on the same numbers.

    Args:
        length: L, cells of each window.
        width: of a head.
    """

    def __init__(self, length: int, width: int) -> None:
        draw = torch.Generator().manual_seed(0)
        shape = (2, _WINDOWS * length, _HEADS, width)
        self.length = length
        self.packed = [torch.randn(shape, generator=draw).requires_grad_() for _ in range(3)]
        self.dense = [self._laid_out(value.detach()).requires_grad_() for value in self.packed]
        self.grad = torch.randn(shape, generator=draw)
        self.dense_grad = self._laid_out(self.grad)
        before = torch.ones(length, length, dtype=torch.bool).tril()
        cells, places = torch.cat([before, before], 0), torch.cat([torch.zeros_like(before), torch.eye(length) > 0], 0)
        self.mask = torch.cat([cells, places], 1)

    def ours(self) -> float:
        """Return CPU seconds."""
        self.found, seconds = _timed(
            lambda: spatial_attention(*self.packed, [self.length] * _WINDOWS), self.packed, self.grad
        )
        return seconds

    def masked(self) -> float:
        """Return CPU seconds of the reference."""
        self.expected, seconds = _timed(
            lambda: scaled_dot_product_attention(*self.dense, attn_mask=self.mask), self.dense, self.dense_grad
        )
        return seconds

    def error(self) -> float:
        """Return the largest difference of the last results and gradients of both ways, relative where above 1."""
        pairs = [(self._laid_out(self.found), self.expected)]
        pairs += [
            (self._laid_out(own.grad), other.grad)  # type: ignore[arg-type]
            for own, other in zip(self.packed, self.dense, strict=True)
        ]
        return max(float(((own - other).abs() / other.abs().clamp(min=1)).max()) for own, other in pairs)

    def _laid_out(self, value: Tensor) -> Tensor:
        """Return [windows, heads, 2L, width] of [2, windows * L, heads, width]."""
        apart = value.unflatten(1, (_WINDOWS, self.length)).permute(1, 3, 0, 2, 4)
        return apart.flatten(2, 3).contiguous()


def _timed(forward: Callable[[], Tensor], given: list[Tensor], grad: Tensor) -> tuple[Tensor, float]:
    for value in given:
        value.grad = None
    start = time.process_time()
    found = forward()
    found.backward(grad)
    return found.detach(), time.process_time() - start


def _attention(length: int, width: int, least: float | None, rounds: int) -> Gate:
    both = Attention(length, width)
    both.masked(), both.ours()  # memory is asked for
    repeats = max(1, 600 // length)
    found = alternate({"ours": both.ours, "dense": both.masked}, (rounds + 2) * repeats)
    error = both.error()
    if not error <= _ERROR:
        raise AssertionError(f"attention differs from the dense mask by {error:.2g}, L={length}, width {width}")
    name = f"attention, forward and backward, L={length}, heads {_HEADS} x {width}"
    return Gate(name, "s", found["ours"], found["dense"], least, note=f"{_WINDOWS} windows; differs by {error:.1e}")


class Again:
    """The same model, that reads the window again for each target.

    Args:
        model: with the cache.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.window_um, self.expression, self.is_quantised = model.window_um, model.expression, model.is_quantised
        self.entered = model.entered

    def tell(
        self, seen_xy_um: NDArray[np.float64], seen: NDArray[np.int64], target_xy_um: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return what `Model.tell` does, a target at a time."""
        return np.concatenate([self._model.tell(seen_xy_um, seen, place[None]) for place in target_xy_um])


def _filling(rounds: int) -> Gate:
    model, cells = _model(Params(size="paper")), _cells(_SIDE_CELLS, uneven=False)
    hidden = (np.abs(cells.xy_um - cells.xy_um.mean(axis=0)) < _HOLE_UM / 2).all(axis=1)
    told: dict[str, NDArray[np.float32]] = {}
    windows = 0

    def way(name: str, filler: Model | Again) -> Callable[[], float]:
        def seconds() -> float:
            nonlocal windows
            start = time.process_time()
            found = fill(filler, cells.xy_um, cells.content, hidden)
            took = time.process_time() - start
            told[name], windows = found.told, found.windows
            return took / len(found.rows)

        return seconds

    found = alternate({"ours": way("ours", model), "again": way("again", Again(model))}, rounds)
    gap = float(np.abs(told["ours"] - told["again"]).max())
    if not gap <= _ERROR:
        raise AssertionError(f"filling differs from reading windows again by {gap:.2g}")
    n = int(hidden.sum())
    asked = n * Control().n_frontier / windows
    note = f"{n} cells, {windows} windows, about {asked:.1f} targets a window"
    return Gate(
        "CPU of filling, a cell; window read once", "s", found["ours"], found["again"], _LEAST_FILLING, note=note
    )


def _model(params: Params) -> Model:
    draw = torch.Generator().manual_seed(0)
    profiles = torch.randn(_METACELLS, _COMPONENTS, generator=draw)
    expression = torch.rand(_METACELLS, _GENES, generator=draw)
    groups = torch.stack([torch.arange(_METACELLS) % n for n in params.levels], 1)
    torch.manual_seed(0)
    code = MetacellCode(params.width, params.head, profiles, expression, groups, params.levels)
    return Model(params, tuple(f"G{number:05d}" for number in range(_GENES)), code, None)


def _cells(side: int, *, uneven: bool) -> Cells:
    """Return cells on a shaken grid; uneven ones are four times as dense on one side as on the other."""
    rng = np.random.default_rng(0)
    unit = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2).astype(np.float64)
    xy = (unit + rng.uniform(-0.3, 0.3, unit.shape)) * _SPACING_UM
    if uneven:
        xy[:, 0] *= 0.5 + 1.5 * unit[:, 0] / side
    return Cells(xy.astype(np.float32), rng.integers(0, _METACELLS, len(xy)))


def _padding() -> Iterator[Gate]:
    """Yield what training batches waste of their tokens: windows around random cells of uneven tissue, borders too.

    Tokens are counted as the first block is given them, of a small network with the paper's windows and batches.
    """
    params = Params(size="tiny", window_um=600.0, train_batch=Params(size="paper").train_batch)
    cells, model, given = _cells(120, uneven=True), _model(params), []
    model.net.blocks[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].shape[:-1].numel()))
    rng, order = np.random.default_rng(1), torch.Generator().manual_seed(0)
    needed, padded = 0, 0
    with torch.no_grad():
        for _ in range(_BATCHES):
            centres = cells.xy_um[rng.choice(len(cells), params.train_batch, replace=False)].astype(np.float64)
            windows = around(cells, centres, params.window_um, params.max_cells)
            model.net(model._packed([(cells, centres, windows)]), order)
            needed += 2 * int((windows.lengths - 1).sum())
            padded += 2 * len(windows.lengths) * int(windows.lengths.max() - 1)
    shown = f"{needed:,} tokens of {_BATCHES} batches of {params.train_batch} windows of {params.window_um:g} um"
    yield Gate("tokens that are padding, packed", "%", 100 * (1 - needed / sum(given)), limit=_MOST_WASTE, note=shown)
    yield Gate("tokens that would be padding, padded to the longest", "%", 100 * (1 - needed / padded))
