"""A sampler's step of the 43 M U-Net: merged by guidance's importance, by tomesd, and not at all.

A batch of four is two images with and without condition. Weights are random, on which speed does not depend; `kappa` is
0, where every token joins as many anchors as it may, which is the dearest case. Ways that merge whole transformer
blocks do so on every level of at least 256 tokens. CPU seconds of one thread, all ways in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from mistline.config.generation import Merge
from mistline.models.diffusion.merged import Merging, bipartite, merging
from mistline.models.diffusion.unet import PAPER, build
from tests.benchmarks.bench import Bench, Gate, alternate

_LEAST = {32: 1.25, 64: 1.6}  # times as fast, with half of the tokens
_RATIOS = (0.25, 0.5, 0.75)
_REPEATS = {32: 3, 64: 1}  # of each way in a round
_SMALLEST = 256  # tokens
_N_IMAGES, _TOKEN_WIDTH, _N_TOKENS = 2, 256, 4


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU seconds of several threads count their waiting
    torch.manual_seed(0)
    unet = build(PAPER, 4, _TOKEN_WIDTH).eval()
    try:
        with torch.no_grad():
            for side, least in _LEAST.items():
                step = Step(unet, side)
                yield from _shares(step)
                yield from _speeds(step, least, bench.rounds * _REPEATS[side])
    finally:
        torch.set_num_threads(before)


class Step:
    """One step of guidance on random latents.

    Args:
        unet: what draws.
        side: of the latents.
    """

    def __init__(self, unet: nn.Module, side: int) -> None:
        self.unet, self.side = unet, side
        draw = torch.Generator().manual_seed(0)
        self._latents = torch.randn(2 * _N_IMAGES, 4, side, side, generator=draw)
        self._tokens = torch.randn(2 * _N_IMAGES, _N_TOKENS, _TOKEN_WIDTH, generator=draw)
        self.predictions = torch.randn(2, _N_IMAGES, 4, side, side, generator=draw)
        self()  # allocates

    def __call__(self) -> float:
        """Return its CPU seconds."""
        start = time.process_time()
        self.unet(self._latents, 500, encoder_hidden_states=self._tokens, class_labels=self._tokens.flatten(1))
        return time.process_time() - start


def _speeds(step: Step, least: float, rounds: int) -> Iterator[Gate]:
    ways: dict[str, Callable[[], float]] = {"not merged": step}
    for ratio in _RATIOS:
        ways[f"guidance, {ratio:.0%}"] = _by_guidance(step, ratio)
    ways["guidance, 50%, map kept"] = _by_guidance(step, 0.5, kept=True)
    for ratio in _RATIOS:
        ways[f"tomesd, {ratio:.0%}"] = _within(step, lambda r=ratio: bipartite(step.unet, r))
    for ratio in _RATIOS:
        reduction = round(step.side / _SMALLEST**0.5)
        ways[f"tomesd whole blocks, {ratio:.0%}"] = _within(
            step, lambda r=ratio, by=reduction: bipartite(step.unet, r, reduction=by, whole=True)
        )
    found = alternate(ways, rounds)
    plain = found.pop("not merged")
    best = min(found["tomesd, 50%"], found["tomesd whole blocks, 50%"])
    for name, seconds in found.items():
        wanted = least if name == "guidance, 50%" else None
        note = f"{best / seconds:.2f}x tomesd's better way at 50%" if name == "guidance, 50%" else ""
        yield Gate(_title(step, name), "s", seconds, plain, wanted, note=note)


def _title(step: Step, name: str) -> str:
    return f"step, latents {step.side} x {step.side}: {name}"


def _by_guidance(step: Step, ratio: float, kept: bool = False) -> Callable[[], float]:
    def seconds() -> float:
        with merging(step.unet, Merge(way="cfg", ratio=ratio, kappa=0.0, smallest=_SMALLEST)) as handle:
            handle.observe(*step.predictions)
            if kept:
                step()  # makes the map
            return step()

    return seconds


def _within(step: Step, way: Callable[[], AbstractContextManager[Merging | None]]) -> Callable[[], float]:
    def seconds() -> float:
        with way():
            return step()

    return seconds


def _shares(step: Step) -> Iterator[Gate]:
    """Yield which part of a step merging could save at most, were it free and nothing left of the tokens."""
    blocks = [part for part in step.unet.modules() if isinstance(part, BasicTransformerBlock)]
    top = [block for block in blocks if block.attn1.query_dim == PAPER.channels[0]]
    parts = {
        "self-attention of the first level": [block.attn1 for block in top],
        "self-attention": [block.attn1 for block in blocks],
        "transformer blocks": blocks,
    }
    for name, modules in parts.items():
        share = _share(step, modules)
        note = f"without it {1 / (1 - share):.2f}x"
        yield Gate(_title(step, f"share of {name}"), "%", 100 * share, note=note)


def _share(step: Step, modules: list[nn.Module]) -> float:
    began: list[float] = []
    taken: list[float] = []

    def begin(*_: nn.Module | Tensor) -> None:
        began.append(time.process_time())

    def end(*_: nn.Module | Tensor) -> None:
        taken.append(time.process_time() - began[-1])

    hooks = [part.register_forward_pre_hook(begin) for part in modules]
    hooks += [part.register_forward_hook(end) for part in modules]
    whole = step()
    for hook in hooks:
        hook.remove()
    return sum(taken) / whole
