"""`transcripts.parquet`: one row a count of the matrix, and a few that no cell or no quality claims."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mistline.core.geometry import um_to_px
from mistline.core.seeds import generator
from mistline.xenium.toy.cells import Cells, Tissue
from mistline.xenium.toy.panel import MORPHOLOGY
from mistline.xenium.toy.tables import Tables
from mistline.xenium.toy.tissue import Block

_STRAY_SHARE = 0.03  # transcripts outside cells, and as many of low quality
_FOV_PX = 4096
_SECTION_UM = 15.0
_Q_THRESHOLD = 20.0
_CATEGORIES = {
    "Gene Expression": "predesigned_gene",
    "Negative Control Probe": "negative_control_probe",
    "Negative Control Codeword": "negative_control_codeword",
    "Genomic Control": "genomic_control_probe",
    "Blank Codeword": "unassigned_codeword",
    "Unassigned Codeword": "unassigned_codeword",
    "Deprecated Codeword": "deprecated_codeword",
}


def transcripts(tissue: Tissue, tables: Tables, block: Block, cells: Cells) -> pa.Table:
    """Return the block's transcripts. Those of cells with qv >= 20 add up to the matrix."""
    slide, panel = tissue.slide, tissue.panel
    random = generator(slide.seed, "toy", slide.name, "transcripts", *block)
    counts = cells.counts.tocoo()
    owner, feature = np.repeat(counts.row, counts.data), np.repeat(counts.col, counts.data)
    xy_um = _within(cells, owner, random)
    nuclear = np.isin(feature, panel.index(*MORPHOLOGY)) | (random.random(len(owner)) < 0.4)
    xy_um = _into_nuclei(cells, owner, nuclear, xy_um, random)
    n_stray = int(len(owner) * _STRAY_SHARE)
    stray = random.integers(0, max(len(cells.ids), 1), n_stray)
    low = random.integers(0, max(len(owner), 1), n_stray)
    # Strays lie in the gaps around cells and belong to none; doubtful ones lie in cells and are not in the matrix.
    spread = random.normal(0, 12, (n_stray, 2))
    owner = np.concatenate([owner, np.full(n_stray, -1), owner[low]])
    feature = np.concatenate([feature, random.integers(0, panel.n_genes, n_stray), feature[low]])
    xy_um = np.concatenate([xy_um, cells.draft.xy_um[stray] + spread, xy_um[low]])
    quality = np.round(random.uniform(_Q_THRESHOLD, 40, len(owner)), 2)
    quality[len(owner) - n_stray :] = np.round(random.uniform(0, _Q_THRESHOLD - 0.1, n_stray), 2)
    distance = _nucleus_distance(cells, owner, xy_um)
    x, y = np.clip(xy_um, 0, tissue.plan.extent_um - 1e-3).T
    row, col = (um_to_px(np.stack([x, y], axis=1), slide.pixel_size_um).astype(np.int64) // _FOV_PX).T
    serial = np.arange(len(owner), dtype=np.uint64) + np.uint64(cells.draft.first * 65_536)
    columns = {
        "transcript_id": np.uint64(281_474_976_710_656) + serial,
        "cell_id": _owners(tables, cells, owner),
        "overlaps_nucleus": (distance == 0).astype(np.uint8),
        "feature_name": _text(np.array(panel.symbols)[feature], slide.bytes_ids),
        "x_location": x.astype(np.float32),
        "y_location": y.astype(np.float32),
        "z_location": random.uniform(5, 5 + _SECTION_UM, len(owner)).astype(np.float32),
        "qv": quality.astype(np.float32),
    }
    if not slide.form.integer_ids:
        columns["fov_name"] = _text(_fov_names(row * 1000 + col), slide.bytes_ids)
        columns["nucleus_distance"] = distance.astype(np.float32)
    if slide.form.since_3:
        types = np.array(panel.types)[feature]
        columns["codeword_index"] = feature.astype(np.int32)
        columns["codeword_category"] = _text(np.array([_CATEGORIES[kind] for kind in types]), slide.bytes_ids)
        columns["is_gene"] = types == "Gene Expression"
    return pa.table(columns)


def _within(cells: Cells, owner: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
    """Draw points within the cells' outlines: in a triangle of the centre and two neighbouring vertices."""
    sizes = cells.outlines.sizes[owner]
    corner = (random.random(len(owner)) * sizes).astype(np.int64)
    first = cells.outlines.xy_um[owner, corner].astype(np.float64)
    second = cells.outlines.xy_um[owner, (corner + 1) % sizes].astype(np.float64)
    centre = cells.draft.xy_um[owner]
    out, along = np.sqrt(random.random((len(owner), 1))) * 0.98, random.random((len(owner), 1))
    return centre + out * ((1 - along) * first + along * second - centre)


def _into_nuclei(
    cells: Cells,
    owner: NDArray[np.int64],
    nuclear: NDArray[np.bool_],
    xy_um: NDArray[np.float64],
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Move the nuclear ones into the first nucleus of their cell, where it has one."""
    first = _first_nucleus(cells)[owner]
    chosen = np.flatnonzero(nuclear & (first >= 0))
    nuclei, which = cells.nuclei, first[chosen]
    turn, out = random.uniform(0, 2 * np.pi, len(chosen)), 0.95 * np.sqrt(random.random(len(chosen)))
    along, across = (out * f(turn) * nuclei.axes_um[which, axis] for axis, f in enumerate((np.cos, np.sin)))
    cos, sin = np.cos(nuclei.angle[which]), np.sin(nuclei.angle[which])
    moved = xy_um.copy()
    moved[chosen] = nuclei.centre_um[which] + np.stack([along * cos - across * sin, along * sin + across * cos], axis=1)
    return moved


def _nucleus_distance(cells: Cells, owner: NDArray[np.int64], xy_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return about how far points are from their cell's first nucleus, 0 within; 10 where there is none."""
    first = np.where(owner >= 0, _first_nucleus(cells)[owner], -1)
    known = np.flatnonzero(first >= 0)
    distance = np.full(len(owner), 10.0)
    depth = cells.nuclei.depth(xy_um[known], first[known])
    distance[known] = np.maximum(depth - 1, 0) * np.sqrt(cells.nuclei.axes_um[first[known]].prod(axis=1))
    return distance


def _first_nucleus(cells: Cells) -> NDArray[np.int64]:
    first = np.full(len(cells.ids), -1)
    first[cells.nuclei.cell[::-1]] = np.arange(len(cells.nuclei.cell))[::-1]
    return first


def _owners(tables: Tables, cells: Cells, owner: NDArray[np.int64]) -> pa.Array:
    if tables.slide.form.integer_ids:
        return pa.array(np.where(owner >= 0, cells.prefix[owner].astype(np.int64), -1))
    return _text(np.where(owner >= 0, cells.ids[owner], "UNASSIGNED"), tables.slide.bytes_ids)


def _fov_names(fov: NDArray[np.int64]) -> NDArray[np.str_]:
    values, inverse = np.unique(fov, return_inverse=True)
    return np.array([f"{chr(65 + value // 1000 % 26)}{value % 1000 + 1}" for value in values])[inverse]


def _text(values: NDArray[np.str_], as_bytes: bool) -> pa.Array:
    column = pa.array(values, type=pa.string())
    return column.cast(pa.binary()) if as_bytes else column
