"""Files between the line and a published method: h5ad in, npz out."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.scrna.view import TrainView

Result = Mapping[str, NDArray[Any]]


class NotRunError(Exception):
    """A method gave no usable result; the message says why, for the tables."""


@dataclass(frozen=True, slots=True)
class Cells:
    """What a method is given of some cells.

    Args:
        cell_id: [n], unique.
        genes: ids of the G genes.
        counts: CSR [n, G].
        values: what `counts` hold: counts, normalised (by depth) or log (of that).
        xy_um: [n, 2] places, where the method reads them.
        label: [n] classes, for the cells it is trained on and for no others.
    """

    cell_id: Sequence[str]
    genes: Sequence[str]
    counts: sparse.csr_matrix
    values: str
    xy_um: NDArray[np.float64] | None = None
    label: Sequence[str] | None = None


def write_cells(path: Path, cells: Cells) -> None:
    """Write cells as h5ad: X, obs["label"], obsm["spatial"], uns["values"]."""
    obs = pd.DataFrame(index=pd.Index(list(cells.cell_id), dtype=object))
    if cells.label is not None:
        obs["label"] = pd.Categorical(list(cells.label))
        obs["label"] = obs["label"].cat.rename_categories(obs["label"].cat.categories.astype(object))
    store = anndata.AnnData(
        X=sparse.csr_matrix(cells.counts),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(list(cells.genes), dtype=object)),
        uns={"values": cells.values},
    )
    if cells.xy_um is not None:
        store.obsm["spatial"] = np.asarray(cells.xy_um, dtype=np.float64)
    store.write_h5ad(path)


def write_view(folder: Path, view: TrainView) -> None:
    """Write a slide and the single cells as spatial.h5ad, of open genes alone, and reference.h5ad, open and wanted.

    X is log-normalised, layers["counts"] is there where a side holds counts, and uns["wanted"] of the reference names
    the wanted genes. What the slide measured of these is in no file: the view does not hold it.
    """
    own = _store(view.cell_id, view.genes, view.spatial, view.counts)
    if np.isfinite(view.xy_um).all():
        own.obsm["spatial"] = np.asarray(view.xy_um, dtype=np.float64)
    own.write_h5ad(folder / "spatial.h5ad")
    counted = view.reference_counts is not None and view.wanted_counts is not None
    other = _store(
        [str(number) for number in range(len(view.reference))],
        [*view.genes, *view.wanted],
        np.concatenate([view.reference, view.wanted_reference], axis=1),
        sparse.hstack([view.reference_counts, view.wanted_counts], format="csr") if counted else None,
    )
    other.uns["wanted"] = np.array(view.wanted, dtype=object)
    other.write_h5ad(folder / "reference.h5ad")


def _store(
    cell_id: Sequence[str], genes: Sequence[str], logs: NDArray[np.float32], counts: sparse.csr_matrix | None
) -> anndata.AnnData:
    """Return cells with log-normalised values, and their counts where there are any."""
    store = anndata.AnnData(
        X=np.asarray(logs, dtype=np.float32),
        obs=pd.DataFrame(index=pd.Index(list(cell_id), dtype=object)),
        var=pd.DataFrame(index=pd.Index(list(genes), dtype=object)),
        uns={"values": "log"},
    )
    if counts is not None:
        store.layers["counts"] = sparse.csr_matrix(counts)
    return store


def read_result(path: Path) -> Result:
    """Read what a script wrote.

    Raises:
        NotRunError: there is no such file, or it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise NotRunError("it left no result") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise NotRunError(f"its result cannot be read ({type(error).__name__})") from None


def embedding_of(result: Result, cell_id: Sequence[str]) -> NDArray[np.float32]:
    """Return [n, D] in the order of `cell_id`.

    Raises:
        NotRunError: cells are missing, or a value is not finite.
    """
    rows = _of_cells(result, "embedding", cell_id)
    if not np.isfinite(rows).all():
        bad = cell_id[int((~np.isfinite(rows).all(axis=1)).argmax())]
        raise NotRunError(f"its embedding of cell {bad} is not finite")
    return rows.astype(np.float32)


def probability_of(result: Result, cell_id: Sequence[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """Return [n, L] over these classes; one that the method was not trained on has probability 0.

    Raises:
        NotRunError: cells are missing, a class is foreign, or a row is no distribution.
    """
    found = _of_cells(result, "probability", cell_id)
    place = pd.Index(list(classes)).get_indexer(pd.Index(result["classes"].astype(str)))
    if (place < 0).any():
        raise NotRunError(f"it predicts {result['classes'][int((place < 0).argmax())]}, which is no class")
    rows = np.zeros((len(cell_id), len(classes)), dtype=np.float32)
    rows[:, place] = found
    if not np.isfinite(rows).all() or (rows < 0).any() or (np.abs(rows.sum(axis=1) - 1) > 1e-3).any():
        raise NotRunError("its predictions are no distributions")
    return rows


def imputed_of(result: Result, cell_id: Sequence[str], wanted: Sequence[str]) -> NDArray[np.float32]:
    """Return [n, W] in the order of `cell_id` and `wanted`.

    Raises:
        NotRunError: cells or genes are missing, or a value is not finite.
    """
    rows = _of_cells(result, "imputed", cell_id)
    given = pd.Index(result["genes"].astype(str)) if "genes" in result else pd.Index([])
    place = given.get_indexer(pd.Index(list(wanted))) if given.is_unique else np.full(len(wanted), -1)
    if (place < 0).any() or rows.shape[1] != len(given):
        raise NotRunError(f"its result is of other genes than the {len(wanted)} that were wanted")
    rows = rows[:, place]
    if not np.isfinite(rows).all():
        bad = wanted[int((~np.isfinite(rows).all(axis=0)).argmax())]
        raise NotRunError(f"what it imputes of gene {bad} is not finite")
    return rows.astype(np.float32)


def _of_cells(result: Result, name: str, cell_id: Sequence[str]) -> NDArray[Any]:
    if "cell" not in result or name not in result:
        raise NotRunError(f"its result holds no {name}")
    given = pd.Index(result["cell"].astype(str))
    row = given.get_indexer(pd.Index(list(cell_id))) if given.is_unique else np.full(len(cell_id), -1)
    if (row < 0).any() or len(given) != len(cell_id) or result[name].ndim != 2 or len(result[name]) != len(given):
        raise NotRunError(f"its result is of other cells than the {len(cell_id)} it was given")
    return np.asarray(result[name][row])
