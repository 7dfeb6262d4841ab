"""Variants are timed in turns, and all of them draw the same cells from the same noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.config.generation import Merge, Sampling, Sweep
from mistline.infer.generate import Drawer
from mistline.infer.generators import Generator
from mistline.infer.sweep import Run, Timer, Variant, batch_size, notes, speed, variants
from mistline.store.embeddings import Origin
from mistline.store.latents import Encoded


class Counting:
    """A generator that notes what it is asked; its latents are its cells' seeds."""

    def __init__(self) -> None:
        self.asked = []

    def sample(self, tokens, mode, sampling, seeds):
        self.asked.append((sampling.merge.way, sampling.merge.ratio, sampling.steps, len(tokens)))
        return torch.tensor(seeds)

    def decode(self, latents):
        return latents


class Cells(Generator):
    def encoded(self, cells: pd.DataFrame) -> Encoded:
        none = np.zeros((len(cells), 1, 1, 1), dtype=np.float32)
        return Encoded(none, none, none)


def test_rows_are_every_way_and_ratio_beside_no_merging():
    sweep = Sweep(ratios=(0.5, 0.0), steps=(2, 4), ways=("cfg", "tomesd"))
    told = [(found.way, found.ratio, found.steps) for found in variants(sweep, Sampling())]
    assert told == [(way, ratio, steps) for steps in (4, 2) for way, ratio in
                    (("none", 0.0), ("cfg", 0.5), ("tomesd", 0.5))]  # fmt: skip
    assert {found.way for found in variants(sweep, Sampling(guidance=1))} == {"none", "tomesd"}


def test_a_variant_changes_nothing_else_of_the_settings():
    sampling = Sampling(guidance=3, merge=Merge(refresh=2))
    found = Variant("cfg", 0.25, 7).of(sampling)
    assert (found.steps, found.guidance, found.merge.way, found.merge.ratio) == (7, 3, "cfg", 0.25)
    assert found.merge.refresh == 2


def test_variants_take_turns_and_draw_the_same_cells():
    model = Counting()
    generator = Cells(Origin("m", 0, "w", "d"), Drawer(model, model, "cpu"), {}, None)
    cells = pd.DataFrame({"slide": "s", "cell_id": [f"c{i}" for i in range(9)]})
    asked = [Variant("none", 0.0, 4), Variant("cfg", 0.5, 4)]
    found = Timer(generator, "gene2img", Sampling(batch_size=64), 0).run(asked, cells)
    ways = [way for way, *_ in model.asked]
    assert ways[:2] == ["none", "cfg"]  # the warm-up
    assert ways[2:] == ["none", "cfg", "cfg", "none"] * 2 + ["none", "cfg"]  # each begins in turn
    assert [n for *_, n in model.asked[2:]] == [2, 2] * 4 + [1, 1]
    seeds = generator.seeds(cells, 0)
    for run in found.values():
        assert run.images.tolist() == seeds
        assert len(run.seconds) == 4  # what fills no batch is not timed


def test_a_speedup_is_the_median_of_ratios_within_batches():
    slow, fast = (Run(np.zeros(0), np.array(own)) for own in ([1.0, 2.0, 8.0], [0.5, 2.0, 2.0]))
    found = speed(fast, slow)
    assert found["seconds_per_image"] == 2.0
    assert found["speedup"] == {"value": 2.0, "low": 1.0, "high": 4.0}


@pytest.mark.parametrize(("n", "expected"), [(64, 16), (2, 1), (1000, 64)])
def test_batches_are_several_where_there_are_cells(n, expected):
    assert batch_size(Sampling(batch_size=64), n) == expected


def test_what_merging_cannot_do_is_told():
    told = notes((4, 8, 8), Merge(smallest=256), Sampling())
    assert len(told) == 1
    assert "no layer has the 256 tokens" in told[0]
    assert "64" in told[0]
    assert notes((4, 16, 16), Merge(smallest=256), Sampling()) == []
    assert "guidance is 1" in notes((4, 16, 16), Merge(), Sampling(guidance=1))[0]
