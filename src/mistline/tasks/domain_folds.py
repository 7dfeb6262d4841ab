"""Who is trained on and who is tested, in the settings of domain detection.

A random spots of a slice (parity with published figures), with fewer labels down to 1 %; B contiguous blocks with
a buffer; C groups of slices of one donor; D donors, each once or as the dataset divides them; U no labels at all.
Cells without a label stay in the slide's graph and are never trained on or tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.seeds import generator
from mistline.graphs.build import delaunay, hexagonal
from mistline.store.folds import division, encode

TRAIN_SHARE, VAL_SHARE = 0.6, 0.2
_PARTS = {"train": "train", "val": "val", "test": "test", "gap": "buffer"}
_FEWEST_LABELLED = 10  # of a slide: fewer cannot be divided in three
_AT = "at"  # column of a slide's cells: their rows in the table of all


@dataclass(frozen=True, slots=True)
class _Fold:
    """What the cells of one slide are in one fold.

    Args:
        number: of the fold.
        rows: [n] of the cells in the table of all.
        codes: [n] places in `store.parts.PARTS`: a byte, for there are as many as cells times folds.
    """

    number: int
    rows: NDArray[np.int64]
    codes: NDArray[np.int8]


def ring_graph(cells: pd.DataFrame) -> sparse.csr_matrix:
    """Join the neighbours of one slide: the six of the array where there is one, else Delaunay's.

    It says where borders and buffers are, whatever graph a model uses.

    Args:
        cells: of one slide; x_um, y_um and, of an array, array_row, array_col.
    """
    if "array_row" in cells and cells["array_row"].notna().all():
        return hexagonal(cells[["array_row", "array_col"]].to_numpy(dtype=np.int64))
    return delaunay(cells[["x_um", "y_um"]].to_numpy(dtype=np.float64))


def random_spots(cells: pd.DataFrame, label: str, train_share: float, seed: int) -> pd.DataFrame:
    """Divide each slide at random, stratified by label: one fold a slide.

    Args:
        cells: of all slides.
        label: column.
        train_share: of the labelled cells, at most `TRAIN_SHARE`; test and validation are the same for every share.
        seed: of the draw.
    """
    folds: list[_Fold] = []
    for number, (slide, own) in enumerate(_by_slide(cells, label)):
        part = _stratified(own[label], train_share, generator(seed, "folds", "random", slide))
        folds.append(_fold(own, number, part))
    return _joined(cells, folds, "slides with enough labelled cells", label)


def spatial_blocks(cells: pd.DataFrame, label: str, n_blocks: int, buffer_rings: int, seed: int) -> pd.DataFrame:
    """Cut each slide into contiguous blocks; each is tested once, with rings of neighbours left out around it.

    Validation is a random part of the training region: a block of its own would take whole layers away.
    """
    folds: list[_Fold] = []
    for slide, own in _by_slide(cells, label):
        known = own[label].notna().to_numpy()
        block = _blocks(own[["x_um", "y_um"]].to_numpy(dtype=np.float64), n_blocks, seed)
        graph = ring_graph(own)
        for number in range(n_blocks):
            tested = block == number
            if not (tested & known).any():
                continue
            part = np.where(known, "train", "unlabelled").astype(object)
            part[_within(graph, tested, buffer_rings) & ~tested & known] = "buffer"
            part[tested & known] = "test"
            _draw_validation(part, own[label], generator(seed, "folds", "blocks", slide, number))
            if (part == "train").any():
                folds.append(_fold(own, len(folds), part))
    return _joined(cells, folds, "slides with enough labelled cells", label)


def leave_out(
    cells: pd.DataFrame, label: str, groups: Sequence[tuple[list[str], list[str]]], seed: int
) -> pd.DataFrame:
    """Test groups of slides on models of other slides.

    Args:
        cells: of all slides.
        label: column.
        groups: (slides trained on, slides tested), a fold each.
        seed: of the validation draw.
    """
    slides = dict(_by_slide(cells, label))
    folds: list[_Fold] = []
    for number, (trained, tested) in enumerate(groups):
        sides = [(name, side) for side, names in (("train", trained), ("test", tested)) for name in names]
        parts = []
        for name, side in sides:
            if name not in slides:
                continue
            own = slides[name]
            part = np.where(own[label].notna(), side, "unlabelled").astype(object)
            if side == "train":
                _draw_validation(part, own[label], generator(seed, "folds", "leave_out", number, name))
            parts.append((side, _fold(own, number, part)))
        if {side for side, _ in parts} == {"train", "test"}:
            folds += [fold for _, fold in parts]
    return _joined(cells, folds, "slides to train on and others to test", label)


def dataset_split(cells: pd.DataFrame, label: str) -> pd.DataFrame:
    """Take the dataset's own split, one fold: what an embedding was not trained on is tested."""
    folds = []
    for _, own in _by_slide(cells, label):
        part = own["split"].map(_PARTS).to_numpy(dtype=object)
        folds.append(_fold(own, 0, np.where(own[label].notna(), part, "unlabelled").astype(object)))
    found = {code for fold in folds for code in np.unique(fold.codes).tolist()}
    is_both = set(encode(np.array(["train", "test"])).tolist()) <= found
    return _joined(cells, folds if is_both else [], "labelled cells to train on and others to test", label)


