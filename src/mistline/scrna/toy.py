"""A generated slide and single cells of the same tissue, of which every expected count is known.

Types of cells lie smoothly in space. A spot is a mixture of them, deeper or shallower, and every gene has a factor of
its own between the two techniques. A few genes also follow a gradient that no single cell tells of: whoever imputes
from single cells can know them only as far as types explain them.
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

from mistline.core.hdf5 import write_h5ad
from mistline.core.seeds import generator

N_TYPES = 8
PITCH_UM = 100.0
REFERENCE_FILE = "reference.h5ad"
_MARKED = 2 / 3  # share of genes that are markers of a type
_MARKER_LOG_FOLD = 1.5
_TYPE_SPREAD = 0.5  # of a gene's log level between types, marker or not
_LEVEL_SPREAD = 0.8  # of the log level between genes
_PLATFORM_SPREAD = 0.4  # of the log factor between the two techniques
_CELL_DEPTH, _SPOT_DEPTH = (1500.0, 0.4), (1500.0, 0.3)  # median counts of all genes, and their log spread
_CONTRAST = 2.5  # how pure places are: log odds of a type at one standard deviation of its field
_WAVES = 3  # of a type's field
_GRADIENT_LOG_FOLD = 2.5  # of a graded gene, from one side of the slide to the other


@dataclass(frozen=True, slots=True)
class ToyPair:
    """`n` spots, `m` single cells, `G` genes that both measure and `U` that the single cells alone measure.

    Args:
        genes: [G + U] ids, the measured ones first.
        n_measured: G.
        graded: ids of the measured genes that follow a gradient.
        cell_type: int [m].
        reference: CSR int32 [m, G + U] counts of the single cells.
        counts: CSR int32 [n, G] counts of the spots.
        xy_um: [n, 2].
        shares: [n, types] of the spots.
        rates: [n, G + U] expected counts of the spots: the best that anything can say.
        explained: [n, G + U] the same without the gradients: the best that single cells can say.
    """

    genes: tuple[str, ...]
    n_measured: int
    graded: tuple[str, ...]
    cell_type: NDArray[np.int64]
    reference: sparse.csr_matrix
    counts: sparse.csr_matrix
    xy_um: NDArray[np.float64]
    shares: NDArray[np.float64]
    rates: NDArray[np.float64]
    explained: NDArray[np.float64]

    @property
    def measured(self) -> tuple[str, ...]:
        """Return the ids [G] that both measure."""
        return self.genes[: self.n_measured]

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Return the ids [U] that the single cells alone measure."""
        return self.genes[self.n_measured :]

    def slide_table(self) -> anndata.AnnData:
        """Return the spots as an h5ad of counts, with the type that is most of a spot as obs column `main_type`."""
        names = [f"spot{number:05d}" for number in range(len(self.xy_um))]
        obs = _named(names, main_type=_type_names(self.shares.argmax(axis=1)))
        var = _named(self.measured)
        return anndata.AnnData(self.counts.astype(np.float32), obs=obs, var=var, obsm={"spatial": self.xy_um})

    def reference_table(self) -> anndata.AnnData:
        """Return the single cells as an h5ad of counts, with obs column `cell_type`."""
        names = [f"single{number:05d}" for number in range(len(self.cell_type))]
        obs = _named(names, cell_type=_type_names(self.cell_type))
        return anndata.AnnData(self.reference.astype(np.float32), obs=obs, var=_named(self.genes))


