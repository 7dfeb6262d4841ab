"""A cohort of tables on disk, as the stages before `train` leave it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mistline.stages import make_splits, read_table, seal_tables

SCALES = '[{"name": "cell", "unit": "cell"}, {"name": "niche", "unit": "grid", "size_px": 256}]'


def read(root: Path, slide: str, table: Path, *, donor: str = "d", **options: Any) -> Path:
    """Run read_table; return the slide's folder."""
    folder = root / "slides" / slide
    paths = {
        "report": folder / "bundle.json",
        "cells": folder / "cells.parquet",
        "counts": folder / "counts.h5ad",
        "summary": folder / "cells.json",
    }
    read_table.run(table=table, slide=slide, donor=donor, tissue="t", disease="x", **paths, **options)
    return folder


def split(root: Path, donors: Mapping[str, str], **settings: Any) -> dict[str, Any]:
    """Run make_splits over slide -> donor; return splits.json."""
    folders = [root / "slides" / slide for slide in donors]
    make_splits.run(
        slide=list(donors),
        donor=list(donors.values()),
        tissue=["t"] * len(donors),
        cells=[folder / "cells.parquet" for folder in folders],
        bundle_report=[folder / "bundle.json" for folder in folders],
        splits=[root / "dataset/splits" / f"{slide}.parquet" for slide in donors],
        summary=root / "dataset/splits.json",
        scales=SCALES,
        params=json.dumps(settings),
    )
    found: dict[str, Any] = json.loads((root / "dataset/splits.json").read_text())
    return found


def seal(root: Path, donors: Mapping[str, str]) -> Path:
    """Run seal_tables; return the manifest."""
    entries = [{"slide": slide, "donor": donor, "tissue": "t", "disease": "x"} for slide, donor in donors.items()]
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
