"""Some tested genes of one slide as they were measured, and as the best control and models imputed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.mist.pair import Pair, Reference, open_pair, read_genes, read_reference
from mistline.report.pictures import Album
from mistline.report.plots import imputed, theme
from mistline.report.plots.imputed import Gene
from mistline.report.plots.theme import Picture
from mistline.report.scores import Comparison
from mistline.report.sources import SlideSource
from mistline.scrna.view import TrainView
from mistline.store.absent import read_absent
from mistline.store.imputed import ImputedGenes, read_imputed

GENES, MODELS = 4, 3  # that are shown at most
_BRIGHT = 0.99  # quantile of measured values at the bright end of a scale
_REMEDY = "run fold-genes and impute-folds again"

Values = NDArray[np.float32]
Controls = Callable[[TrainView, Mapping[str, Any], int], Mapping[str, Values]]


@dataclass(frozen=True)
class ImputationFiles:
    """What was imputed of tested genes, and what it was imputed from.

    Attributes:
        imputed: files of tested genes, of one seed of each model.
        genes: how genes are divided into folds.
        reference: the single cells.
        controls: what imputes a view's wanted genes, given the task's settings and the fold: name -> [n, W].
    """

    imputed: Sequence[Path] = ()
    genes: Path | None = None
    reference: Path | None = None
    controls: Controls | None = None


@dataclass(frozen=True)
class _Control:
    """A control's values, fold by fold [n, W]."""

    name: str
    told: Mapping[int, Values]


def draw_maps(
    item: Comparison, files: ImputationFiles, slides: Sequence[SlideSource], version: str, album: Album
) -> Picture | None:
    """Draw genes of the first judged slide; None where there is no file, or the slide has no places.

    Args:
        item: the table, which says what is best.
        files: of its models.
        slides: of the cohort.
        version: of the dataset.
        album: where the picture goes.

    Raises:
        InputError: a file is damaged or of another version of the dataset, or does not fit the others.
    """
    models = _read(item, files, version)
    if not models or files.genes is None or files.reference is None:
        return None
    first = next(iter(models.values()))
    name = str(first.slide[0])
    pair = _pair(name, first.cell_id[first.slide == name], files.genes, read_reference(files.reference), slides)
    if not np.isfinite(pair.xy_um).all():
        return None
    chosen = chosen_genes(pair)
    control = _best_control(item, files, pair, chosen["fold"].unique().tolist())
    drawn = [_gene(pair, line, models, control) for _, line in chosen.iterrows()]
    symbols = ", ".join(chosen["symbol"])
    shown = [title for title in drawn[0].panels if title != "measured"]
    return theme.tissue(
        partial(imputed.maps, xy_um=pair.xy_um, genes=drawn),
        folder=album.folder,
        name=f"imputation.{item.protocol}",
        alt=f"cells of slide {name} coloured by {symbols}: measured, and as imputed by {', '.join(shown)}",
        caption=f"{len(pair.cell_id):,} cells of slide {name}. Genes lie at even steps of the share of reference cells "
        "that detect them; no score chose them. Each was hidden while it was imputed: its measured values were in no "
        f"array that a method was given. Control and models: the best by {item.metrics[0]} in the table. A gene has "
        f"one colour scale, bright at the {_BRIGHT:.0%} quantile of what was measured. PCC: with what was measured, "
        "over these cells.",
        budget=album.budget,
    )


def chosen_genes(pair: Pair) -> pd.DataFrame:
    """Return rows of tested genes at even steps of detection in the reference, with `detected`; no score is read."""
    tested = pair.genes[pair.genes["part"] == "test"].drop_duplicates("gene").sort_values("gene")
    counts = pair.reference.take(tested["reference_gene"].tolist())
    detected = np.asarray((counts > 0).sum(axis=0)).ravel() / max(counts.shape[0], 1)
    ranked = tested.assign(detected=detected).sort_values("detected", ascending=False, kind="stable")
    n = min(GENES, len(ranked))
    return ranked.iloc[[int((place + 0.5) * len(ranked) / n) for place in range(n)]]