def make_pair(
    seed: int = 0,
    *,
    n_cells: int = 1200,
    side: int = 30,
    n_genes: int = 150,
    n_graded: int = 20,
    n_unmeasured: int = 10,
) -> ToyPair:
    """Return a slide and its reference.

    Args:
        seed: same seed and sizes, same pair.
        n_cells: single cells.
        side: rows and columns of the grid of spots.
        n_genes: genes that both measure.
        n_graded: those of them that follow a gradient.
        n_unmeasured: genes that the single cells alone measure.
    """
    n_all = n_genes + n_unmeasured
    profiles = _profiles(n_all, generator(seed, "toy_pair", "genes"))
    random = generator(seed, "toy_pair", "cells")
    cell_type = random.integers(N_TYPES, size=n_cells)
    cell_depth = random.lognormal(np.log(_CELL_DEPTH[0]), _CELL_DEPTH[1], (n_cells, 1))
    reference = _drawn(profiles[cell_type] * cell_depth, random)

    random = generator(seed, "toy_pair", "spots")
    row, column = np.divmod(np.arange(side * side), side)
    place = np.column_stack([column, row]) / max(side - 1, 1)
    shares = _shares(place, random)
    depth = random.lognormal(np.log(_SPOT_DEPTH[0]), _SPOT_DEPTH[1], (len(place), 1))
    explained = depth * (shares @ profiles) * random.lognormal(0.0, _PLATFORM_SPREAD, n_all)
    graded = np.sort(random.choice(n_genes, n_graded, replace=False))
    rates = explained.copy()
    rates[:, graded] *= _gradients(place, n_graded, random)
    genes = tuple(f"GENE{number:04d}" for number in range(n_all))
    return ToyPair(
        genes=genes,
        n_measured=n_genes,
        graded=tuple(genes[number] for number in graded),
        cell_type=cell_type,
        reference=reference,
        counts=_drawn(rates[:, :n_genes], random),
        xy_um=np.column_stack([column, row]) * PITCH_UM,
        shares=shares,
        rates=rates,
        explained=explained,
    )


def write_pair(folder: Path, seed: int = 0, **sizes: int) -> list[dict[str, Any]]:
    """Write the spots as a table and the single cells as `reference.h5ad`; return the rows of the slide sheet.

    Args:
        folder: to write to; made where it is not there.
        seed: as for `make_pair`.
        sizes: as for `make_pair`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pair = make_pair(seed, **sizes)
    write_h5ad(folder / "slide.h5ad", pair.slide_table())
    write_h5ad(folder / REFERENCE_FILE, pair.reference_table())
    about = {"slide": "pair", "table": "slide.h5ad", "um_per_unit": 1.0, "donor": "d0"}
    return [{**about, "tissue": "toy", "disease": "healthy"}]


def _profiles(n_genes: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return [types, n_genes] what share of a type's counts each gene has."""
    log_level = random.normal(0.0, _LEVEL_SPREAD, n_genes) + random.normal(0.0, _TYPE_SPREAD, (N_TYPES, n_genes))
    marked = np.flatnonzero(random.random(n_genes) < _MARKED)
    log_level[random.integers(N_TYPES, size=len(marked)), marked] += _MARKER_LOG_FOLD
    level = np.exp(log_level)
    shares: NDArray[np.float64] = level / level.sum(axis=1, keepdims=True)
    return shares


def _shares(place: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return [n, types] smooth in space: of each type a field of a few long waves, and their softmax."""
    waves = random.normal(0.0, 2.5, (_WAVES, 2, N_TYPES))
    phase = random.uniform(0.0, 2 * np.pi, (_WAVES, N_TYPES))
    fields = np.cos(np.einsum("sx,wxt->swt", place, waves) * np.pi + phase).sum(axis=1)
    fields = (fields - fields.mean(axis=0)) / np.maximum(fields.std(axis=0), 1e-9)
    odds = np.exp(_CONTRAST * fields)
    shares: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return shares


def _gradients(place: NDArray[np.float64], n_graded: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return [n, n_graded] factors, each rising in a direction of its own."""
    turn = random.uniform(0.0, 2 * np.pi, n_graded)
    along = (place - 0.5) @ np.stack([np.cos(turn), np.sin(turn)])
    factors: NDArray[np.float64] = np.exp(_GRADIENT_LOG_FOLD * along)
    return factors


def _drawn(rates: NDArray[np.float64], random: np.random.Generator) -> sparse.csr_matrix:
    return sparse.csr_matrix(random.poisson(rates).astype(np.int32))


def _type_names(types: NDArray[np.int64]) -> pd.Categorical:
    return pd.Categorical([f"type{number}" for number in types.tolist()])


def _named(names: list[str] | tuple[str, ...], **columns: pd.Categorical) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object))
