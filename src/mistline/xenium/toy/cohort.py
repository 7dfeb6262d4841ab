"""A folder ready to run on: several bundles, their labels, the slide sheet, single cells, a config and the truth."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mistline.core.errors import InputError, OutputError
from mistline.core.files import remove, write_json, write_text
from mistline.core.log import progress
from mistline.xenium.toy.bundle import write_bundle
from mistline.xenium.toy.describe import common_truth
from mistline.xenium.toy.histology import write_he
from mistline.xenium.toy.panel import TARGETS
from mistline.xenium.toy.reference import write_reference
from mistline.xenium.toy.settings import ToySlide

_LOG = logging.getLogger("mistline.xenium")
_UNFINISHED = ".toy-unfinished"  # lies in the folder until everything is there
_REFERENCE = "reference.h5ad"
_ITEMS = ("bundles", "labels", "he", _REFERENCE, "slides.tsv", "truth.json", "config.yaml")
_COLUMNS = (
    "slide",
    "bundle",
    "donor",
    "tissue",
    "disease",
    "labels",
    "he_image",
    "he_alignment",
    "cells",
    "genes",
    "xoa",
)
_N_ADDON = 8


def plan_cohort(n_slides: int, n_cells: int, seed: int, layouts: Sequence[str], **settings: Any) -> list[ToySlide]:
    """Choose the slides: layouts in turn, an add-on panel on the second, from six on the last of the first's donor.

    Args:
        n_slides: slides to write.
        n_cells: cells of each slide.
        seed: of all slides.
        layouts: keys of `LAYOUTS`.
        settings: of every `ToySlide`, such as `n_genes`.

    Raises:
        InputError: a number or a layout is not possible.
    """
    if n_slides < 1:
        raise InputError("toy slides", f"{n_slides} slides", "ask for at least one")
    n_donors = n_slides - 1 if n_slides >= 6 else n_slides
    return [
        ToySlide(
            name=f"toy{number + 1}",
            layout=layouts[number % len(layouts)],
            n_cells=n_cells,
            seed=seed,
            donor=f"donor{number % n_donors + 1}",
            n_addon=_N_ADDON if number == 1 else 0,
            aspect=1.35 if number % 2 == 0 else 0.75,
            **settings,
        )
        for number in range(n_slides)
    ]


def write_cohort(out: Path, slides: Sequence[ToySlide], *, threads: int = 2) -> None:
    """Write a cohort; `config.yaml` comes last, so a folder that has it is complete.

    Args:
        out: an empty or absent folder, or one where this was interrupted.
        slides: what to write.
        threads: of the image encoder; the bytes do not depend on it.

    Raises:
        OutputError: the folder holds something else, the disk is full or the folder cannot be written.
    """
    out = Path(out).absolute()
    _prepare(out)
    truth: dict[str, Any] = {"common": common_truth(), "slides": {}}
    for slide in progress(slides, "writing toy slides"):
        _LOG.info("%s: layout %s, %d cells, %d x %d px", slide.name, slide.layout, slide.n_cells, *slide.image_shape)
        bundle, labels = out / "bundles" / slide.name, out / "labels" / f"{slide.name}.csv"
        truth["slides"][slide.name] = write_bundle(bundle, slide, labels=labels, threads=threads)
        if slide is _with_he(slides):
            truth["slides"][slide.name]["he"] = write_he(*(out / path for path in _he_paths(slide)), slide)
    write_reference(out / _REFERENCE, slides[0])
    write_text(out / "slides.tsv", _sheet(slides))
    write_json(out / "truth.json", truth)
    write_text(out / "config.yaml", _config(slides[0].seed))
    (out / _UNFINISHED).unlink()


def _prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(out, "not a folder", "choose another --out")
    if (out / _UNFINISHED).is_file():
        for name in _ITEMS:
            remove(out / name)
    elif out.is_dir() and any(out.iterdir()):
        raise OutputError(out, "the folder is not empty", "choose another --out or empty this one")
    write_text(out / _UNFINISHED, "mistline toy has not finished here; run it again\n")


def _with_he(slides: Sequence[ToySlide]) -> ToySlide:
    """Return the one slide of a cohort that has an H&E: the second, where there are several."""
    return slides[min(1, len(slides) - 1)]


def _he_paths(slide: ToySlide) -> tuple[str, str]:
    """Return where the H&E and its matrix lie, named as in 10x's public data sets."""
    return f"he/{slide.name}_he_image.ome.tif", f"he/{slide.name}_he_imagealignment.csv"


