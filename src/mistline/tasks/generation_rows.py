"""The rows of a table of generated images: a generator with what depends on it, or the controls; and what they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.tasks.base import MODEL, Inputs, Row
from mistline.tasks.generation import Params
from mistline.tasks.generation_distances import K1, K2, PSNR_CAP, SIGMA, TRUNCATE
from mistline.tasks.generation_problem import COPY_QUANTILE, Images, Problem, drawn_images
from mistline.tasks.generation_scores import score, score_real
from mistline.tasks.picture_features import WHAT

DRAWN, DEALT, DECODED, START = "generated", "dealt", "autoencoder", "start"
_LEAST_OTHERS = 0.5  # of the tested cells, for a distance between real images
_DESCRIPTIONS = {
    "shuffled": "the same generator and noise, given the condition of another tested cell",
    "start_cell": "the cell that the flow starts from, as it is",
    "mean_image_here": "the mean of the training cells' images, on the cells that this generator could draw",
    "mean_image": "the mean of the training cells' images, for every cell",
    "nearest_cell": "the real image of the training cell whose expression is nearest (principal components of log "
    "counts)",
    "random_cell": "the real image of a training cell drawn at random",
    "autoencoder": "ceiling: each cell's own real image, encoded and decoded; what a generator that works on this code "
    "can reach",
    "real": "ceiling: genes read back from the cells' own real images; distances are those of further test cells of "
    "the same slides",
}
_NO_OTHERS = "; too few further test cells for distances"


def rows_of(inputs: Inputs, problem: Problem, params: Params, protocol: str) -> dict[str, Row]:
    """Return the rows of one file."""
    return _controls(inputs, problem, params, protocol) if inputs.is_controls else _model(inputs, problem, params)


def left_out(protocol: str) -> dict[str, str]:
    """Return control -> why it is not in the file of the controls."""
    if protocol != "context2img":
        return {}
    return {"nearest_cell": "it is found by the cell's own genes, which this protocol hides"}


def settings_of(problem: Problem, params: Params) -> dict[str, Any]:
    """Return what a reader needs to repeat the numbers, in words."""
    return {
        "cells": f"of each slide the first {params.n_cells} test cells of a draw by hashes of their ids; fitted is on "
        f"{len(problem.trained.features):,} training cells, drawn in the same way",
        "donors_disjoint": problem.train_donors.isdisjoint(problem.cells["donor"]),
        "images": f"{problem.real.images.shape[1]} channels, brought to {params.size_px} px by area where larger, "
        "linearly where smaller",
        "psnr": f"range 1 on [0, 1], the mean over cells; at most {PSNR_CAP:g}",
        "ssim": f"range 1 on [0, 1], Gaussian window of {SIGMA:g} px cut at {TRUNCATE:g} of it, K1 {K1:g}, K2 {K2:g}, "
        "mean over channels and cells",
        "fid, kid": f"in {problem.net.what}; KID: kernel (x . y / d + 1)^3, unbiased; FID grows as images get fewer "
        "and compares only within this table",
        "nucleus": dict(WHAT),
        "NAME_r": "Pearson of the image's nucleus with the real one over cells, each less the mean of its slide",
        "NAME_distance": "Wasserstein distance of the two distributions, in standard deviations of training cells",
        "readback_pearson": f"of a gene read by a ridge probe (penalty {problem.probe.penalty:g}, fitted to real "
        "images of training cells) with the cell's own log counts, each less the mean of its slide; the mean over "
        f"{len(problem.gene_names)} genes",
        "genes": list(problem.gene_names),
        "copies": f"share of images nearer to a training image, in the same features, than {COPY_QUANTILE:.0%} of the "
        f"real test images are: {COPY_QUANTILE:g} is chance",
        "sets": "where donors or slides are resampled, all but FID is computed in each of them and averaged",
        "interval": problem.unit.note,
    }


def _model(inputs: Inputs, problem: Problem, params: Params) -> dict[str, Row]:
    problem, images = drawn_images(inputs, problem)
    for name in (DRAWN, DEALT):
        if name not in images:
            raise InputError("generated images", f"there is no set {name!r} among them", "run generate again")
    rows = {
        MODEL: score(problem, images[DRAWN], params, {**inputs.generated().about, "cells": len(problem.cells)}),
        "shuffled": score(problem, images[DEALT], params, _about("shuffled")),
    }
    if START in images:
        rows["start_cell"] = score(problem, images[START], params, _about("start_cell"))
    if inputs.generated().about.get("subset"):
        rows["mean_image_here"] = score(problem, _mean_image(problem), params, _about("mean_image_here"))
        rows = {name: Row(row.metrics, {}, row.about) for name, row in rows.items()}  # of other cells than other rows
    if DECODED in images:
        row = score(problem, images[DECODED], params, _about(DECODED))
        rows[DECODED] = Row(row.metrics, row.per_unit, row.about, is_ceiling=True)
    return rows


def _controls(inputs: Inputs, problem: Problem, params: Params, protocol: str) -> dict[str, Row]:
    n, trained = len(problem.cells), problem.trained.images
    drawn = generator(params.seed, "evaluate", "generation", "random_cell").integers(len(trained), size=n)
    images: dict[str, Images] = {
        "mean_image": _mean_image(problem),
        "nearest_cell": trained[problem.neighbour],
        "random_cell": trained[drawn],
    }
    rows = {
        name: score(problem, shown, params, _about(name))
        for name, shown in images.items()
        if name not in left_out(protocol)
    }
    enough = len(problem.others) >= _LEAST_OTHERS * n
    others = inputs.pictures(problem.others, params.size_px) if enough else None
    about = _about("real", "" if enough else _NO_OTHERS) | {"further_cells": len(problem.others) * enough}
    return {**rows, "real": score_real(problem, others, params, about)}


def _mean_image(problem: Problem) -> Images:
    mean = np.round(problem.trained.images.mean(axis=0, dtype=np.float64)).astype(np.uint8)
    return np.broadcast_to(mean, (len(problem.cells), *mean.shape))


def _about(name: str, more: str = "") -> dict[str, Any]:
    return {"what": f"{_DESCRIPTIONS[name]}{more}"}
