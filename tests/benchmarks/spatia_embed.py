"""Embedding with SPATIA: what each level costs a cell, and memory by the slide's size, from reading to both files."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from mistline.infer.embed import write_blocks
from mistline.models.contract import Context
from mistline.models.spatia import embedding
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Params
from mistline.store.embeddings import Origin
from mistline.train.device import cpu_threads
from tests.benchmarks.bench import Bench, Gate, child
from tests.benchmarks.spatia_slide import CELLS_OF_NICHE, NICHES_OF_REGION, Slide

_SIZES = (25_000, 100_000)  # cells
_COSTS = 2_560  # cells whose levels are timed: 8 regions
_SHALLOW = {"gene_layers": 1, "image_layers": 1, "decoder_layers": 1, "image_size": 16}  # what is measured is memory
_MOST_MIB = 32.0  # names and places of 75,000 cells more; their vectors would be 92


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    with cpu_threads(1):
        costs = [_costs(bench.scratch("spatia_costs")) for _ in range(bench.rounds)]
    found = {level: sorted(cost[level] for cost in costs)[len(costs) // 2] for level in costs[0]}
    shown = ", ".join(f"{level} {cost:.0f}" for level, cost in found.items())
    note = f"CPU us a cell of `small`: {shown}; {CELLS_OF_NICHE} cells a niche, {NICHES_OF_REGION} niches a region"
    around = found["niche"] + found["tissue"] + found["joined"]
    yield Gate("niche and tissue from z^c, against the cells", "us", around, found["cell"], 2.0, note=note)
    folder = bench.scratch("spatia_embed")
    peaks = [
        child([sys.executable, "-m", "tests.benchmarks.spatia_embed", n, folder]).peak_mib for n in map(str, _SIZES)
    ]
    shown = ", ".join(f"{n:,} cells {peak:.0f}" for n, peak in zip(_SIZES, peaks, strict=True))
    title = f"memory of embedding {_SIZES[1] - _SIZES[0]:,} cells more"
    yield Gate(
        title, "MiB", peaks[1] - peaks[0], limit=_MOST_MIB, note=f"width of `tiny`, one layer; peak in MiB: {shown}"
    )


def _costs(folder: Path) -> dict[str, float]:
    """Return CPU microseconds a cell of each level of `small`."""
    slide = Slide(_COSTS)
    context = Context(0, "cpu", 1, folder)
    model = _untrained(Params(size="small"), slide, context)
    model.net.eval()
    reading = embedding.Reading(model.params, None, context)
    found, start = {}, time.process_time()

    def took(level: str) -> None:
        nonlocal start
        now = time.process_time()
        found[level], start = (now - start) / _COSTS * 1e6, now

    passes = embedding.Passes(model.net, slide, reading)  # one thread
    passes.cells(embedding.encoded(model.net, slide, reading))
    took("cell")
    passes.niches()
    took("niche")
    passes.regions()
    took("tissue")
    for _ in passes.joined():
        pass
    took("joined")
    passes.close()
    return found


def _untrained(params: Params, slide: Slide, context: Context) -> Model:
    """Return a model of random weights: where training starts is found from batches of records, which are not here."""
    with patch.object(Model, "_start"):
        return Model.create(params, slide, context)


def _embed(n_cells: int, folder: Path) -> None:
    """Embed a slide with untrained weights and write both files: for a process of its own."""
    slide, context = Slide(n_cells), Context(0, "cpu", 1, folder)
    with cpu_threads(1):
        model = _untrained(Params(size="tiny", **_SHALLOW), slide, context)
        blocks = model.embed(slide, context)
        write_blocks(blocks, folder / "z.parquet", folder / "z.h5ad", Origin("spatia", 0, "", ""), n_cells)


if __name__ == "__main__":
    _embed(int(sys.argv[1]), Path(sys.argv[2]))