def _sheet(slides: Sequence[ToySlide]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(_COLUMNS)
    for number, slide in enumerate(slides):
        disease = "healthy" if number % 3 == 2 else "carcinoma"
        paths = (f"bundles/{slide.name}", slide.donor, slide.tissue, disease, f"labels/{slide.name}.csv")
        he = _he_paths(slide) if slide is _with_he(slides) else ("", "")
        writer.writerow(
            (slide.name, *paths, *he, slide.n_cells, slide.n_genes + slide.n_addon, slide.xoa or slide.form.xoa)
        )
    return stream.getvalue()


_GENERATOR = {"condition": "spatia", "autoencoder": "vae", "size": "tiny", "modes": ["gene2img"]}
# Small enough for a laptop. Five donors are too few for the task `biomarker`.
_MODELS = {
    "pca": {"model": "pca"},
    "image": {"model": "image"},
    "encoder": {"model": "encoder", "params": {"name": "resnet10t", "image_size": 32}},
    "fusion": {"model": "fusion", "params": {"preset": "cross_attention", "width": 32, "epochs": 18, "min_epochs": 5}},
    "spatia": {"model": "spatia", "params": {"size": "tiny", "epochs": 4}},
    "gest": {"model": "gest", "params": {"size": "tiny", "window_um": 64, "steps": 150, "embed_corners": 1}},
    "spadit": {"model": "spadit", "params": {"size": "tiny", "steps": 20, "sampling_steps": 10, "samples": 4}},
    "niche": {"model": "niche", "params": {"start": "gest", "epochs": 1}},
    "vae": {"model": "vae", "params": {"size": "tiny", "image_size": 24, "steps": 120}},
    "diffusion": {"model": "diffusion", "params": {**_GENERATOR, "steps": 110}},
    "flow": {
        "model": "flow",
        "params": {
            **_GENERATOR,
            "steps": 40,
            "label": "cell_type",
            "niche": "domain",
            "transitions": [["Fibroblast", "Tumour"], ["T_cell", "Macrophage"]],
        },
    },
}
_OF_PLACES = ["pca", "spatia"]  # without a niche, and with one
_TARGETS = {**dict.fromkeys(TARGETS, "high"), **{f"HOUSE{number}": "same" for number in range(1, 7)}}
_TASKS = {
    "annotation": {
        "protocols": ["external_query"],
        "models": ["spatia", "fusion", "niche"],
        "params": {"label": "cell_type"},
    },
    "clustering": {
        "protocols": ["fixed_resolution"],
        "models": ["pca", "image", "spatia"],
        "params": {"label": "cell_type"},
    },
    "composition": {"protocols": ["dataset_split"], "models": ["spatia"], "params": {"label": "cell_type"}},
    "crossmodal": {"protocols": ["image_to_genes_ridge"]},
    "domains": {
        "protocols": ["spatial_block"],
        "models": ["spatia", "gest", "fusion"],
        "params": {"label": "domain", "n_blocks": 2},
    },
    "expression": {"protocols": ["dataset_split"], "models": ["image"], "params": {"n_genes": 10, "max_cells": 600}},
    "generation": {"protocols": ["gene2img"], "params": {"size_px": 24, "n_cells": 100, "n_train": 200}},
    "imputation": {  # of one slide: each fold of each slide is a fit of its own
        "protocols": ["gene_folds"],
        "models": ["spadit"],
        "params": {"n_folds": 2, "slides": ["toy1"], "max_cells": 300},
    },
    "perturbation": {
        "protocols": ["rings"],
        "params": {
            "perturbation": {"activated": ["LIGAND1"], "n_rois": 1, "radius_um": 20, "ring_um": 40, "sweep": []},
            "expected": _TARGETS,
            "near_um": 20,
        },
    },
    "unseen_generation": {
        "protocols": ["holes_300"],
        "params": {"holes": {"n": 1, "least_cells": 20, "scale": 0.3}, "mlp_cells": 200, "gp_fit_cells": 100},
    },
    "retrieval": {
        "protocols": ["other_donors"],
        "models": _OF_PLACES,
        "params": {"labels": ["cell_type", "domain"]},
    },
}
_GENERATION = {
    "sampling": {"steps": 12},
    "edits": [{"genes": ["NUCSIZE"], "n_cells": 2}, {"genes": ["NUCBRI"], "n_cells": 2}],
}
_IMPUTATION = {"reference": _REFERENCE, "n_genes": 12, "models": ["spadit"], "slides": ["toy1"]}


class _Plain(yaml.SafeDumper):
    """Writes a list that is there twice out twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _config(seed: int) -> str:
    settings = {
        "slides": "slides.tsv",
        "seed": seed,
        "metacells": {"n_metacells": 24, "n_components": 16, "levels": [8, 4, 2], "min_cells": 5},
        "models": _MODELS,
        "tasks": _TASKS,
        "generation": _GENERATION,
        "imputation": _IMPUTATION,
    }
    head = "# Toy slides with known truth (truth.json). Paths are relative to this folder: snakemake --directory here\n"
    return head + yaml.dump(settings, Dumper=_Plain, sort_keys=False)
