"""A cohort of tables with images on disk: what colour a place has tells its layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from mistline.stages import cut_patches, seal_tables
from tests.unit.spots.written import table, write_h5ad
from tests.unit.stages.tables import read, split

SIDE_PX = 400  # of the image; coordinates 0 .. 100 are multiplied by 4
COLOURS = np.array([(220, 40, 90), (90, 200, 60), (40, 80, 210)], dtype=np.uint8)  # of the three layers


def paint(seed: int = 0, side: int = SIDE_PX) -> np.ndarray:
    """Return [side, side, 3]: three bands of colour with a little noise."""
    rng = np.random.default_rng(seed)
    band = np.minimum(np.arange(side) * 3 // side, 2)
    image = COLOURS[band][:, None, :] + rng.integers(0, 20, (side, side, 3))
    return image.astype(np.uint8)


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels in the form that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    elif path.suffix == ".jpg":
        path.write_bytes(imagecodecs.jpeg8_encode(pixels, level=95))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64))
    return path


def cut(root: Path, slide: str, image: Path, donor: str = "d", **options: Any) -> dict[str, Any]:
    """Run cut_patches; return patches.json."""
    folder = root / "slides" / slide
    patches = {"side_um": 16.0, "size_px": 16} | options.pop("patches", {})
    cut_patches.run(
        image=image,
        bundle_report=folder / "bundle.json",
        cells=folder / "cells.parquet",
        slide=slide,
        donor=donor,
        shards=folder / "shards/cell",
        index=folder / "shards/cell.parquet",
        summary=folder / "patches.json",
        params=json.dumps(patches),
        **options,
    )
    found: dict[str, Any] = json.loads((folder / "patches.json").read_text())
    return found


def seal(root: Path, donors: Mapping[str, str], images: tuple[str, ...]) -> Path:
    """Run seal_tables over slide -> donor, of which some have images; return the manifest."""
    entries = [
        {"slide": slide, "donor": donor, "tissue": "t", "disease": "x"} | ({"image": True} if slide in images else {})
        for slide, donor in donors.items()
    ]
    manifest = root / "dataset/manifest.json"
    seal_tables.run(
        root=root,
        slides_json=json.dumps(entries),
        manifest=manifest,
        genes=root / "dataset/genes.parquet",
        card=root / "dataset/card.md",
        params="{}",
    )
    return manifest


def cohort(root: Path, slides: str = "ab", n: int = 90) -> Path:
    """Read, cut, split and seal slides of different donors; return the manifest."""
    donors = {name: f"d{name}" for name in slides}
    for seed, name in enumerate(slides):
        data = table(n, seed)
        data.obsm["spatial"] *= SIDE_PX / 100
        read(root, name, write_h5ad(root / f"{name}.h5ad", data), donor=donors[name], um_per_unit=1.0)
        cut(root, name, write_image(root / f"{name}.png", paint(seed)), donors[name])
    split(root, donors)
    return seal(root, donors, tuple(slides))
