"""What the manifest says of a dataset: counts, files, hashes, exclusions and settings; no time and no absolute path."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.config.scales import Scale
from mistline.core.hashing import hash_file
from mistline.mist.seal import Proven, SlideFiles
from mistline.store.shard import CONTENTS


@dataclass(frozen=True, slots=True)
class Cohort:
    """The files of the whole cohort.

    Attributes:
        folder: the dataset folder; paths in the manifest are relative to it.
        slides: sheet entries (slide, donor, tissue, disease), in the sheet's order.
        splits: contents of splits.json.
        quality: contents of metacells.json.
    """

    folder: Path
    slides: Sequence[Mapping[str, str]]
    splits: Mapping[str, Any]
    quality: Mapping[str, Any]


def describe(
    cohort: Cohort,
    files: Sequence[SlideFiles],
    proven: Sequence[Proven],
    scales: Sequence[Scale],
    made_by: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest's content.

    Args:
        cohort: the cohort's files; genes.parquet must have been written.
        files: of each slide.
        proven: of each slide, what `seal.prove` returned.
        scales: all scales.
        made_by: sections, code and versions.
    """
    entries = [
        _slide(cohort.folder, entry, of_slide, found)
        for entry, of_slide, found in zip(cohort.slides, files, proven, strict=True)
    ]
    excluded: Counter[str] = Counter()
    for item in proven:
        excluded.update(item.summary["excluded"])
    n_read = sum(item.summary["n_read"] for item in proven)
    return {
        "kind": "xenium",
        "slides": entries,
        "scales": [_scale(scale, proven, dict(excluded), n_read) for scale in scales],
        "channels": list(proven[0].channels),
        "splits": _named(cohort.folder, cohort.folder / "splits.json")
        | {"scheme": cohort.splits["scheme"], "counts": cohort.splits["counts"]},
        "metacells": _named(cohort.folder, cohort.folder / "metacells.h5ad")
        | {"n_metacells": cohort.quality["n_metacells"], "levels": cohort.quality["levels"]},
        "genes": _named(cohort.folder, cohort.folder / "genes.parquet"),
        **made_by,
    }


def _scale(scale: Scale, proven: Sequence[Proven], excluded: dict[str, int], n_read: int) -> dict[str, Any]:
    records = sum(item.records[scale.name] for item in proven)
    described = scale.model_dump(mode="json") | {"records": records}
    if scale.unit == "cell":
        described |= {"read": n_read, "excluded": excluded}
    return described


def _slide(folder: Path, entry: Mapping[str, str], files: SlideFiles, proven: Proven) -> dict[str, Any]:
    names = {
        "bundle": files.folder / "bundle.json",
        "image_summary": files.folder / "image.json",
        "cells": files.folder / "cells.parquet",
        "counts": files.folder / "counts.h5ad",
        "cells_summary": files.folder / "cells.json",
        "metacells": files.folder / "metacells.parquet",
        "splits": files.splits,
    }
    described = {
        **{key: entry[key] for key in ("slide", "donor", "tissue", "disease")},
        "pixel_size_um": proven.pixel_size_um,
        "n_genes": len(proven.panel.gene_ids),
        "cells_read": proven.summary["n_read"],
        "excluded": proven.summary["excluded"],
        "splits": proven.sides,
        "image": relative(folder, files.folder / "image.ome.zarr"),
        "files": {name: _named(folder, path) for name, path in names.items()},
        "scales": {
            name: {
                "records": records,
                "index": _named(folder, files.index(name)),
                "shards": shards_of(folder, files.shards(name)),
            }
            for name, records in proven.records.items()
        },
    }
    if files.has_he:
        described["he"] = _he(folder, files, proven)
    return described


def _he(folder: Path, files: SlideFiles, proven: Proven) -> dict[str, Any]:
    """Describe the H&E of a slide; its records are those of the slide's own indexes."""
    return {
        "image": relative(folder, files.he / "image.ome.zarr"),
        "image_summary": _named(folder, files.he / "image.json"),
        "coverage": _named(folder, files.he / "coverage.parquet"),
        "scales": {name: {"shards": shards_of(folder, files.he_shards(name))} for name in proven.records},
    }


def shards_of(folder: Path, shards: Path) -> dict[str, Any]:
    """Return what the manifest says of a shard folder: where it is, and its files."""
    files = sorted(path for path in shards.iterdir() if path.suffix == ".lmdb" or path.name == CONTENTS)
    return {
        "path": relative(folder, shards),
        "files": {path.name: {"sha256": hash_file(path), "bytes": path.stat().st_size} for path in files},
    }


def _named(folder: Path, path: Path) -> dict[str, str]:
    return {"path": relative(folder, path), "sha256": hash_file(path)}


def relative(folder: Path, path: Path) -> str:
    """Return `path` as seen from the dataset's folder, with forward slashes."""
    return Path(os.path.relpath(path, folder)).as_posix()