def _read(item: Comparison, files: ImputationFiles, version: str) -> dict[str, ImputedGenes]:
    """Return the models that do best on the first metric, the best first."""
    found = {}
    for path in files.imputed:
        if read_absent(path) is not None:
            continue
        own = read_imputed(path)
        if own.origin.dataset_version != version:
            what = f"was made from dataset {own.origin.dataset_version[:12]}, not from {version[:12]}"
            raise InputError(path, what, "make it again: results of two versions are never put on one page")
        if own.about.get("protocol", item.protocol) == item.protocol:
            found[own.origin.model] = own
    ranked = [entry.name for entry in item.ranked(item.metrics[0]) if not entry.is_control and entry.name in found]
    return {name: found[name] for name in ranked[:MODELS]}


def _pair(
    name: str, cell_id: NDArray[np.str_], genes: Path, reference: Reference, slides: Sequence[SlideSource]
) -> Pair:
    """Read the slide's judged cells.

    Raises:
        InputError: the slide is not shown, or other cells of it were judged.
    """
    source = next((slide for slide in slides if slide.name == name), None)
    if source is None:
        raise InputError("imputed genes", f"slide {name} was imputed and is not shown", _REMEDY)
    folder = source.folder
    pair = open_pair(name, folder / "cells.parquet", folder / "counts.h5ad", reference, read_genes(genes), len(cell_id))
    if not np.array_equal(pair.cell_id, cell_id):
        raise InputError("imputed genes", f"of slide {name} other cells were imputed than are judged", _REMEDY)
    return pair


def _best_control(item: Comparison, files: ImputationFiles, pair: Pair, folds: Sequence[int]) -> _Control:
    """Return the control that does best on the first metric, of those that can be made again; empty where none can."""
    if files.controls is None:
        return _Control("", {})
    told = {fold: files.controls(pair.view(fold), item.settings, fold) for fold in folds}
    names = set.intersection(*(set(one) for one in told.values()))
    best = next((one.name for one in item.ranked(item.metrics[0]) if one.is_control and one.name in names), None)
    return _Control(best, {fold: one[best] for fold, one in told.items()}) if best else _Control("", {})


def _gene(pair: Pair, line: pd.Series, models: Mapping[str, ImputedGenes], control: _Control) -> Gene:
    """Return a gene's panels."""
    gene, fold = str(line["gene"]), int(line["fold"])
    column = pair.tested(fold).index(gene)
    measured: Values = pair.truth(fold)[:, column]
    panels = {"measured": measured}
    if control.name:
        panels[f"control: {control.name}"] = control.told[fold][:, column]
    for name, own in models.items():
        panels[f"model: {name}"] = _told(own, pair, gene)
    notes = ["", *(f"PCC {pcc(measured, values):.3f}" for values in list(panels.values())[1:])]
    white = float(np.quantile(measured, _BRIGHT)) or float(measured.max())
    title = f"{line['symbol']}, detected in {line['detected']:.1%} of the reference's cells"
    return Gene(title, panels, notes, max(white, 1e-3))


def _told(own: ImputedGenes, pair: Pair, gene: str) -> Values:
    """Return [n] of a model.

    Raises:
        InputError: it has other cells, or lacks the gene.
    """
    rows = np.flatnonzero(own.slide == pair.slide)
    if not np.array_equal(own.cell_id[rows], pair.cell_id) or gene not in own.genes:
        what = f"on slide {pair.slide} other cells or genes were imputed than by the other models"
        raise InputError(f"imputed genes of {own.origin.model}", what, _REMEDY)
    found: Values = own.mean[rows, own.genes.index(gene)]
    return found


def pcc(truth: NDArray[np.floating], told: NDArray[np.floating]) -> float:
    """Return Pearson's correlation; 0 where either is constant, as the task has it."""
    first, second = (np.asarray(one, dtype=np.float64) - np.mean(one, dtype=np.float64) for one in (truth, told))
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float(first @ second) / norm if norm > 1e-12 else 0.0
