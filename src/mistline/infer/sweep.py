"""Drawing the same cells with and without token merging and in fewer steps, timed in turns.

Speeds are measured in one run, batch by batch, each batch by every variant before the next: what else the machine does
then slows all variants alike, and a variant's speed-up is the median over batches of a ratio within a batch.

`B` cells, `c, h, w` channels and sides of the latents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.config.generation import Merge, Sampling, Sweep
from mistline.core.log import progress
from mistline.infer.generators import Generator

FEWEST_BATCHES = 4  # of timings that a median is taken over, where there are as many cells
_SHARE_STEPS = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of drawing.

    Args:
        way: of merging.
        ratio: of the tokens merged away.
        steps: of the sampler.
    """

    way: str
    ratio: float
    steps: int

    def of(self, sampling: Sampling) -> Sampling:
        """Return the settings that draw this way."""
        merge = sampling.merge.model_copy(update={"way": self.way, "ratio": self.ratio})
        return sampling.model_copy(update={"steps": self.steps, "merge": merge})


@dataclass(frozen=True, slots=True)
class Run:
    """What a variant drew, and how long it took.

    Args:
        images: uint8 [n, C, S, S], in the order of the cells.
        seconds: [batches] that sampling took, per image.
    """

    images: NDArray[np.uint8]
    seconds: NDArray[np.float64]


def variants(sweep: Sweep, sampling: Sampling) -> list[Variant]:
    """Return the rows of the table: for each number of steps no merging, then each way at each ratio above 0.

    Args:
        sweep: what is compared.
        sampling: without guidance there is nothing that way cfg could merge by, and it is left out.
    """
    ways = [way for way in sweep.ways if way != "cfg" or sampling.guidance != 1]
    found = []
    for steps in sorted(set(sweep.steps), reverse=True):
        found.append(Variant("none", 0.0, steps))
        found += [Variant(way, ratio, steps) for way in ways for ratio in sorted(sweep.ratios) if ratio > 0]
    return list(dict.fromkeys(found))


def swept_cells(generator: Generator, n: int) -> pd.DataFrame:
    """Return at most n test cells, as evenly from the slides as they have them."""
    own = [generator.cells(slide, "test") for slide in generator.readers]
    rank = [np.arange(len(cells)) for cells in own]
    cells = pd.concat(own)
    return cells.iloc[np.argsort(np.concatenate(rank), kind="stable")[:n]]


def batch_size(sampling: Sampling, n: int) -> int:
    """Return how many cells are drawn at once: as many as the settings say, but so that there are several batches."""
    return max(1, min(sampling.batch_size, n // FEWEST_BATCHES))


@dataclass(frozen=True, slots=True)
class Timer:
    """Draws cells by variants in turns.

    Args:
        generator: with its latents.
        protocol: that is drawn from.
        sampling: settings that variants change.
        seed: of the noise.
    """

    generator: Generator
    protocol: str
    sampling: Sampling
    seed: int

    def run(self, asked: Sequence[Variant], cells: pd.DataFrame) -> dict[Variant, Run]:
        """Draw the cells by every variant.

        Args:
            asked: the variants.
            cells: of `swept_cells`; what fills no batch is drawn, and not timed.
        """
        tokens = torch.from_numpy(self.generator.encoded(cells).tokens)
        seeds = self.generator.seeds(cells, self.seed)
        size = batch_size(self.sampling, len(cells))
        latents: dict[Variant, list[Tensor]] = {variant: [] for variant in asked}
        seconds: dict[Variant, list[float]] = {variant: [] for variant in asked}
        for variant in asked:  # the first batch of each is a warm-up
            self.sample(variant, tokens[:size], seeds[:size])
        for number, rows in enumerate(progress(list(_batches(len(cells), size)), "batches")):
            turned = [*asked[number % len(asked) :], *asked[: number % len(asked)]]
            for variant in turned:
                drawn, taken = self.sample(variant, tokens[rows], seeds[rows])
                latents[variant].append(drawn)
                if len(drawn) == size:
                    seconds[variant].append(taken / size)
        return {
            variant: Run(self.generator.drawer.decode(torch.cat(latents[variant])), np.array(seconds[variant]))
            for variant in asked
        }

    def sample(self, variant: Variant, tokens: Tensor, seeds: Sequence[int]) -> tuple[Tensor, float]:
        """Return latents of one batch, and the seconds it took."""
        sampling = variant.of(self.sampling).model_copy(update={"batch_size": len(tokens)})
        self.wait()
        start = time.perf_counter()
        drawn = self.generator.drawer.model.sample(tokens, self.protocol, sampling, seeds)
        self.wait()
        return drawn, time.perf_counter() - start

    def wait(self) -> None:
        """Wait for the device."""
        if self.generator.drawer.device.startswith("cuda"):
            torch.cuda.synchronize()


def speed(run: Run, beside: Run) -> dict[str, Any]:
    """Return seconds an image, and how many times faster than another variant: medians over batches, and the range."""
    ratio = beside.seconds / run.seconds
    return {
        "seconds_per_image": float(np.median(run.seconds)),
        "seconds": [round(float(value), 6) for value in run.seconds],
        "speedup": {"value": float(np.median(ratio)), "low": float(ratio.min()), "high": float(ratio.max())},
    }


def notes(latent_shape: Sequence[int], merge: Merge, sampling: Sampling) -> list[str]:
    """Return what a reader of the table must know of these latents and settings."""
    n_tokens = int(latent_shape[1] * latent_shape[2])
    found = []
    if n_tokens < merge.smallest:
        found.append(
            f"no layer has the {merge.smallest} tokens from which way cfg merges (the largest has {n_tokens}): its "
            "rows draw what no merging draws, and differ from it by the scatter of time alone"
        )
    if sampling.guidance == 1:
        found.append("guidance is 1, so that nothing tells which tokens matter: way cfg is left out")
    return found


def shares(generator: Generator, protocol: str, sampling: Sampling, cells: pd.DataFrame) -> dict[str, float]:
    """Return which share of sampling passes in self-attention, and in whole transformer blocks, without merging.

    By merging all of the tokens away sampling could become no faster than `1 / (1 - share)` times.

    Args:
        generator: with its latents.
        protocol: that is drawn from.
        sampling: settings; few steps are enough.
        cells: that are drawn at once.
    """
    timer = Timer(generator, protocol, sampling, 0)
    variant = Variant("none", 0.0, min(sampling.steps, _SHARE_STEPS))
    tokens, seeds = torch.from_numpy(generator.encoded(cells).tokens), generator.seeds(cells, 0)
    blocks = [
        part for part in generator.drawer.model.net.unet.modules() if type(part).__name__ == "BasicTransformerBlock"
    ]
    spent = {"transformer_blocks": 0.0, "self_attention": 0.0}
    handles = []
    for name, modules in (("transformer_blocks", blocks), ("self_attention", [block.attn1 for block in blocks])):
        for module in modules:
            handles += _timed(module, name, spent, timer.wait)
    try:
        timer.sample(variant, tokens, seeds)  # a warm-up
        spent.update(dict.fromkeys(spent, 0.0))
        _, whole = timer.sample(variant, tokens, seeds)
    finally:
        for handle in handles:
            handle.remove()
    return {name: taken / whole for name, taken in spent.items()}


def _timed(module: torch.nn.Module, name: str, spent: dict[str, float], wait: Callable[[], None]) -> list[Any]:
    started: list[float] = []

    def begin(*_: Any) -> None:
        wait()
        started.append(time.perf_counter())

    def end(*_: Any) -> None:
        wait()
        spent[name] += time.perf_counter() - started.pop()

    return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]


def _batches(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
