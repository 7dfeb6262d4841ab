"""Imputed genes: what a training step and sampling cost with many cells, and quality against steps of the sampler.

Cost has a panel of 100 genes and the network of `tiny`, with 1,000 and 100,000 cells in turn, in CPU seconds of one
thread. What goes with the cells is done once and printed beside it: components, the estimate without a network, and
bringing samples to the cells. Quality is of the generated pair (`mistline.scrna.toy`), a fifth of its genes held out,
in wall seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mistline.models.contract import Context
from mistline.models.spadit.items import Genes
from mistline.models.spadit.model import Model
from mistline.models.spadit.params import Params
from mistline.models.spadit.space import Measured, Space
from mistline.scrna.guarded import log_normalised
from mistline.scrna.toy import make_pair
from mistline.scrna.view import TARGET_SUM, TrainView
from mistline.train.device import cpu_threads
from tests.benchmarks.bench import Bench, Gate, alternate

_FEW, _MANY = 1000, 100_000
_GENES, _WANTED, _SINGLE, _PROGRAMS = 100, 16, 2000, 10
_REPEATS = 20
_LEAST = 1 / 1.2  # of the few cells' seconds in the many cells'
_STEPS = (5, 10, 25, 50, 250)


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    context = Context(0, "cpu", 1, Path())
    with cpu_threads(1):
        yield from _cost(bench.rounds, context)
        yield from _quality(context)


def _cost(rounds: int, context: Context) -> Iterator[Gate]:
    views = {n: _low_rank(n) for n in (_FEW, _MANY)}
    whose = f"{_MANY:,} cells against {_FEW:,}"
    yield _once(
        f"components of training genes, {whose}", {n: lambda v=view: _components(v) for n, view in views.items()}
    )
    models: dict[int, Model] = {}
    told: dict[int, Genes] = {}

    def made(n: int) -> None:
        models[n] = Model.create(Params(size="tiny"), views[n], context)

    def estimated(n: int) -> None:
        told[n] = models[n].items.wanted(views[n].wanted_reference)

    def sampled(n: int) -> None:
        models[n]._sampled(told[n], views[n].wanted, context)

    yield _once(f"all that is before training, {whose}", {n: lambda n=n: made(n) for n in views})
    yield _once(f"estimates of {_WANTED} wanted genes, {whose}", {n: lambda n=n: estimated(n) for n in views})
    ways = {"training step": (lambda n: _train(models[n]), _REPEATS), "sampling": (sampled, 1)}
    for name, (way, repeats) in ways.items():
        both = {str(n): lambda n=n, way=way, repeats=repeats: _seconds(lambda: way(n), repeats) for n in views}
        found = alternate(both, rounds)
        yield Gate(f"{name}, {whose}", "s", found[str(_MANY)], found[str(_FEW)], _LEAST)
    whole = {n: lambda n=n: models[n].impute(views[n], context) for n in views}
    yield _once(f"imputing {_WANTED} genes at all cells, all told, {whose}", whole)


def _once(name: str, ways: dict[int, Callable[[], object]]) -> Gate:
    """Return a row without a gate."""
    found = {n: _seconds(way, 1) for n, way in ways.items()}
    return Gate(name, "s", found[_MANY], found[_FEW])


def _components(view: TrainView) -> None:
    Space.of(Measured.of(view.spatial, view.is_val), "pca", 128)


def _train(model: Model) -> None:
    """Take a step of training without its change of the weights."""
    loss = model._loss(*model._drawn(torch.Generator().manual_seed(0), "cpu"))
    loss.backward()


def _seconds(way: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        way()
    return (time.process_time() - start) / repeats


def _low_rank(n: int) -> TrainView:
    """Return a slide of n cells and single cells whose genes follow the same programs."""
    random = np.random.default_rng(0)
    loadings = random.normal(size=(_PROGRAMS, _GENES + _WANTED)).astype(np.float32)

    def drawn(rows: int) -> NDArray[np.float32]:
        programs = random.normal(size=(rows, _PROGRAMS)).astype(np.float32)
        return programs @ loadings + random.normal(size=(rows, _GENES + _WANTED)).astype(np.float32)

    return _view(drawn(n), drawn(_SINGLE), np.arange(_GENES), np.arange(_GENES, _GENES + _WANTED))


def _quality(context: Context) -> Iterator[Gate]:
    """Yield wall seconds of imputing with each number of steps, the network trained once."""
    pair = make_pair()
    n_genes = pair.n_measured
    test = np.arange(0, n_genes, 5)
    train = np.setdiff1d(np.arange(n_genes), test)
    counts, reference = pair.counts.toarray(), log_normalised(pair.reference, "counts", TARGET_SUM)
    depth = np.maximum(counts[:, train].sum(axis=1, keepdims=True), 1)
    slide = np.log1p(counts / depth * TARGET_SUM).astype(np.float32)
    view, truth = _view(slide, reference, train, test), slide[:, test]
    model = Model.create(Params(size="tiny"), view, context)
    rows = list(model.fit(view, context))
    for steps in _STEPS:
        model.params = model.params.model_copy(update={"sampling_steps": steps})
        start = time.perf_counter()
        found = model.impute(view, context)
        seconds = time.perf_counter() - start
        r = [np.corrcoef(told, true)[0, 1] for told, true in zip(found.mean.T, truth.T, strict=True)]
        trained = rows[-1]["step"]
        within = (np.abs(truth - found.mean) <= 1.645 * found.sd).mean()
        scores = f"median PCC of {len(test)} genes {np.median(r):.4f}, mean {np.mean(r):.4f}"
        note = f"{scores}; {within:.1%} within 1.645 sd; {trained} steps trained"
        yield Gate(f"imputing with {steps} sampling steps", "s", seconds, note=note)


def _view(
    slide: NDArray[np.float32], reference: NDArray[np.float32], train: NDArray[np.int64], wanted: NDArray[np.int64]
) -> TrainView:
    names = [f"G{number}" for number in range(slide.shape[1])]
    return TrainView(
        slide="s",
        cell_id=np.array([f"c{number}" for number in range(len(slide))]),
        genes=tuple(names[gene] for gene in train),
        is_val=np.arange(len(train)) % 7 == 0,
        spatial=np.ascontiguousarray(slide[:, train]),
        counts=None,
        xy_um=np.full((len(slide), 2), np.nan),
        reference=np.ascontiguousarray(reference[:, train]),
        reference_counts=None,
        wanted=tuple(names[gene] for gene in wanted),
        wanted_reference=np.ascontiguousarray(reference[:, wanted]),
        wanted_counts=None,
    )
