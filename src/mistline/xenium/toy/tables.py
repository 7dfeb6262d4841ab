"""The bundle's parquet tables: columns and types of each layout, made of one block of cells at a time."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mistline.xenium.toy.cells import Cells, Tissue
from mistline.xenium.toy.settings import STAINS, ToySlide
from mistline.xenium.toy.shape import Outlines

_ROWS_PER_GROUP = 100_000
_COUNT_COLUMNS = {
    "control_probe_counts": ("Negative Control Probe",),
    "genomic_control_counts": ("Genomic Control",),
    "control_codeword_counts": ("Negative Control Codeword",),
    "unassigned_codeword_counts": ("Unassigned Codeword", "Blank Codeword"),
    "deprecated_codeword_counts": ("Deprecated Codeword",),
}
_FIRST_COUNT_COLUMNS = ("control_probe_counts", "control_codeword_counts")  # all that 1.0 has
_SEGMENTATION = (
    f"Segmented by boundary stain ({STAINS[1].replace('/', '+')})",
    f"Segmented by interior stain ({STAINS[2]})",
    "Segmented by nucleus expansion of 5.0µm",
)


class TableFile:
    """A parquet file that grows; its schema is that of the first part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0

    def __enter__(self) -> TableFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def append(self, table: pa.Table) -> None:
        """Add rows; row groups are written as they fill."""
        self._waiting.append(table)
        self._n_waiting += len(table)
        if self._n_waiting >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
        self._waiting, self._n_waiting = [], 0


class Tables:
    """Makes each table's part for a block of cells."""

    def __init__(self, tissue: Tissue) -> None:
        self.slide, self.panel = tissue.slide, tissue.panel
        self._types = np.array(tissue.panel.types)

    def cells(self, cells: Cells) -> pa.Table:
        """Return the block's rows of `cells.parquet`."""
        centroid = cells.outlines.centroid_um()
        per_column = {name: self._sum(cells, *kinds) for name, kinds in _COUNT_COLUMNS.items() if self._has(name)}
        columns = {
            "cell_id": self.id_column(cells),
            "x_centroid": centroid[:, 0],
            "y_centroid": centroid[:, 1],
            "transcript_counts": self._sum(cells, "Gene Expression"),
            **per_column,
            "total_counts": np.asarray(cells.counts.sum(axis=1)).ravel().astype(np.int64),
            "cell_area": cells.outlines.area_um2(),
            "nucleus_area": pa.array(nucleus_area_um2(cells, self.slide), from_pandas=True),
        }
        if self.slide.form.since_3:
            columns["nucleus_count"] = cells.nucleus_count
            way = np.where(cells.nucleus_count == 0, 1, np.where(cells.depth < 0.3, 2, 0))
            columns["segmentation_method"] = self._text(np.array(_SEGMENTATION)[way])
        return pa.table(columns)

    def outlines(self, cells: Cells, outlines: Outlines, owner: NDArray[np.int64], first_label: int) -> pa.Table:
        """Return rows of `cell_boundaries.parquet` or `nucleus_boundaries.parquet`.

        Args:
            cells: of the block.
            outlines: one each polygon.
            owner: [polygons] row of its cell within the block.
            first_label: raster label of the first polygon.
        """
        vertices, sizes = outlines.closed()
        which = np.repeat(np.arange(len(sizes)), sizes)
        columns = {
            "cell_id": self.id_column(cells).take(pa.array(owner[which])),
            "vertex_x": vertices[:, 0],
            "vertex_y": vertices[:, 1],
        }
        if self.slide.form.since_2:
            columns["label_id"] = (first_label + which).astype(np.int32)
        return pa.table(columns)

    def id_column(self, cells: Cells) -> pa.Array:
        """Return the cells' ids as the layout stores them."""
        if self.slide.form.integer_ids:
            return pa.array(cells.prefix.astype(np.int32))
        return self._text(cells.ids)

    def _has(self, column: str) -> bool:
        if column in _FIRST_COUNT_COLUMNS:
            return True
        if column in ("genomic_control_counts", "deprecated_codeword_counts"):
            return self.slide.form.since_3
        return not self.slide.form.integer_ids

    def _sum(self, cells: Cells, *kinds: str) -> NDArray[np.int64]:
        chosen = np.flatnonzero(np.isin(self._types, kinds))
        return np.asarray(cells.counts[:, chosen].sum(axis=1)).ravel().astype(np.int64)

    def _text(self, values: NDArray[np.str_]) -> pa.Array:
        column = pa.array(values, type=pa.string())
        return column.cast(pa.binary()) if self.slide.bytes_ids else column


def nucleus_area_um2(cells: Cells, slide: ToySlide) -> NDArray[np.float64]:
    """Return the area of each cell's nuclei together; NaN where it has none."""
    area = cells.nuclei.outlines(fixed=not slide.form.since_2).area_um2()
    total = np.bincount(cells.nuclei.cell, weights=area, minlength=len(cells.ids))
    return np.where(cells.nucleus_count > 0, total, np.nan)


def shuffle(table: pa.Table, groups: NDArray[np.int64], random: np.random.Generator) -> pa.Table:
    """Reorder a table, keeping rows of one group together and in order.

    Args:
        table: to reorder.
        groups: [rows] rising group numbers; each row its own group moves alone.
        random: draws the order.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    sizes = np.diff(np.append(starts, len(groups)))
    order = random.permutation(len(starts))
    rows = np.concatenate([np.arange(starts[item], starts[item] + sizes[item]) for item in order])
    return table.take(pa.array(rows))
