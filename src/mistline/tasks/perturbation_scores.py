"""Is a gene higher, lower or the same in changed rings, and how many of the expected answers are right?

A call reads the cells near the circles, pair by pair: each was generated once from the circle as measured and once from
the changed one. Means behind a log2 fold change are of counts (expm1 of log-normalised values).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.tasks.base import Estimate
from mistline.tasks.perturbation import Params
from mistline.tasks.perturbation_problem import Key, Problem, Table
from mistline.tasks.stats import bootstrap_mean, interval

SMALLEST = 0.01  # counts added to both means of a fold change: genes that are hardly there do not move
BIN_UM = 20.0  # of the profile over the distance from the rim
SIGN = {"high": 1.0, "low": -1.0, "same": 0.0}
INSIDE, OUTSIDE = "moved_inside", "moved_outside"

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Called:
    """The answers for expected genes.

    Args:
        call: [E] high, low or same.
        log2fc: [E] over the cells near the circles.
        q: [E] adjusted over all generated genes.
    """

    call: tuple[str, ...]
    log2fc: Numbers
    q: Numbers


def called(problem: Problem, key: Key) -> Called:
    """Call the expected genes of one change."""
    near, params = problem.near, problem.params
    before, after = problem.control[near], problem.found[key][near]
    q = adjusted(signed_rank(after.astype(np.float64) - before))[problem.columns]
    change = log2fc(before, after)[problem.columns]
    is_moved = (q < params.fdr) & (np.abs(change) > params.least_log2fc)
    call = np.where(is_moved, np.where(change > 0, "high", "low"), "same")
    return Called(tuple(call.tolist()), change, q)


def log2fc(before: Table, after: Table) -> Numbers:
    """Return [C], the fold change of the mean of each column of [n, C] log-normalised values."""
    first, second = (np.expm1(np.maximum(own, 0).astype(np.float64)).mean(axis=0) for own in (before, after))
    return np.log2((second + SMALLEST) / (first + SMALLEST))


def signed_rank(differences: Numbers) -> Numbers:
    """Return [C], two-sided p of Wilcoxon's signed-rank test of each column of [n, C]; 1 where nothing differs."""
    from scipy.stats import wilcoxon

    found = np.ones(differences.shape[1])
    for column in np.flatnonzero(differences.any(axis=0)):
        found[column] = wilcoxon(differences[:, column], method="asymptotic").pvalue
    return np.where(np.isfinite(found), found, 1.0)


def adjusted(p: Numbers) -> Numbers:
    """Return p adjusted by Benjamini and Hochberg's procedure (1995)."""
    order = np.argsort(-p, kind="stable")
    rank = np.arange(len(p), 0, -1)
    found = np.empty_like(p)
    found[order] = np.minimum.accumulate(np.minimum(p[order] * len(p) / rank, 1.0))
    return found


def right(expected: Sequence[str], call: Sequence[str]) -> Numbers:
    """Return [E] 1 where a call is the expected one."""
    return (np.array(expected) == np.array(call)).astype(np.float64)


def accuracies(
    params: Params, call: Sequence[str], name: str
) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """Return accuracy and balanced accuracy with intervals over genes, and what each gene adds to them.

    Balanced accuracy is the mean recall over the classes that are expected of some gene; its draws keep their sizes.

    Args:
        params: of the task.
        call: [E] in the order of `params.expected`.
        name: of the row.
    """
    genes, expected = list(params.expected), np.array(list(params.expected.values()))
    hit = right(expected, call)
    plain = dict(zip(genes, hit.tolist(), strict=True))
    kinds = np.unique(expected)
    weights = {kind: len(genes) / (len(kinds) * int((expected == kind).sum())) for kind in kinds}
    balanced = {gene: own * weights[kind] for (gene, own), kind in zip(plain.items(), expected, strict=True)}
    random = _random(params, name, "balanced_accuracy")
    draws = np.mean([_recalls(hit[expected == kind], params.bootstrap, random) for kind in kinds], axis=0)
    told = {
        "balanced_accuracy": interval(float(np.mean(list(balanced.values()))), draws, params.confidence, (0.0, 1.0)),
        "accuracy": bootstrap_mean(
            plain, params.bootstrap, params.confidence, _random(params, name, "accuracy"), (0.0, 1.0)
        ),
    }
    return told, {"balanced_accuracy": balanced, "accuracy": plain}


def _recalls(hit: Numbers, draws: int, random: np.random.Generator) -> Numbers:
    return random.multinomial(len(hit), np.full(len(hit), 1 / len(hit)), size=draws) @ hit / len(hit)


def moved(problem: Problem, key: Key, cells: NDArray[np.bool_]) -> float:
    """Return the mean change, in the expected direction, of genes expected to move, over some cells; else NaN."""
    sign = np.array([SIGN[kind] for kind in problem.params.expected.values()])
    if not cells.any() or not sign.any():
        return float("nan")
    own = problem.columns[sign != 0]
    change = log2fc(problem.control[cells][:, own], problem.found[key][cells][:, own])
    return float((change * sign[sign != 0]).mean())


def movements(problem: Problem, key: Key, name: str) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """Return how far expected genes move near the circles and beyond, with intervals over circles; near, of each too.

    Beyond, neither more nor less is better, so that rows are not tested against each other there.
    """
    per_unit: dict[str, dict[str, float]] = {}
    for metric, cells in ((INSIDE, problem.near), (OUTSIDE, ~problem.near)):
        values = {
            ring: moved(problem, key, cells & (problem.rings == number)) for number, ring in enumerate(problem.names)
        }
        own = {ring: value for ring, value in values.items() if np.isfinite(value)}
        if own:
            per_unit[metric] = own
    params = problem.params
    told = {
        metric: bootstrap_mean(own, params.bootstrap, params.confidence, _random(params, name, metric))
        for metric, own in per_unit.items()
    }
    return told, {metric: own for metric, own in per_unit.items() if metric == INSIDE}


def over_distance(problem: Problem, key: Key) -> list[Mapping[str, float | int | None]]:
    """Return, for each step away from the rim, how many cells there are and how far expected genes move there."""
    step = np.floor(np.maximum(problem.rim_um, 0) / BIN_UM).astype(int)
    found: list[Mapping[str, float | int | None]] = []
    for k in np.unique(step).tolist():
        value = moved(problem, key, step == k)
        told = value if np.isfinite(value) else None
        found.append({"from_um": k * BIN_UM, "to_um": (k + 1) * BIN_UM, "cells": int((step == k).sum()), "moved": told})
    return found


def likeness(table: Table, reference: Table) -> Numbers:
    """Return [n], Pearson of each cell [n, S] with a profile [S]; 0 where a cell is constant."""
    from mistline.tasks.correlation import pearson

    return pearson(np.repeat(reference[:, None], len(table), axis=1), table.T)


def _random(params: Params, *names: str) -> np.random.Generator:
    return generator(params.seed, "evaluate", "perturbation", *names)
