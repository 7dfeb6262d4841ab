"""SPATIA's training step as a whole: `small` against the same network written with torch's and timm's own layers.

Sparse: a panel of Xenium's, of whose genes a cell has a sixth. Dense: every cell has every gene, so that nothing is
gained by packing. Cells lie in niches of 12 to 30, as in a tissue; all the niches in one region.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mistline.models.spatia.context import Layout
from mistline.models.spatia.gene_tokens import SparseGenes, sparse
from mistline.models.spatia.inputs import Inputs, Records
from mistline.models.spatia.network import Given, Network
from mistline.models.spatia.params import Params
from tests.benchmarks.bench import Bench, Gate, alternate
from tests.benchmarks.plain_spatia import Dense, PlainSpatia
from tests.benchmarks.spatia_genes import cells_of

_SIZES_OF_NICHES = (12, 22, 30)  # cells; together half a batch of `small`
_PANEL, _DENSE = 377, 128  # genes
_CLIP = 1.0


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU seconds of several threads count their waiting
    try:
        for preset, what in (("fusion", "whole model"), ("mae", "cells only")):
            for name, n_genes, share, least in (("sparse", _PANEL, 1 / 6, 1.5), ("dense", _DENSE, 1.0, 1.0)):
                found = alternate(steps(Params(size="small", preset=preset), n_genes, share), bench.rounds)
                n = sum(_SIZES_OF_NICHES)
                note = f"batch {n}, {n / found['ours']:.0f} and {n / found['plain']:.0f} cells a CPU second"
                title = f"CPU of a training step, {what}, {name} genes"
                yield Gate(title, "s", found["ours"], found["plain"], least, note=note)
    finally:
        torch.set_num_threads(before)


def steps(params: Params, n_genes: int, share: float) -> dict[str, Callable[[], float]]:
    """Return both ways of a step: forward, backward, clipping and the optimiser, on the same cells."""
    given, dense = batch(params, n_genes, share)
    torch.manual_seed(0)
    network, plain = Network(params, Given(n_genes, 1)), PlainSpatia(params, n_genes)
    draw = torch.Generator().manual_seed(0)
    return {
        "ours": _timed(network, True, lambda: network(given, draw)["loss"]),
        "plain": _timed(plain, False, lambda: plain(dense)),
    }


def batch(params: Params, n_genes: int, share: float) -> tuple[Inputs, Dense]:
    """Return a batch as our network takes it, and the same padded to the panel.

    Args:
        params: sizes and levels.
        n_genes: of the panel.
        share: of them that a cell has, on average.
    """
    n, size = sum(_SIZES_OF_NICHES), params.image_size
    genes, image = cells_of(n, n_genes, share), _images(n, size)
    cells = Records(torch.full((n,), 12.0), image, genes)
    counts = torch.zeros(n, n_genes)
    counts[genes.row, genes.index] = genes.count
    if "niche" not in params.levels:
        return Inputs(cells), Dense(image, counts)
    niche = torch.repeat_interleave(torch.arange(len(_SIZES_OF_NICHES)), torch.tensor(_SIZES_OF_NICHES))
    n_niches = len(_SIZES_OF_NICHES)
    place = torch.stack([torch.arange(n_niches) % 4, torch.arange(n_niches) // 4], dim=1).float()
    offset_um = torch.rand(n, 2, generator=torch.Generator().manual_seed(1)) * 54 - 27
    zeros = torch.zeros(n_niches, dtype=torch.int64)
    layout = Layout(niche, offset_um, zeros, place, torch.ones(n_niches, dtype=torch.bool))
    of_niches = torch.zeros(n_niches, n_genes).index_add_(0, niche, counts)
    of_region = of_niches.sum(0, keepdim=True)
    niche_image = _images(n_niches, size)
    niches = Records(torch.full((n_niches,), 54.0), niche_image, _sparse(of_niches))
    region = Records(torch.full((1,), 217.0), None, _sparse(of_region))
    dense = Dense(image, counts, niche_image, (of_niches, of_region), layout)
    return Inputs(cells, niches, region, layout), dense


def _sparse(counts: Tensor) -> SparseGenes:
    row, gene = counts.nonzero(as_tuple=True)
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=len(counts)).cumsum(0)])
    return sparse(gene, counts[row, gene], offset, torch.zeros(len(counts), dtype=torch.int64))


def _images(n: int, size: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, size, size), dtype=torch.uint8, generator=draw)


def _timed(module: nn.Module, fused: bool, loss: Callable[[], Tensor]) -> Callable[[], float]:
    values = list(module.parameters())
    optimizer = torch.optim.AdamW(values, lr=1e-4, fused=fused)  # fused, as `train.loop` has it

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(values, _CLIP)
        optimizer.step()

    step()  # allocates the optimiser's state

    def seconds() -> float:
        start = time.process_time()
        step()
        return time.process_time() - start

    return seconds
