"""`torchrun --nproc-per-node 2 -m mistline train ...`, literally: two processes on CPUs that meet over Gloo."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from mistline.core.seeds import derive
from mistline.stages import train, train_generator
from mistline.train import loop
from tests.unit.data.conftest import build
from tests.unit.stages import generators, test_train, test_train_generator

SEED = 1
SPATIA = {"size": "tiny", "image_size": 16, "patch": 4, "steps": 4, "train_batch": 32, "val_batches": 1}
DIFFUSION = {**test_train_generator.PARAMS, "steps": 4, "ema": 0}  # an average over batches, of which one has two


class Halves:
    """A source whose batches are, in turn, those of the first and of the second of two processes."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def batches(self, needs: Any, shuffle: int | None = None, *, rank: int | None = None, **others: Any) -> Iterator:
        if rank is None:  # no part of an epoch: a model looks at its records before it is trained
            return self.source.batches(needs, shuffle)
        parts = [self.source.batches(needs, shuffle, rank=half, world=2) for half in range(2)]
        return (batch for pair in zip(*parts, strict=True) for batch in pair)

    def n_batches(self, needs: Any, shuffle: int | None = None, **_: Any) -> int:
        return sum(self.source.n_batches(needs, shuffle, rank=half, world=2) for half in range(2))


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one process that accumulates two batches take those, and the draws, of two processes."""
    steps, forward = itertools.count(), loop._Step.forward

    def step(self, inputs, draw):
        number = next(steps)
        return forward(self, inputs, loop.seeded(derive(SEED, "step", number // 2, number % 2), "cpu"))

    def derived(seed, kind, number, rank):
        return derive(seed, kind, *(divmod(number, 2) if kind == "validation" else (number, rank)))

    monkeypatch.setattr(loop._Step, "forward", step)
    monkeypatch.setattr(loop, "derive", derived)
    for stage in (train, train_generator):
        monkeypatch.setattr(stage, "_open", lambda *given, opened=stage._open: Halves(opened(*given)))


def torchrun(stage: str, **options: Any) -> None:
    """Run a stage in two processes, each on one CPU."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "mistline", stage]
    for name, given in options.items():
        for value in given if isinstance(given, list) else [given]:
            words += [f"--{name.replace('_', '-')}", str(value)]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(words, env=variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def assert_same(one: dict[str, Path], two: dict[str, Path]) -> None:
    """Compare all losses, and the weights at the end; sums of float32 come in another order."""
    expected, found = ([json.loads(row) for row in of["metrics"].read_text().splitlines()] for of in (one, two))
    assert expected
    for row, same in zip(found, expected, strict=True):
        assert row == pytest.approx(same, rel=1e-3)
    weights = load_file(two["weights"])
    for name, value in load_file(one["weights"]).items():
        assert weights[name] == pytest.approx(value, abs=1e-4), name


def test_two_ranks_train_spatia_as_one_does_with_twice_the_batch(tmp_path, halved):
    results = build(tmp_path / "results")
    twice = {**SPATIA, "accumulate": 2, "val_batches": 2}
    one = test_train._train(results, tmp_path / "one", "spatia", seed=SEED, params=json.dumps(twice))
    two = generators.files(tmp_path / "two")
    given = {"dataset": results / "dataset/manifest.json", "model": "mine", "registry_name": "spatia", "seed": SEED}
    torchrun("train", **given, **two, params=json.dumps(SPATIA))
    assert_same(one, two)


def test_two_ranks_train_a_generator_as_one_does_with_twice_the_batch(tmp_path, halved, nightly):
    if not nightly:
        pytest.skip("nightly: starting the processes takes longest, and the loop is the one above")
    encodings = generators.build(tmp_path)
    given = {"manifest": encodings.manifest, "model": "cells", "registry_name": "diffusion", "seed": SEED}
    given["latents"] = encodings.latents
    one, two = (generators.files(tmp_path / name) for name in ("one", "two"))
    train_generator.run(**given, **one, params=json.dumps({**DIFFUSION, "accumulate": 2}))
    torchrun("train-generator", **given, **two, params=json.dumps(DIFFUSION))
    assert_same(one, two)
