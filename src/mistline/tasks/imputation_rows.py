"""The rows of a table of imputed genes: a method with what depends on it, or the controls; and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.scrna.leak import refuse_shown
from mistline.scrna.view import Imputed
from mistline.tasks.base import MODEL, Inputs, Row
from mistline.tasks.imputation import Params
from mistline.tasks.imputation_controls import DESCRIPTIONS, OWN, ceilings, controls
from mistline.tasks.imputation_maps import CELLS_A_SQUARE, NEIGHBOURS, SIGMA, Maps, maps_of
from mistline.tasks.imputation_metrics import NOMINAL, measure, measure_sd
from mistline.tasks.imputation_problem import (
    CLUSTERED_CELLS,
    COMPONENTS,
    Given,
    agreement,
    clustered_cells,
    clusters,
)
from mistline.tasks.imputation_scores import Key, estimates, over_genes, per_gene, per_slide

if TYPE_CHECKING:
    from mistline.mist.pair import Pair

Sample = list[NDArray[np.float32]]  # genes of a fold of the cells that are clustered, fold by fold


@dataclass(slots=True)
class Judged:
    """What was found of one row so far.

    Args:
        values: metric -> slide and gene -> value.
        covered: [len(NOMINAL), W] shares of each fold, of a method that says how unsure it is.
        agreed: agreement of clusters with the truth's, of each slide.
    """

    values: dict[str, dict[Key, float]] = field(default_factory=dict)
    covered: list[NDArray[np.float64]] = field(default_factory=list)
    agreed: list[Mapping[str, float]] = field(default_factory=list)

    def add(self, slide: str, genes: tuple[str, ...], found: Mapping[str, NDArray[np.float64]]) -> None:
        """Note the metrics [W] of some genes."""
        for name, values in found.items():
            own = self.values.setdefault(name, {})
            own.update({(slide, gene): float(v) for gene, v in zip(genes, values, strict=True) if np.isfinite(v)})


@dataclass(slots=True)
class Table:
    """Slides that were judged so far.

    Args:
        params: of the task.
        given: what a method imputed; None for the controls.
        found: row -> what was found of it.
        slides: slide -> its judged cells and tested genes.
    """

    params: Params
    given: Given | None
    found: dict[str, Judged] = field(default_factory=dict)
    slides: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Inputs, params: Params, protocol: str) -> Table:
        """Return an empty table of a method, or of the controls.

        Raises:
            InputError: what is judged was imputed for another protocol.
        """
        given = None if inputs.is_controls else Given(inputs.imputed())
        if given is not None:
            given.check(protocol)
        return cls(params, given)

    @property
    def n_cells(self) -> int:
        """How many cells were judged."""
        return sum(own["cells"] for own in self.slides.values())

    def add(self, pair: Pair) -> None:
        """Judge all folds of a slide.

        Raises:
            InputError: the method's file lacks cells or genes, or the method has read what it is tested on.
        """
        rows = None if self.given is None else self.given.rows(pair)
        maps, drawn = maps_of(pair.xy_um), clustered_cells(pair.cell_id, self.params.seed)
        samples: dict[str, Sample] = {}
        n_genes = 0
        for fold in pair.folds:
            genes = pair.tested(fold)
            if not genes:
                continue
            n_genes += len(genes)
            told, truth = self._told(pair, fold, rows)
            self._judge(pair.slide, genes, told, truth, maps)
            for name, own in {"": Imputed(truth), **told}.items():
                samples.setdefault(name, []).append(own.mean[drawn])
        if not n_genes:
            raise InputError(f"slide {pair.slide}", "none of its genes is tested", "run fold-genes again")
        self._cluster(samples)
        self.slides[pair.slide] = {"cells": len(pair.cell_id), "genes": n_genes}

    def _told(
        self, pair: Pair, fold: int, rows: NDArray[np.int64] | None
    ) -> tuple[dict[str, Imputed], NDArray[np.float32]]:
        """Return what each row says of a fold's tested genes, and the truth, which is read last."""
        if self.given is None or rows is None:
            view = pair.view(fold)
            said = controls(view, self.params, fold)
            truth = pair.truth(fold)
            said |= ceilings(view, truth, self.params)
            return {name: Imputed(values) for name, values in said.items()}, truth
        own = self.given.of(pair, fold, rows)
        truth = pair.truth(fold)
        named = (self.params.seed, "evaluate", "imputation")
        where = f"{self.given.name}, fold {fold} of slide {pair.slide}"
        refuse_shown(where, truth, own.mean, generator(*named, "leak", pair.slide, fold))
        dealt = generator(*named, "shuffled", pair.slide).permutation(len(own.mean))
        return {MODEL: own, "shuffled": Imputed(own.mean[dealt])}, truth

    def _judge(
        self,
        slide: str,
        genes: tuple[str, ...],
        told: Mapping[str, Imputed],
        truth: NDArray[np.float32],
        maps: Maps | None,
    ) -> None:
        for name, own in told.items():
            judged = self.found.setdefault(name, Judged())
            judged.add(slide, genes, measure(truth, own.mean, maps))
            if own.sd is not None:
                found, covered = measure_sd(truth, own.mean, own.sd)
                judged.add(slide, genes, found)
                judged.covered.append(covered)

    def _cluster(self, samples: Mapping[str, Sample]) -> None:
        found = {name: clusters(np.hstack(own), self.params.seed) for name, own in samples.items()}
        for name, own in found.items():
            if name:
                self.found[name].agreed.append(agreement(found[""], own))

    def rows(self) -> dict[str, Row]:
        """Return the rows of the file."""
        rows = {}
        for name, judged in self.found.items():
            per_unit = per_gene(judged.values)
            about: dict[str, Any] = {"what": DESCRIPTIONS[name]} if name in DESCRIPTIONS else {}
            about |= {"over_genes": over_genes(per_unit), "clustering": _mean(judged.agreed)}
            if len(self.slides) > 1:
                about["per_slide"] = per_slide(judged.values)
            if name == MODEL and self.given is not None:
                about |= self.given.cost()
            if judged.covered:
                covered = np.concatenate(judged.covered, axis=1).mean(axis=1)
                about["calibration"] = {"nominal": list(NOMINAL), "covered": covered.tolist()}
            rows[name] = Row(estimates(judged.values, self.params), per_unit, about, is_ceiling=name == OWN)
        return rows


