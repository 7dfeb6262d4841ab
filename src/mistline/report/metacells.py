"""What the report says of the meta-cells: numbers of metacells.json as tables, and their charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.report.pictures import Album
from mistline.report.plots import distributions, metacells, theme
from mistline.report.plots.theme import Picture
from mistline.report.tables import Cell, Row, Table, cell, columns, row

_LISTED_TYPES = 30
PARTS = {"train": "training cells", "held_out": "held-out cells"}


def sentence(quality: Mapping[str, Any]) -> str:
    """Say what was fitted on what."""
    levels = ", ".join(f"{name}: {n} groups" for name, n in sorted(quality["levels"].items()))
    dropped = quality["n_dropped"]
    kept = f"{quality['n_metacells']} meta-cells"
    if dropped:
        kept += f" ({dropped} of the {quality['asked']['n_metacells']} asked for were too small and dropped)"
    return (
        f"{kept} from {quality['n_cells_fitted']:,} training cells, {quality['n_genes']:,} genes and "
        f"{quality['n_components']} principal components; {levels}. What a meta-cell cannot hold is lost to every "
        "model that is built on them."
    )


def quality_table(quality: Mapping[str, Any]) -> Table:
    """Return one line a figure, training and held-out cells side by side."""
    pairs = {
        "cells": ("n_cells",),
        "cells without any of the genes": ("cells_without_counts",),
        "mean gene correlation (PCC)": ("gene_pcc", "mean"),
        "median gene correlation (PCC)": ("gene_pcc", "median"),
        "genes without variance, left out": ("gene_pcc", "n_constant"),
        "variance kept by the components": ("variance_kept", "pca"),
        "variance kept by the meta-cells": ("variance_kept", "quantised"),
        "of the components' variance, kept by the meta-cells": ("variance_kept", "quantised_in_pca"),
        "cells of the smallest meta-cell": ("cells_per_metacell", "min"),
        "cells of the median meta-cell": ("cells_per_metacell", "median"),
        "cells of the largest meta-cell": ("cells_per_metacell", "max"),
    }
    lines = [row(title, *(_figure(quality, part, path) for part in PARTS)) for title, path in pairs.items()]
    return Table(
        "metacells",
        "How much of expression the meta-cells keep. Held-out cells are those of validation and test.",
        columns("figure", *PARTS.values(), numeric=tuple(PARTS.values())),
        tuple(lines),
    )


def labels_table(quality: Mapping[str, Any]) -> Table:
    """Return one line a label column and type: how often the meta-cells' majority names it right."""
    lines = []
    for column in sorted({name for part in PARTS for name in (quality[part] or {}).get("labels", {})}):
        found = [_labels(quality, part, column) for part in PARTS]
        types = sorted({name for item in found if item for name in item["recall"]})
        listed = len(types) <= _LISTED_TYPES
        remark = "" if listed else f"{len(types)} types, not listed one by one"
        lines.append(row(column, "all types (purity)", *(_optional(item, "purity") for item in found), remark))
        lines += [_type_row(column, name, found) for name in types if listed]
    return Table(
        "metacell_labels",
        "Labels: share of cells whose type is the training majority of their meta-cell.",
        columns("label", "type", *PARTS.values(), "remark", numeric=tuple(PARTS.values())),
        tuple(lines),
        empty="No slide has labels to compare with.",
    )


def _type_row(column: str, name: str, found: Sequence[Mapping[str, Any] | None]) -> Row:
    rare = any(item and name in item["rare"]["types"] for item in found)
    recalls = [cell(item["recall"].get(name), 3) if item else cell(None) for item in found]
    return row(column, name, *recalls, "rare" if rare else "")


def pictures(quality: Mapping[str, Any], sizes: Sequence[NDArray[np.int64]], album: Album) -> list[Picture]:
    """Draw cells per meta-cell, gene correlations where they are recorded, and the components' variance."""
    n = max(int(quality["n_metacells"]), max(len(part) for part in sizes))
    total = sum(np.pad(part, (0, n - len(part))) for part in sizes)
    found = [
        theme.chart(
            partial(
                distributions.counts_histogram,
                quantity=distributions.Quantity("Cells a meta-cell", "cells", np.asarray(total, dtype=np.float64)),
                ylabel="meta-cells",
            ),
            folder=album.folder,
            name="metacell_sizes",
            alt="histogram of the number of cells of each meta-cell",
            caption=f"Kept cells of all slides by meta-cell (n = {n} meta-cells); the line is the median.",
        )
    ]
    curves = {
        title: histogram
        for part, title in PARTS.items()
        if (histogram := (quality[part] or {}).get("gene_pcc", {}).get("histogram"))
    }
    if curves:
        found.append(
            theme.chart(
                partial(metacells.correlations, histograms=curves),
                folder=album.folder,
                name="metacell_pcc",
                alt="histogram over genes of the correlation of expression with the meta-cell's",
                caption="Correlation of each gene with its meta-cell's value.",
            )
        )
    share = np.cumsum(np.asarray(quality["explained_variance_share"], dtype=np.float64))
    found.append(
        theme.chart(
            partial(metacells.explained, share=share),
            folder=album.folder,
            name="explained_variance",
            alt="cumulative share of variance by principal component",
            caption="Share of the training cells' variance that the first components hold.",
        )
    )
    return found


def _figure(quality: Mapping[str, Any], part: str, path: Sequence[str]) -> Cell:
    value: Any = quality[part]
    for key in path:
        value = None if value is None else value[key]
    return cell(value, 3 if path[0] != "cells_per_metacell" else 0)


def _labels(quality: Mapping[str, Any], part: str, column: str) -> Mapping[str, Any] | None:
    return (quality[part] or {}).get("labels", {}).get(column)


def _optional(found: Mapping[str, Any] | None, key: str) -> Cell:
    return cell(found[key], 3) if found else cell(None)
