"""Sealing a cohort of tables: all files of a slide speak of the same cells, and what the manifest says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import read_arrow, read_json
from mistline.core.hashing import hash_file
from mistline.mist.expression import CountsFile
from mistline.mist.inventory import relative, shards_of
from mistline.mist.patches import CHANNELS
from mistline.mist.patches_proof import prove_patches
from mistline.mist.seal import SlideFiles
from mistline.mist.splits import SPLITS
from mistline.mist.vocabulary import Panel

CELL_SCALE = {"name": "cell", "unit": "cell", "size_px": None}


@dataclass(frozen=True, slots=True)
class ProvenTable:
    """What the proof found out on the way.

    Attributes:
        panel: the slide's genes.
        bundle: bundle.json.
        summary: cells.json.
        sides: split -> number of cells.
        patches: patches.json; None where the slide has no image.
    """

    panel: Panel
    bundle: Mapping[str, Any]
    summary: Mapping[str, Any]
    sides: dict[str, int]
    patches: Mapping[str, Any] | None = None


def prove_table(files: SlideFiles) -> ProvenTable:
    """Prove one slide.

    Raises:
        InputError: two files disagree.
    """
    bundle, summary = read_json(files.folder / "bundle.json"), read_json(files.folder / "cells.json")
    cells = read_arrow(files.folder / "cells.parquet", ["cell_id", "n_counts"])
    ids = cells["cell_id"].to_numpy(zero_copy_only=False)
    if summary["n_kept"] != len(ids) or summary["n_read"] != len(ids) + sum(summary["excluded"].values()):
        raise _mismatch(files, f"{summary['n_read']} cells read, {len(ids)} kept and the excluded ones do not add up")
    if len(np.unique(ids.astype(str))) != len(ids):
        raise _mismatch(files, "cells.parquet names a cell twice")
    splits = read_arrow(files.splits, ["cell_id", "split"])
    _check_same(files, ids, files.splits.name, splits["cell_id"].to_numpy(zero_copy_only=False))
    sides = Counter(splits["split"].to_pylist())
    if set(sides) - set(SPLITS):
        raise _mismatch(files, f"unknown splits {sorted(set(sides) - set(SPLITS))}")
    with CountsFile(files.folder / "counts.h5ad") as counts:
        _check_same(files, ids, "counts.h5ad", counts.cell_ids())
        _check_sums(files, counts, cells["n_counts"].to_numpy())
        panel = Panel(counts.gene_ids, counts.symbols)
    patches = prove_patches(files) if files.has_patches else None
    return ProvenTable(panel, bundle, summary, {name: sides[name] for name in SPLITS}, patches)


def describe_tables(
    folder: Path,
    entries: Sequence[Mapping[str, str]],
    files: Sequence[SlideFiles],
    proven: Sequence[ProvenTable],
    splits: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest's content, what it was made by aside.

    Args:
        folder: the dataset folder; genes.parquet must have been written.
        entries: sheet entries (slide, donor, tissue, disease), in the sheet's order.
        files: of each slide.
        proven: of each slide.
        splits: contents of splits.json.
    """
    excluded: Counter[str] = Counter()
    for item in proven:
        excluded.update(item.summary["excluded"])
    read = sum(item.summary["n_read"] for item in proven)
    records = sum(item.summary["n_kept"] for item in proven)
    return {
        "kind": "tables",
        "values": proven[0].bundle["values"],
        "slides": [_slide(folder, *row) for row in zip(entries, files, proven, strict=True)],
        "scales": [CELL_SCALE | {"records": records, "read": read, "excluded": dict(excluded)}],
        "channels": list(CHANNELS) if all(item.patches for item in proven) else [],
        "splits": _named(folder, folder / "splits.json") | {"scheme": splits["scheme"], "counts": splits["counts"]},
        "genes": _named(folder, folder / "genes.parquet"),
    }


def _slide(folder: Path, entry: Mapping[str, str], files: SlideFiles, proven: ProvenTable) -> dict[str, Any]:
    names = {
        "bundle": files.folder / "bundle.json",
        "cells": files.folder / "cells.parquet",
        "counts": files.folder / "counts.h5ad",
        "cells_summary": files.folder / "cells.json",
        "splits": files.splits,
    }
    described = {
        **{key: entry[key] for key in ("slide", "donor", "tissue", "disease")},
        **{key: proven.bundle[key] for key in ("kind", "has_coordinates", "um_per_unit")},
        "n_genes": len(proven.panel.gene_ids),
        "cells": proven.summary["n_kept"],
        "cells_read": proven.summary["n_read"],
        "excluded": proven.summary["excluded"],
        "splits": proven.sides,
        "files": {name: _named(folder, path) for name, path in names.items()},
    }
    if proven.patches is not None:
        described["patches"] = {
            **{key: proven.patches[key] for key in ("records", "padded", "um_per_px", "side_um", "size_px")},
            "index": _named(folder, files.index("cell")),
            "summary": _named(folder, files.folder / "patches.json"),
            "shards": shards_of(folder, files.shards("cell")),
        }
    return described


def _named(folder: Path, path: Path) -> dict[str, str]:
    return {"path": relative(folder, path), "sha256": hash_file(path)}


def _check_same(files: SlideFiles, ids: NDArray[Any], name: str, found: NDArray[Any]) -> None:
    if len(found) != len(ids):
        raise _mismatch(files, f"{name} has {len(found)} cells, cells.parquet {len(ids)}")
    differs = found.astype(str) != ids.astype(str)
    if differs.any():
        row = int(np.argmax(differs))
        raise _mismatch(files, f"row {row} of {name} is cell {found[row]}, in cells.parquet it is {ids[row]}")


def _check_sums(files: SlideFiles, counts: CountsFile, expected: NDArray[np.float64]) -> None:
    """Check the values themselves by their sums, which differ when rows were swapped."""
    for start, block in counts.blocks():
        found = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        differs = ~np.isclose(found, expected[start : start + len(found)], rtol=1e-9)
        if differs.any():
            raise _mismatch(
                files, f"row {start + int(np.argmax(differs))} of counts.h5ad has another sum than n_counts"
            )


def _mismatch(files: SlideFiles, what: str) -> InputError:
    return InputError(f"slide {files.slide}", what, "run read_table and make_splits of this slide again")
