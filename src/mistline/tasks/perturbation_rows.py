"""The rows of a table of perturbations: a model with what depends on it, or the controls; and what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mistline.core.seeds import generator
from mistline.store.perturbed import ELSEWHERE, PERTURBED, RANDOM_GENES, Perturbed
from mistline.tasks.base import MODEL, Estimate, Row
from mistline.tasks.perturbation import Params
from mistline.tasks.perturbation_problem import Key, Problem, prepare, read_reference
from mistline.tasks.perturbation_scores import (
    SMALLEST,
    Called,
    accuracies,
    called,
    likeness,
    movements,
    over_distance,
)
from mistline.tasks.stats import FEWEST_UNITS, bootstrap_mean

LIKENESS = "reference_pcc"

_DESCRIPTIONS = {
    RANDOM_GENES: "the same model: as many other genes of each circle, drawn at random, changed the same ways",
    ELSEWHERE: "the same model: the same change in a circle of the same size far away; nothing should move here",
    "majority": "the answer that is expected most often, for every gene",
    "copy": "high for activated genes, low for inhibited ones, the same for all others: no model at all",
}


def control_rows(params: Params) -> dict[str, Row]:
    """Return what can be answered without a model."""
    commonest = Counter(params.expected.values()).most_common(1)[0][0]
    told = dict.fromkeys((name.lower() for name in params.perturbation.activated), "high")
    told |= dict.fromkeys((name.lower() for name in params.perturbation.inhibited), "low")
    calls = {
        "majority": [commonest] * len(params.expected),
        "copy": [told.get(gene.lower(), "same") for gene in params.expected],
    }
    rows = {}
    for name, call in calls.items():
        metrics, per_unit = accuracies(params, call, name)
        rows[name] = Row(metrics, per_unit, {"what": _DESCRIPTIONS[name]})
    return rows


def model_rows(perturbed: Perturbed, params: Params) -> dict[str, Row]:
    """Return the model's row and those of other genes and another place.

    Raises:
        MistlineError: see `prepare` and `read_reference`.
    """
    problem = prepare(perturbed, params)
    keys = {MODEL: problem.own, **problem.rivals}
    answers = {key: called(problem, key) for key in problem.found}
    rows = {}
    for name, key in keys.items():
        metrics, per_unit = accuracies(params, answers[key].call, name)
        for more in (movements(problem, key, name), _likeness(problem, key, name)):
            metrics |= more[0]
            per_unit |= more[1]
        about = {"what": _DESCRIPTIONS[name]} if name != MODEL else _about(problem, perturbed, answers)
        rows[name] = Row(metrics, per_unit, about)
    return rows


def _likeness(problem: Problem, key: Key, name: str) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """Return how like a given profile the cells near the circles are, with an interval over circles; else nothing."""
    params = problem.params
    if params.reference is None:
        return {}, {}
    columns, values = read_reference(params, problem.genes, problem.symbols)
    near = problem.near
    r, rings = likeness(problem.found[key][near][:, columns], values), problem.rings[near]
    own = {problem.names[ring]: float(r[rings == ring].mean()) for ring in np.unique(rings).tolist()}
    random = generator(params.seed, "evaluate", "perturbation", name, LIKENESS)
    return {LIKENESS: bootstrap_mean(own, params.bootstrap, params.confidence, random, (-1.0, 1.0))}, {LIKENESS: own}


def _about(problem: Problem, perturbed: Perturbed, answers: Mapping[Key, Called]) -> dict[str, Any]:
    params, own = problem.params, answers[problem.own]
    told = {name: value for name, value in perturbed.about.items() if name not in ("settings", "share_changed")}
    shares = {key: _share(perturbed, key) for key in problem.found}
    expected = zip(params.expected.items(), own.call, own.log2fc.tolist(), own.q.tolist(), strict=True)
    return {
        **told,
        "share_changed": {f"{sigma:g}": shares[name, sigma] for name, sigma in shares if name == PERTURBED},
        "share_changed_of_controls": {name: shares[key] for name, key in problem.rivals.items()},
        "ring_profile": {
            name: over_distance(problem, key) for name, key in {PERTURBED: problem.own, **problem.rivals}.items()
        },
        "sweep": [_of_width(problem, key, answers[key], shares[key]) for key in problem.found if key[0] == PERTURBED],
        "calls": {
            gene: {"expected": kind, "call": call, "log2fc": change, "q": q}
            for (gene, kind), call, change, q in expected
        },
        **({} if params.reference is None else {"reference": _reference(problem)}),
    }


def _share(perturbed: Perturbed, key: Key) -> float | None:
    """Return the mean share of a changed circle's cells that the model sees otherwise than before."""
    told = [
        own["share"]
        for own in perturbed.about.get("share_changed", ())
        if own["variant"] == key[0] and np.isclose(own["sigma"], key[1])
    ]
    return float(np.mean(told)) if told else None


def _of_width(problem: Problem, key: Key, own: Called, share: float | None) -> dict[str, Any]:
    metrics, _ = accuracies(problem.params, own.call, MODEL)
    told, _ = movements(problem, key, MODEL)
    values = {name: estimate.value for name, estimate in {**metrics, **told}.items()}
    return {"sigma": key[1], "share_changed": share, **values}


def _reference(problem: Problem) -> dict[str, Any]:
    """Return how like a given profile cells are before and after the change, and the paired test between the two."""
    from scipy.stats import ttest_rel

    columns, values = read_reference(problem.params, problem.genes, problem.symbols)
    before, after = (
        likeness(table[problem.near][:, columns], values) for table in (problem.control, problem.found[problem.own])
    )
    is_same = bool(np.ptp(after - before) == 0)
    tested = None if is_same or len(before) < FEWEST_UNITS else ttest_rel(after, before)
    return {
        "genes": len(columns),
        "cells": len(before),
        "control": float(before.mean()),
        "perturbed": float(after.mean()),
        "t": None if tested is None else float(tested.statistic),
        "p": None if tested is None else float(tested.pvalue),
        "note": "paired over cells, which are not independent of each other: p is smaller than it should be",
    }


def settings_of(params: Params) -> dict[str, Any]:
    """Return what a reader needs to repeat the numbers, in words."""
    commonest = Counter(params.expected.values()).most_common(1)[0]
    return {
        "drawn": "circles around test cells drawn by hashes of their ids; circle and ring hold test cells only; each "
        "ring is hidden and generated alone, everything else of the slide stays visible",
        "call": f"high or low: Wilcoxon's signed rank over the cells within {params.near_um:g} um of a circle's rim, "
        f"changed against unchanged, q < {params.fdr:g} (Benjamini and Hochberg over all generated genes), and a log2 "
        f"fold change beyond {params.least_log2fc:g} of the mean (expm1, {SMALLEST:g} added to both); else the same",
        "balanced_accuracy": "mean recall over the classes that are expected of some gene; quoted first, as always "
        f"answering {commonest[0]} is right for {commonest[1]} of {len(params.expected)} genes here (always answering "
        "Low for 47 of 87 in the setting of the GeST paper)",
        "moved_inside": "mean log2 fold change of the genes expected to be high or low, in the expected direction, "
        f"within {params.near_um:g} um of a circle's rim; the mean over circles",
        "moved_outside": "the same of the ring's other cells: where the change should no longer reach",
        "interval": "accuracies resample genes (balanced: within each class); what moves resamples circles, few of "
        "which say little; neither says anything of another donor",
    }