def unsupervised(cells: pd.DataFrame, label: str) -> pd.DataFrame:
    """Test every labelled cell, train on no label: one fold a slide."""
    folds = [
        _fold(own, number, np.where(own[label].notna(), "test", "unlabelled"))
        for number, (_, own) in enumerate(_by_slide(cells, label))
    ]
    return _joined(cells, folds, "slides with enough labelled cells", label)


def pairs_of_donor(cells: pd.DataFrame, groups: Sequence[Sequence[str]]) -> list[tuple[list[str], list[str]]]:
    """Return, for each donor, each of its groups of slides as tested and its other groups as trained on.

    Args:
        cells: slide and donor of all cells.
        groups: slides that go out together because they are neighbours in the tissue; the others go out alone.
    """
    donors = cells.drop_duplicates("slide").set_index("slide")["donor"]
    grouped = [[name for name in group if name in donors.index] for group in groups]
    alone = [[name] for name in donors.index if not any(name in group for group in grouped)]
    found = []
    for donor in donors.unique():
        own = [group for group in [*grouped, *alone] if group and donors[group[0]] == donor]
        for tested in own:
            trained = [name for group in own if group is not tested for name in group]
            if trained:
                found.append((trained, list(tested)))
    return found


def donors_out(cells: pd.DataFrame) -> list[tuple[list[str], list[str]]]:
    """Return, for each donor, the slides of all others and its own."""
    donors = cells.drop_duplicates("slide").set_index("slide")["donor"]
    if donors.nunique() < 2:
        return []
    return [(list(donors.index[donors != donor]), list(donors.index[donors == donor])) for donor in donors.unique()]


def _by_slide(cells: pd.DataFrame, label: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the slides that have labels, in the order of the cells."""
    for name, own in cells.reset_index(drop=True).groupby("slide", sort=False):
        if own[label].notna().sum() >= _FEWEST_LABELLED:
            yield str(name), own.reset_index(names=_AT)


def _stratified(labels: pd.Series, train_share: float, rng: np.random.Generator) -> NDArray[np.object_]:
    """Divide the labelled cells class by class; every class is trained on, and a smaller share is part of a larger."""
    part = np.full(len(labels), "unlabelled", dtype=object)
    for _, rows in sorted(labels.dropna().groupby(labels).groups.items()):
        own = rng.permutation(np.asarray(rows))
        n_val = n_test = int(np.floor(VAL_SHARE * len(own) + rng.uniform()))
        left = own[: len(own) - n_val - n_test]
        n_train = min(len(left), max(1, int(np.floor(train_share * len(own) + 0.5))))
        part[left[:n_train]] = "train"
        part[left[n_train:]] = "buffer" if train_share < TRAIN_SHARE else "train"
        part[own[len(left) : len(left) + n_val]] = "val"
        part[own[len(left) + n_val :]] = "test"
    return part


def _draw_validation(part: NDArray[np.object_], labels: pd.Series, rng: np.random.Generator) -> None:
    """Turn a fifth of the training cells, class by class, into validation; in place."""
    train = pd.Series(np.flatnonzero(part == "train"))
    for _, rows in sorted(train.groupby(labels.to_numpy()[train.to_numpy()]).groups.items()):
        own = rng.permutation(train.to_numpy()[np.asarray(rows)])
        part[own[: int(VAL_SHARE * len(own))]] = "val"


def _blocks(xy_um: NDArray[np.float64], n_blocks: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans  # the folds are divided once, and read by every model that is judged

    return KMeans(n_blocks, n_init=4, random_state=seed).fit_predict(xy_um).astype(np.int64)


def _within(graph: sparse.csr_matrix, start: NDArray[np.bool_], rings: int) -> NDArray[np.bool_]:
    """Return the nodes at most so many steps from the marked ones."""
    reached = start.copy()
    for _ in range(rings):
        reached |= (graph @ reached.astype(np.int32)) > 0
    return reached


def _fold(own: pd.DataFrame, number: int, part: NDArray[np.object_]) -> _Fold:
    return _Fold(number, own[_AT].to_numpy(), encode(part))


def _joined(cells: pd.DataFrame, folds: Sequence[_Fold], needed: str, label: str) -> pd.DataFrame:
    if not folds:
        raise InputError(
            label, f"this protocol needs {needed}", "label more cells, add slides or choose another protocol"
        )
    codes: dict[int, NDArray[np.int8]] = {}
    for fold in folds:
        own = codes.setdefault(fold.number, np.full(len(cells), -1, dtype=np.int8))
        own[fold.rows] = fold.codes
    return division(cells, codes)
