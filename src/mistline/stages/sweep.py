"""Time a generator with and without token merging and in fewer steps, and judge what each way draws."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray

from mistline.config.base import load_section
from mistline.config.generation import Generation
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_json
from mistline.core.provenance import record
from mistline.core.seeds import generator as draws
from mistline.infer import sweep as timing
from mistline.infer.generate import check_protocol
from mistline.infer.generators import Files, Generator, open_generator
from mistline.infer.sweep import Run, Timer, Variant
from mistline.tasks.generation_distances import frechet, psnr, ssim
from mistline.tasks.generation_features import FeatureNet, Features, fit_features
from mistline.tasks.stats import interval
from mistline.train.device import cpu_threads, pick_device
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.sweep")

_DRAWS, _CONFIDENCE = 500, 0.95
_TRAIN_CELLS, _FEWEST_TRAIN, _FEWEST = 500, 20, 5
_BOUNDS = {"psnr": (0.0, np.inf), "ssim": (-1.0, 1.0), "fid": (0.0, np.inf)}
_FREE = (-np.inf, np.inf)


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    generator: Annotated[Path, typer.Option(help="config.json of the generator.")],
    autoencoder: Annotated[Path, typer.Option(help="config.json of the autoencoder that its latents are of.")],
    latents: Annotated[list[Path], typer.Option(help="Folder of encode-cells of a slide; repeated.")],
    table: Annotated[Path, typer.Option(help="Table (JSON) to write.")],
    params: Annotated[str, typer.Option(help="The generation section, as JSON.")] = "{}",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
) -> None:
    """Write the table of speed and quality."""
    settings = load_section(Generation, params, "generation")
    if settings.sweep is None:
        raise ConfigError("generation.sweep", "none is asked for", "give ratios and steps, or {} for the usual ones")
    device = pick_device(devices)
    with cpu_threads(threads):
        opened = open_generator(Files(manifest, generator, autoencoder, latents), device)
        check_protocol(opened.drawer.model.made_for, settings.protocol)
        cells = timing.swept_cells(opened, settings.sweep.n_cells)
        if len(cells) < _FEWEST:
            what = f"{len(cells)} test cells are encoded, and {_FEWEST} are the least"
            raise InputError("sweep", what, "look at splits.json and the generator's test_cells")
        asked = timing.variants(settings.sweep, settings.sampling)
        timer = Timer(opened, settings.protocol, settings.sampling, seed)
        found = timer.run(asked, cells)
        size = timing.batch_size(settings.sampling, len(cells))
        shares = timing.shares(opened, settings.protocol, settings.sampling, cells.iloc[:size])
        rows = _rows(found, opened.real(cells), _feature_net(opened), seed)
    for row in rows:
        logger.info(
            "%s %.2f, %d steps: %.4f s an image", row["way"], row["ratio"], row["steps"], row["seconds_per_image"]
        )
    write_json(
        table, {**_about(opened, settings, cells), "share_of_sampling": shares, "threads": threads, "rows": rows}
    )
    record(
        "sweep",
        outputs=[table],
        inputs={"manifest": manifest, "generator": generator, "autoencoder": autoencoder},
        params=settings.model_dump(mode="json"),
        code=code_digest("sweep", *opened.modules),
        seed=seed,
    )


def _about(opened: Generator, settings: Generation, cells: pd.DataFrame) -> dict[str, Any]:
    sampling, shape = settings.sampling, [int(side) for side in opened.drawer.model.made_for.latent_shape]
    return {
        **asdict(opened.origin),
        "protocol": settings.protocol,
        "sampling": sampling.model_dump(mode="json"),
        "device": torch.cuda.get_device_name() if opened.drawer.device == "cuda" else "CPU",
        "image_size": int(opened.drawer.autoencoder.image_size),
        "latent_shape": shape,
        "tokens": shape[1] * shape[2],
        "batch_size": timing.batch_size(sampling, len(cells)),
        "n_cells": len(cells),
        "unit": "cell",
        "notes": timing.notes(shape, sampling.merge, sampling),
    }


def _feature_net(opened: Generator) -> FeatureNet | None:
    """Return the task's feature net, fitted to real images of training cells; None where too few are encoded."""
    n = -(-_TRAIN_CELLS // len(opened.readers))
    cells = pd.concat([opened.cells(slide, "train", n) for slide in opened.readers])
    return fit_features(opened.real(cells)) if len(cells) >= _FEWEST_TRAIN else None


def _rows(
    found: Mapping[Variant, Run], real: NDArray[np.uint8], net: FeatureNet | None, seed: int
) -> list[dict[str, Any]]:
    """Return a row a variant: speed beside no merging in as many steps and in the most, and quality.

    Args:
        found: what each variant drew.
        real: [n, C, S, S] images of the cells.
        net: of the Fréchet distance; None for none.
        seed: of the intervals.
    """
    n = len(real)
    drawn = draws(seed, "sweep", "interval").integers(n, size=(_DRAWS, n))
    weights = np.stack([np.ones(n), *(np.bincount(own, minlength=n) for own in drawn)]).astype(np.float64)
    truth = None if net is None else net.of(real)
    most = max(variant.steps for variant in found)
    whole = found[Variant("none", 0.0, most)]
    quality = {
        variant: _quality(real, run.images, weights, (net, truth)) for variant, run in found.items()
    }  # metric -> [1 + draws], the first of all cells
    rows = []
    for variant, run in found.items():
        same = Variant("none", 0.0, variant.steps)
        row = {**asdict(variant), **timing.speed(run, whole)}
        row["speedup_of_merging"] = timing.speed(run, found[same])["speedup"]
        for name, values in quality[variant].items():
            row[name] = _estimate(values, _BOUNDS[name])
            if variant != same:
                row[f"{name}_difference"] = _estimate(values - quality[same][name], _FREE)
        if run is not whole:
            for name, score in (("psnr", psnr), ("ssim", ssim)):
                row[f"{name}_unmerged"] = _estimate(_means(score(whole.images, run.images), weights), _BOUNDS[name])
        rows.append(row)
    return rows


def _quality(
    real: NDArray[np.uint8],
    images: NDArray[np.uint8],
    weights: Features,
    features: tuple[FeatureNet | None, Features | None],
) -> dict[str, Features]:
    net, truth = features
    found = {"psnr": _means(psnr(real, images), weights), "ssim": _means(ssim(real, images), weights)}
    if net is not None and truth is not None:
        found["fid"] = frechet(net.of(images), truth, weights)
    return found


def _means(values: Features, weights: Features) -> Features:
    means: Features = weights @ values / weights.sum(axis=1)
    return means


def _estimate(values: Features, bounds: tuple[float, float]) -> dict[str, float]:
    return asdict(interval(float(values[0]), values[1:], _CONFIDENCE, bounds))
