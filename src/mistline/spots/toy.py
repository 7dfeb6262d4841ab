"""Synthetic tables with layers: hexagonal arrays of spots, two donors with two slides each.

Layers are wavy bands of unequal thickness, two of them rare, with white matter below. Marker genes say which layer a
spot is in, others follow depth, all are noisy; donors differ in geometry and in the level of their genes. Places
alone therefore tell the layers of a slide, and nothing of another donor's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.seeds import generator

LAYERS = ("L1", "L2", "L3", "L4", "L5", "L6", "WM")
PITCH_UM = 100.0
# Shares of the depth; two layers are rare. Their order is the same in every donor, their thickness is not.
_THICKNESS = np.array([0.12, 0.05, 0.25, 0.05, 0.18, 0.2, 0.15])
_MARKERS = 12  # genes of a layer
_GRADED = 60  # genes that follow depth
_FOLD = 0.5  # log fold of a marker in its layer
_DONOR_SHIFT = 0.3  # spread of the log level of a donor's genes
_DETECTED = 0.7  # share of counts that are not lost


@dataclass(frozen=True, slots=True)
class ToySpots:
    """One slide.

    Args:
        slide: name.
        donor: name.
        counts: CSR int32 [n, G].
        genes: [G] ids.
        array_yx: [n, 2] row and column of the array.
        xy_um: [n, 2].
        layer: [n] number in `LAYERS`.
    """

    slide: str
    donor: str
    counts: sparse.csr_matrix
    genes: tuple[str, ...]
    array_yx: NDArray[np.int64]
    xy_um: NDArray[np.float64]
    layer: NDArray[np.int64]

    def table(self) -> anndata.AnnData:
        """Return it as an h5ad of counts, with the layers as obs column `layer`; one spot in 50 is unlabelled."""
        names = np.array(LAYERS, dtype=object)[self.layer]
        names[::50] = None
        obs = pd.DataFrame({"layer": pd.Categorical(names, categories=list(LAYERS))})
        obs[["array_row", "array_col"]] = self.array_yx
        obs["in_tissue"] = 1
        obs.index = pd.Index([f"{row}x{col}-1" for row, col in self.array_yx.tolist()], dtype=object)
        var = pd.DataFrame(index=pd.Index(self.genes, dtype=object))
        return anndata.AnnData(self.counts.astype(np.float32), obs=obs, var=var, obsm={"spatial": self.xy_um})


def toy_spots(side: int = 40, n_genes: int = 500, seed: int = 0) -> list[ToySpots]:
    """Return two slides of each of two donors.

    Args:
        side: rows and columns of the array.
        n_genes: 200 or more.
        seed: same seed, same spots.
    """
    rng = generator(seed, "toy", "genes")
    level = rng.normal(0.0, 1.0, n_genes)
    slope = np.zeros(n_genes)
    slope[-_GRADED:] = rng.normal(0.0, _FOLD, _GRADED)
    marker = np.zeros((len(LAYERS), n_genes))
    for number in range(len(LAYERS)):
        marker[number, number * _MARKERS : (number + 1) * _MARKERS] = _FOLD
    found = []
    for donor in range(2):
        shift = generator(seed, "toy", "donor", donor).normal(0.0, _DONOR_SHIFT, n_genes)
        for slide in range(2):
            draw = generator(seed, "toy", "slide", donor, slide)
            array, xy = _array(side)
            depth = _depth(xy, donor, draw)
            layer = np.minimum(np.searchsorted(np.cumsum(_bands(donor)), depth), len(LAYERS) - 1)
            log_rate = level + shift + marker[layer] + slope * (depth - 0.5)[:, None]
            counts = _counts(log_rate + draw.normal(0, 0.3, log_rate.shape), draw)
            genes = tuple(f"GENE{number:04d}" for number in range(n_genes))
            found.append(ToySpots(f"d{donor}s{slide}", f"d{donor}", counts, genes, array, xy, layer))
    return found


def write_tables(folder: Path, side: int = 40, n_genes: int = 500, seed: int = 0) -> list[dict[str, Any]]:
    """Write an h5ad for each slide; return their rows of the slide sheet.

    Args:
        folder: to write to; made where it is not there.
        side: as for `toy_spots`.
        n_genes: as for `toy_spots`.
        seed: as for `toy_spots`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for spots in toy_spots(side, n_genes, seed):
        spots.table().write_h5ad(folder / f"{spots.slide}.h5ad")
        about = {"slide": spots.slide, "table": f"{spots.slide}.h5ad", "um_per_unit": 1.0, "donor": spots.donor}
        rows.append({**about, "tissue": "toy", "disease": "healthy"})
    return rows


def _array(side: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    row, place = np.divmod(np.arange(side * side), side)
    array = np.column_stack([row, 2 * place + row % 2])
    return array, np.column_stack([array[:, 1] * PITCH_UM / 2, array[:, 0] * PITCH_UM * np.sqrt(3) / 2])


def _depth(xy: NDArray[np.float64], donor: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return each spot's depth, 0 .. 1: downwards in one donor, from right to left in the other, in waves."""
    scaled = xy / xy.max(axis=0)
    along, across = (scaled[:, 1], scaled[:, 0]) if donor == 0 else (1 - scaled[:, 0], scaled[:, 1])
    wave = 0.06 * np.sin(2 * np.pi * (1.5 * across + rng.uniform()))
    depth = along + wave + 0.03 * np.sin(2 * np.pi * (4 * across + rng.uniform()))
    return (depth - depth.min()) / np.ptp(depth)


def _bands(donor: int) -> NDArray[np.float64]:
    thickness = _THICKNESS * (1.0, 1.0, 0.7, 1.2, 1.3, 0.8, 1.2) if donor else _THICKNESS
    bands: NDArray[np.float64] = thickness / thickness.sum()
    return bands


def _counts(log_rate: NDArray[np.float64], rng: np.random.Generator) -> sparse.csr_matrix:
    """Draw counts: a library size of its own for each spot, and counts lost at random."""
    share = np.exp(log_rate)
    share /= share.sum(axis=1, keepdims=True)
    library = rng.lognormal(np.log(1500), 0.4, len(share))
    counts = rng.binomial(rng.poisson(share * library[:, None]), _DETECTED)
    return sparse.csr_matrix(counts.astype(np.int32))
