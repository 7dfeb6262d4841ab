"""SPATIA's gene side: a training step of `small` with packed tokens against a plain transformer padded to the panel.

The sparse panel is one of Xenium's, of whose genes a cell has a sixth, from 7 to about half of them; on the dense one
every cell has every gene, so that nothing is gained by packing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from mistline.models.spatia.gene_tokens import GeneTokens, Panels, SparseGenes, collate, sparse
from mistline.models.spatia.genes import GeneEncoder, GeneSizes, chunked
from mistline.models.spatia.params import SIZES
from tests.benchmarks.bench import Bench, Gate, alternate
from tests.benchmarks.plain_genes import PlainGenes, padded

_BATCH, _CHUNKS = 64, 8
_STEPS = 3  # in a round; each is timed by itself, so that both ways meet the same neighbours
_PANEL, _DENSE = 377, 128  # genes
_VOCABULARY, _LARGE_PANEL = 23_122, 5_001
_MOST, _ZEROS = 1000, 0.25  # genes of a cell, and zeros drawn beside them


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU seconds of several threads count their waiting
    try:
        for name, n_genes, share, least in (("sparse", _PANEL, 1 / 6, 3.0), ("dense", _DENSE, 1.0, 1.0)):
            tokens = collate(cells_of(_BATCH, n_genes, share), n_genes, draw=None)
            found = alternate(_steps(tokens, n_genes), bench.rounds * _STEPS)
            length = float(tokens.lengths().float().mean())
            note = f"batch {_BATCH}, {length:.0f} of {n_genes} genes a cell, no dropout in either"
            yield Gate(f"CPU of a training step, {name} genes", "s", found["ours"], found["plain"], least, note=note)
        yield _collation(bench)
    finally:
        torch.set_num_threads(before)


def cells_of(n_cells: int, n_genes: int, share: float) -> SparseGenes:
    """Return counts of cells whose numbers of genes spread about that share of the panel."""
    draw = torch.Generator().manual_seed(0)
    number = torch.full((n_cells,), float(n_genes))
    if share < 1:
        number = (n_genes * share * torch.randn(n_cells, generator=draw).mul(0.5).exp()).clamp(7, n_genes)
    key = torch.rand(n_cells, n_genes, generator=draw)
    cell, gene = (key.argsort(1).argsort(1) < number[:, None].round()).nonzero(as_tuple=True)
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(cell, minlength=n_cells).cumsum(0)])
    count = torch.randint(1, 6, (len(gene),), generator=draw)
    return sparse(gene, count, offset, torch.zeros(n_cells, dtype=torch.int64))


def _steps(tokens: GeneTokens, n_genes: int) -> dict[str, Callable[[], float]]:
    """Return both ways of a step: forward, backward and the optimiser, on the same cells."""
    of = SIZES["small"]
    sizes = GeneSizes(n_genes, of["width"], of["gene_layers"], of["heads"], of["gene_mlp"], 0.0)
    torch.manual_seed(0)
    encoder, plain = GeneEncoder(sizes), PlainGenes(sizes)
    given, weight = padded(tokens, n_genes), torch.randn(sizes.width)

    def packed() -> Tensor:
        chunks = chunked(tokens, _CHUNKS)
        return torch.cat(
            [encoder(tokens.rows(own.rows, own.length), is_full=own.is_full)[:, 0] @ weight for own in chunks]
        )

    return {
        "ours": _timed(encoder, packed),
        "plain": _timed(plain, lambda: plain(*given)[:, 0] @ weight),
    }


def _timed(module: nn.Module, score: Callable[[], Tensor]) -> Callable[[], float]:
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        score().mean().backward()
        optimiser.step()

    step()  # allocates the optimiser's state

    def seconds() -> float:
        start = time.process_time()
        step()
        return time.process_time() - start

    return seconds


def _collation(bench: Bench) -> Gate:
    """Return drawing the tokens of a batch of a large panel against ranking random keys over the vocabulary."""
    given = cells_of(_BATCH, _LARGE_PANEL, 0.1)
    measured = torch.zeros(1, _VOCABULARY, dtype=torch.bool)
    measured[0, :_LARGE_PANEL] = True
    panels, draw = Panels.of(measured), torch.Generator().manual_seed(0)
    n_zeros = int(_ZEROS * given.longest)

    def ours() -> None:
        collate(given, _MOST, panels=panels, zeros=_ZEROS, draw=draw)

    def plain() -> None:
        counts = torch.zeros(_BATCH, _VOCABULARY)
        counts[given.row, given.index] = given.count
        expressed = counts.topk(min(_MOST, given.longest), dim=1)
        key = torch.rand(_BATCH, _VOCABULARY, generator=draw).masked_fill((counts > 0) | ~measured, -1)
        torch.cat([expressed.indices, key.topk(n_zeros, dim=1).indices], dim=1)

    found = alternate({"ours": _seconds(ours), "plain": _seconds(plain)}, bench.rounds * _STEPS)
    note = f"batch {_BATCH}, {_LARGE_PANEL:,} genes measured of {_VOCABULARY:,}"
    return Gate("CPU of drawing tokens and zeros", "s", found["ours"], found["plain"], 1.0, note=note)


def _seconds(way: Callable[[], None]) -> Callable[[], float]:
    way()

    def seconds() -> float:
        start = time.process_time()
        way()
        return time.process_time() - start

    return seconds
