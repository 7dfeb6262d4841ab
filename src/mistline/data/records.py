"""Putting records of several slides together into the tensors and columns of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.data.images import resize
from mistline.data.tables import SPLITS, SlideTable
from mistline.store.codec import Record


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records of a batch lie.

    Attributes:
        slide: [B] positions in the list of tables.
        row: [B] rows of their slide's table, which are their keys.
    """

    slide: NDArray[np.int64]
    row: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """The tables of all slides.

    Attributes:
        tables: one a slide.
        label_names: of the labels that any slide has.
    """

    tables: Sequence[SlideTable]
    label_names: Sequence[str]


def gather(columns: Columns, place: Place) -> dict[str, Any]:
    """Return the fields of a batch that are columns of the tables."""
    tables, n = columns.tables, len(place.row)
    text = {name: np.empty(n, dtype=object) for name in ("slide", "donor", "record_id", "split")}
    tiles = {name: np.empty(n, dtype=object) for name in tables[0].tiles}
    labels = {name: np.empty(n, dtype=object) for name in columns.label_names}
    xy_um = np.empty((n, 2), dtype=np.float32)
    side_um = np.empty(n, dtype=np.float32)
    metacell = None if tables[0].metacell is None else np.empty(n, dtype=np.int64)
    for number in np.unique(place.slide).tolist():
        table = tables[number]
        at = np.flatnonzero(place.slide == number)
        row = place.row[at]
        text["slide"][at], text["donor"][at] = table.slide, table.donor
        text["record_id"][at] = table.ids.take(row).to_pylist()
        text["split"][at] = np.array(SPLITS, dtype=object)[table.split[row]]
        for name, values in tiles.items():
            values[at] = table.tiles[name].take(row).to_pylist()
        for name, values in labels.items():
            values[at] = table.labels[name].take(row).to_pylist() if name in table.labels else None
        xy_um[at], side_um[at] = table.xy_um[row], table.side_um[row]
        if metacell is not None and table.metacell is not None:
            metacell[at] = table.metacell[row]
    return {
        "key": [f"{slide}/{name}" for slide, name in zip(text["slide"], text["record_id"], strict=True)],
        **{name: values.tolist() for name, values in text.items()},
        "xy_um": torch.from_numpy(xy_um),
        "side_um": torch.from_numpy(side_um),
        "metacell": None if metacell is None else torch.from_numpy(metacell),
        "tiles": {name: values.tolist() for name, values in tiles.items()},
        "labels": {name: values.tolist() for name, values in labels.items()},
    }


def gather_images(records: Sequence[Record], size: int | Literal["native"] | None) -> Tensor | list[Tensor] | None:
    """Return uint8 [B, C, size, size], a list of [C, S_i, S_i] at native size, or None."""
    if size is None:
        return None
    if size == "native":
        return [torch.from_numpy(record.image.copy()) for record in records]
    n_channels = records[0].image.shape[0] if records else 0
    stacked = np.empty((len(records), n_channels, size, size), dtype=np.uint8)
    for record, out in zip(records, stacked, strict=True):
        resize(record.image, out)
    return torch.from_numpy(stacked)


def gather_genes(
    records: Sequence[Record],
    place: Place,
    places: Sequence[NDArray[np.int64]],
    n_genes: int,
    form: Literal["sparse", "dense"] | None,
) -> dict[str, Any]:
    """Return the gene fields of a batch.

    Args:
        records: [B].
        place: of these records.
        places: of each slide, [g] where its own genes lie in the vocabulary.
        n_genes: G, of the vocabulary.
        form: sparse, dense or None.
    """
    fields: dict[str, Any] = dict.fromkeys(("gene_index", "gene_count", "gene_offset", "genes", "measured"), None)
    index = [places[s][record.gene_index] for s, record in zip(place.slide.tolist(), records, strict=True)]
    if form == "sparse":
        lengths = np.array([len(record.gene_index) for record in records], dtype=np.int64)
        counts = [record.gene_count for record in records]
        fields["gene_index"] = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *index]))
        fields["gene_count"] = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int32), *counts]))
        fields["gene_offset"] = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    elif form == "dense":
        genes = np.zeros((len(records), n_genes), dtype=np.float32)
        measured = np.zeros((len(records), n_genes), dtype=bool)
        for i, (at, record) in enumerate(zip(index, records, strict=True)):
            genes[i, at] = record.gene_count
            measured[i, places[place.slide[i]]] = True
        fields["genes"], fields["measured"] = torch.from_numpy(genes), torch.from_numpy(measured)
    return fields