def settings_of(table: Table) -> dict[str, Any]:
    """Return what a reader needs to repeat the numbers, in words."""
    return {
        "judged": table.slides,
        "values": "log(1 + x) of what was measured, counts scaled to 10,000 by the sum over the fold's training genes",
        "pcc, spearman": "of a gene over the cells; a constant counts 0",
        "pcc_median": "the median over genes; the others are means",
        "ssim": "truth and prediction divided by their maximum, the global formula, without a window",
        "ssim_windowed": f"the same over means of squares of {CELLS_A_SQUARE} cells on average, under a Gaussian "
        f"window of {SIGMA:g} squares",
        "rmse": "sqrt(2 - 2 pcc): RMSE after z-scoring truth and prediction, sqrt(2) for constants",
        "rmse_log": "of the values themselves",
        "js": "Jensen-Shannon divergence in nats of truth and prediction divided by their sums; negative values count "
        "as none",
        "moran_difference": f"how far Moran's I of the prediction is from that of the truth, {NEIGHBOURS} neighbours",
        "auc": "of telling the cells in which the gene was measured from the others; genes in all or no cells are left "
        "out",
        "coverage_90": "share of cells whose truth lies within 1.645 sd: 0.9 is right, neither more nor less",
        "sd_r": "Spearman of sd and absolute error over cells",
        "clustering": f"Leiden on {COMPONENTS} components of all tested genes, of the truth against the prediction, at "
        f"most {CLUSTERED_CELLS} cells of a slide; the mean over slides. Dealing columns leaves clusters as they are: "
        "permuted has those of knn_transfer",
        "interval": "intervals resample genes, each with all its slides, so they describe these slides only and say "
        "nothing of another donor; tests pair genes, of several slides the mean",
    }


def _mean(agreed: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([own[name] for own in agreed])) for name in agreed[0]}
