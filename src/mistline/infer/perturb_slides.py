"""Changing circles of the test slides and generating the rings around them, slide after slide."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.config.perturbation import Perturbation
from mistline.core.errors import ConfigError, InputError
from mistline.graphs.rois import Elsewhere, Roi, away_um, elsewhere, place_rois
from mistline.infer.fill import Control
from mistline.infer.fill_slides import Cells
from mistline.infer.genes import gene_place
from mistline.infer.perturb import Change, Columns, Place, Variant, needed_rows, variants
from mistline.infer.requantise import Profiles, Values, profiles_of
from mistline.mist.metacells import Vocabulary
from mistline.models.contract import Needs, Source
from mistline.store.embeddings import Origin
from mistline.store.perturbed import Perturbed

_READ_AT_ONCE = 2048
_GENE = "the gene of a perturbation"


@dataclass(frozen=True, slots=True)
class Opened:
    """One slide.

    Args:
        cells: all of them, as the model sees them.
        source: the same cells, in the same order.
    """

    cells: Cells
    source: Source


@dataclass(frozen=True, slots=True)
class _Ring:
    slide: str
    place: Place
    variant: Variant
    cell_id: NDArray[np.str_]
    distance_um: NDArray[np.float64]


def perturb_slides(
    model: Any,
    slides: Iterable[tuple[str, Callable[[], Opened]]],
    rule: Perturbation,
    origin: Origin,
    vocabulary: Callable[[], Vocabulary],
    control: Control | None = None,
) -> Perturbed:
    """Change the circles of each slide, one at a time, and generate its ring from each change.

    Args:
        model: a `fill.Filler` with `genes`, the T ids.
        slides: name and what opens it; one is in memory at a time.
        rule: genes, widths and places.
        origin: of the model.
        vocabulary: reads the dataset's meta-cells, where the model has none of its own.
        control: of filling.

    Raises:
        ConfigError: a gene or slide is unknown.
        InputError: there is no slide, no circle fits, or a gene was not measured or is unknown to the model.
    """
    opened, vocabulary = dict(slides), cache(vocabulary)
    named = list(dict.fromkeys(name for name, _, _ in rule.at)) or list(opened)
    absent = next((name for name in named if name not in opened), None)
    if absent is not None:
        remedy = f"choose one of {', '.join(opened) or 'another dataset'}"
        raise ConfigError("perturbation.at", f"slide {absent!r} has no test cells here", remedy)
    if not named:
        raise InputError("splits", "no slide has a test cell", "look at splits.json")
    rings: list[_Ring] = []
    symbols: dict[str, str] = {}
    for name in named:
        slide = opened[name]()
        symbols |= dict(zip(slide.source.genes, slide.source.symbols, strict=True))
        rings += _rings(model, slide, rule, vocabulary, control)
    genes = tuple(model.genes)
    return _gathered(model, rings, origin, tuple(symbols.get(gene, gene) for gene in genes), rule)


def _rings(
    model: Any, slide: Opened, rule: Perturbation, vocabulary: Callable[[], Vocabulary], control: Control | None
) -> list[_Ring]:
    cells, name = slide.cells, slide.cells.slide
    profiles = profiles_of(model, slide.source, vocabulary)
    change = Change(*(_columns(slide.source, profiles, genes) for genes in (rule.activated, rule.inhibited)))
    rois = place_rois(cells.cell_id, cells.xy_um, cells.tested, rule, name)
    others = [elsewhere(roi, cells.cell_id, cells.xy_um, rule, model.window_um, name) for roi in rois]
    found = []
    for place in _places(slide, profiles, change, rois, others, rule):
        ring = place.roi.ring
        ids = np.array([cells.cell_id[row] for row in ring.tolist()])
        away = away_um(cells.xy_um[ring], place.roi.centre_um)
        found += [_Ring(name, place, own, ids, away) for own in variants(model, cells, profiles, place, rule, control)]
    return found


def _columns(source: Source, profiles: Profiles, names: tuple[str, ...]) -> Columns:
    """Return the columns of genes in profiles.

    Raises:
        ConfigError: a gene is unknown; names the nearest.
        InputError: the slide did not measure it, or the meta-cells are not of it.
    """
    place = {gene: column for column, gene in enumerate(profiles.genes)}
    found = []
    for name in names:
        gene = source.genes[gene_place(source, source.slides[0], name, _GENE)]
        if gene not in place:
            what = f"the model knows cells by {len(place)} genes, and {name} is none of them"
            raise InputError(_GENE, what, "choose a gene that its meta-cells were fitted on")
        found.append(place[gene])
    return tuple(found)


def _places(
    slide: Opened, profiles: Profiles, change: Change, rois: list[Roi], others: list[Elsewhere], rule: Perturbation
) -> list[Place]:
    """Return the circles with what changing them needs; the slide is read once, and only theirs is kept."""
    rows, n = needed_rows(rois, others), len(slide.cells.cell_id)
    kept = np.zeros((len(rows), len(profiles.genes)), dtype=np.float64)
    peak = np.zeros((len(rois), len(profiles.genes)), dtype=np.float64)
    visible = np.ones((len(rois), n), dtype=bool)
    for number, roi in enumerate(rois):
        visible[number, roi.ring] = False
    first = 0
    for batch in slide.source.batches(Needs(genes="dense", batch_size=_READ_AT_ONCE)):
        block = profiles.of(batch)
        last = first + len(block)
        own = slice(*np.searchsorted(rows, [first, last]))
        kept[own] = block[rows[own] - first]
        for number in range(len(rois)):
            seen = block[visible[number, first:last]]
            peak[number] = np.maximum(peak[number], seen.max(axis=0, initial=0))
        first = last

    def held(inside: NDArray[np.int64]) -> Values:
        return kept[np.searchsorted(rows, inside)]

    found = []
    for roi, far, own in zip(rois, others, peak, strict=True):
        other = change.other(profiles.measured, rule.seed, slide.cells.slide, roi.number)
        found.append(Place(roi, far, change, other, own, held(roi.inside), held(far.inside), profiles.genes))
    return found


def _gathered(
    model: Any, rings: list[_Ring], origin: Origin, symbols: tuple[str, ...], rule: Perturbation
) -> Perturbed:
    sizes = [len(ring.cell_id) for ring in rings]

    def each(values: list[Any], kind: Any) -> NDArray[Any]:
        return np.repeat(np.array(values, dtype=kind), sizes)

    return Perturbed(
        slide=each([ring.slide for ring in rings], np.str_),
        roi=each([ring.place.roi.number for ring in rings], np.int16),
        variant=each([ring.variant.name for ring in rings], np.str_),
        sigma=each([ring.variant.sigma for ring in rings], np.float32),
        cell_id=np.concatenate([ring.cell_id for ring in rings]),
        distance_um=np.concatenate([ring.distance_um for ring in rings]).astype(np.float32),
        round=np.concatenate([ring.variant.filling.round for ring in rings]),
        way=np.concatenate([ring.variant.filling.way for ring in rings]),
        told=np.concatenate([ring.variant.filling.told for ring in rings]),
        is_quantised=bool(model.is_quantised),
        genes=tuple(model.genes),
        symbols=symbols,
        expression=np.asarray(model.expression, dtype=np.float32),
        origin=origin,
        about=_about(model, rings, rule),
    )


def _about(model: Any, rings: list[_Ring], rule: Perturbation) -> dict[str, Any]:
    first = [ring for ring in rings if ring.variant.sigma == 0]
    return {
        "settings": rule.model_dump(mode="json"),
        "window_um": float(model.window_um),
        "rois": [_about_roi(ring) for ring in first],
        "share_changed": [
            {
                "slide": ring.slide,
                "roi": ring.place.roi.number,
                "variant": ring.variant.name,
                "sigma": ring.variant.sigma,
                "share": ring.variant.share_changed,
            }
            for ring in rings
            if ring.variant.sigma > 0
        ],
        "windows": sum(ring.variant.filling.windows for ring in rings),
    }


def _about_roi(ring: _Ring) -> dict[str, Any]:
    place = ring.place
    return {
        "slide": ring.slide,
        "roi": place.roi.number,
        "centre_um": list(place.roi.centre_um),
        "cells": len(place.roi.inside),
        "ring_cells": len(place.roi.ring),
        "elsewhere_um": place.elsewhere.away_um,
        "elsewhere_cells": len(place.elsewhere.inside),
        "elsewhere_is_far": place.elsewhere.is_far,
        "other_activated": place.names_of(place.other.activated),
        "other_inhibited": place.names_of(place.other.inhibited),
    }
