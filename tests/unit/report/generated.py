"""What generators drew of the cells of the tree, written without any: nuclei whose size or light follows a gene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mistline.core.files import write_json
from mistline.store.embeddings import Origin
from mistline.store.pictures import Pictures, write_pictures
from tests.unit.report.tree import HOSTILE, N_CELLS, Tree

KINDS = {"pictures": "safetensors", "edits": "safetensors", "sweeps": "json"}
SETS = ("original", "own", "edited", "dealt", "returned", "inverted")
LEVELS = {"0": 0.55, "x0.5": 0.8, "x1": 1.0, "x2": 1.2, "x4": 1.35}
GENES = ["NUCSIZE", HOSTILE[:12]]


def write_generated(tree: Tree, slide: str, size: int = 24, n_cells: int = 12, n_edited: int = 2
                    ) -> dict[str, list[Path]]:  # fmt: skip
    """Write drawn cells, an edit and a sweep; return the report's options."""
    rng = np.random.default_rng(0)
    folder = tree.root / "generated"
    about = {"sampling": {"steps": 20, "guidance": 2.0}, "image_size": size, "protocol": "gene2img"}
    radius, light = rng.uniform(0.45, 0.75, n_cells), rng.uniform(90, 180, n_cells)
    drawn = {
        "generated": nuclei(radius * 1.05, light, size, rng),
        "dealt": nuclei(np.roll(radius, 1), np.roll(light, 1), size, rng),
        "autoencoder": nuclei(radius, light, size, rng),
    }
    ids = np.array([slide] * n_cells), np.array(cell_ids()[:n_cells])
    options = {name: [folder / f"{name}.{kind}"] for name, kind in KINDS.items()}
    told = {**about, "seconds_per_image": 0.0312}
    write_pictures(options["pictures"][0], Pictures(*ids, drawn, _origin(tree), told))
    rows, images = _edited((radius[:n_edited], light[:n_edited]), size, slide)
    ids = tuple(np.array([row[name] for row in rows]) for name in ("slide", "cell_id"))
    features = {"area": "share of the image that the nucleus covers", "brightness": "its mean, 0 .. 1"}
    write_pictures(
        options["edits"][0], Pictures(*ids, images, _origin(tree), {**about, "rows": rows, "features": features})
    )
    write_json(options["sweeps"][0], sweep(tree.version))
    return options


def nuclei(radius: np.ndarray, light: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 [n, 1, size, size] of round nuclei."""
    yx = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
    soft = 1 / (1 + np.exp((yx[None] - radius[:, None, None]) * 14))
    shown = soft * light[:, None, None] + rng.normal(8, 3, (len(radius), size, size))
    return shown.clip(0, 255).astype(np.uint8)[:, None]


def sweep(version: str) -> dict[str, Any]:
    """Return a table of speed and quality: merging is 1.3 times as fast, and costs quality at the larger ratio only."""

    def around(value: float, half: float) -> dict[str, float]:
        return {"value": value, "low": value - half, "high": value + half}

    rows = []
    for steps, whole in ((50, 0.5), (10, 0.1)):
        for way, ratio in [("none", 0.0), *((way, ratio) for way in ("cfg", "tomesd") for ratio in (0.25, 0.75))]:
            merging = 1 + ratio * (0.5 if way == "cfg" else 0.25)
            seconds, lost = whole / merging, ratio * (0.2 if way == "cfg" else 0.6) + (50 - steps) / 100
            row = {"way": way, "ratio": ratio, "steps": steps, "seconds_per_image": seconds, "seconds": [seconds] * 4}
            row["speedup"], row["speedup_of_merging"] = around(0.5 / seconds, 0.05), around(merging, 0.03)
            scores = {
                "psnr": around(24 - lost, 0.4),
                "ssim": around(0.65 - lost / 20, 0.02),
                "fid": around(12 + lost, 1),
            }
            row |= scores
            if way != "none":
                row |= {f"{name}_difference": around(-lost if name != "fid" else lost, 0.3) for name in scores}
            if (way, steps) != ("none", 50):
                row |= {"psnr_unmerged": around(38 - 5 * lost, 0.5), "ssim_unmerged": around(0.97 - lost / 20, 0.005)}
            rows.append(row)
    shares = {"self_attention": 0.25, "transformer_blocks": 0.62}
    return {
        "model": "cells", "seed": 0, "model_sha256": "w", "dataset_version": version, "protocol": "gene2img",
        "sampling": {"guidance": 2.0}, "device": "CPU", "threads": 2, "image_size": 24, "latent_shape": [4, 6, 6],
        "tokens": 36, "batch_size": 16, "n_cells": 64, "unit": "cell", "share_of_sampling": shares, "rows": rows,
        "notes": ["no layer has the 256 tokens from which way cfg merges (the largest has 36)"],
    }  # fmt: skip


def cell_ids() -> list[str]:
    return [f"aaaa{number:04d}-1" for number in range(N_CELLS)]


def _origin(tree: Tree) -> Origin:
    return Origin("cells", 0, "weights", tree.version)


def _edited(cells: tuple[np.ndarray, np.ndarray], size: int, slide: str) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Return rows and images: the level of the gene is how wide the nucleus is."""
    rows: list[dict[str, Any]] = []
    drawn: dict[str, list[np.ndarray]] = {kind: [] for kind in SETS}
    rng = np.random.default_rng(1)
    for cell, own in enumerate(zip(*cells, strict=True)):
        for level, factor in LEVELS.items():
            told = dict.fromkeys(SETS, own) | dict.fromkeys(("edited", "inverted"), (own[0] * factor, own[1]))
            told["dealt"] = (rng.choice(cells[0]), rng.choice(cells[1]))
            for kind, shape in told.items():
                noise = np.random.default_rng([cell, kind in ("own", "edited")])
                drawn[kind].append(nuclei(*(np.full(1, value) for value in shape), size, noise))
            features = {
                kind: {"area": wide**2, "brightness": light / 255, "eccentricity": 0.4}
                for kind, (wide, light) in told.items()
            }
            row = {"edit": 0, "genes": GENES, "level": level, "slide": slide, "cell_id": cell_ids()[cell]}
            count = [4, int(4 * float(level.removeprefix("x")))]
            rows.append({**row, "side_um": 9.4 + cell, "counts": [count] * len(GENES), "features": features})
    return rows, {kind: np.concatenate(parts) for kind, parts in drawn.items()}
