"""Reading training batches of SPATIA, cells with their niches and regions, beside the step of `small` that takes them.

Cells a CPU second of one process each, and the same batches for both: with one reading process on the side, the
loader keeps up with a device that is as many times faster than one core here as the ratio says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from mistline.models.contract import Batch, Context, Source
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Params
from mistline.train.device import cpu_threads
from mistline.train.source import open_source
from tests.benchmarks.bench import Bench, Gate, alternate

_BATCHES = 24  # read in a round
_STEPS = 2  # of them trained on


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gate of the loader."""
    source = open_source(bench.results / "dataset" / "manifest.json")
    found = rates(source, bench.scratch("spatia_loader"), bench.rounds)
    title, note = "loader beside the training step of `small`", "cells with their niches and regions, sparse genes"
    yield Gate(title, "cells/CPU s", found["loader"], found["step"], 2.0, better="more", note=note)


def rates(source: Source, folder: Path, rounds: int) -> dict[str, float]:
    """Return cells a CPU second of reading, and of training on what was read."""
    with cpu_threads(1):
        model = Model.create(Params(size="small"), source, Context(0, "cpu", 1, folder))
        needs = model.recipe(source).needs
        seed, kept = iter(range(1_000_000)), []

        def read() -> float:
            start, n = time.process_time(), 0
            kept.clear()
            for batch, _ in zip(source.batches(needs, shuffle=next(seed)), range(_BATCHES), strict=False):
                n += len(batch.xy_um)
                kept.append(batch)
            return n / (time.process_time() - start)

        read()  # opens the shards
        return alternate({"loader": read, "step": _steps(model, kept)}, rounds)


def _steps(model: Model, batches: Sequence[Batch]) -> Callable[[], float]:
    optimizer = torch.optim.AdamW(model.groups(), fused=True)
    model.net.train()

    def train() -> float:
        start, n = time.process_time(), 0
        for batch in batches[:_STEPS]:
            optimizer.zero_grad()
            draw = torch.Generator().manual_seed(0)
            model.net(model.prepare(batch, "cpu"), draw)["loss"].backward()
            nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
            optimizer.step()
            n += len(batch.xy_um)
        return n / (time.process_time() - start)

    return train
