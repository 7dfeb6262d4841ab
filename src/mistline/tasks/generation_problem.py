"""Which cells are judged, their real images and genes, and what is fitted to those of training cells."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import ranked
from mistline.tasks.base import Inputs
from mistline.tasks.controls import fit_log_counts, principal_components
from mistline.tasks.generation import Params
from mistline.tasks.generation_distances import nearest
from mistline.tasks.generation_features import FeatureNet, Features, fit_features
from mistline.tasks.generation_probe import Probe, fit_probe
from mistline.tasks.picture_features import FEATURES, morphology, resized
from mistline.tasks.stats import Unit, choose_unit

Images = NDArray[np.uint8]
FEWEST_TRAIN, FEWEST_TEST = 20, 5
COPY_QUANTILE = 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """Images [n, C, S, S] and what is measured in them.

    Args:
        images: as they are judged.
        features: [n, d] of the feature net.
        nucleus: [n, M], the columns of `picture_features.FEATURES`.
    """

    images: Images
    features: Features
    nucleus: Features


@dataclass(frozen=True, slots=True)
class Problem:
    """What a generator's images are judged against.

    Args:
        cells: the n tested cells, slide after slide, each slide in the order of its draw.
        real: their own images.
        genes: [n, G] their log-normalised counts, less the mean of the slide.
        gene_names: [G] ids.
        unit: what intervals resample.
        trained: images of the m training cells.
        train_donors: whose they are.
        neighbour: [n] the training cell whose expression is nearest.
        others: further test cells, of each slide at most as many as are tested.
        paired: [n of others] the tested cell that each stands beside, of the same slide.
        net: the feature net.
        probe: from an image to genes.
        copy_distance: to a training image; a nearer image counts as a copy.
    """

    cells: pd.DataFrame
    real: Seen
    genes: Features
    gene_names: tuple[str, ...]
    unit: Unit
    trained: Seen
    train_donors: frozenset[str]
    neighbour: NDArray[np.int64]
    others: pd.DataFrame
    paired: NDArray[np.int64]
    net: FeatureNet
    probe: Probe
    copy_distance: float

    def only(self, rows: NDArray[np.int64]) -> Problem:
        """Return the problem of some of its tested cells, with everything fitted as it is."""
        cells = self.cells.iloc[rows].reset_index(drop=True)
        real = Seen(self.real.images[rows], self.real.features[rows], self.real.nucleus[rows])
        unit = choose_unit(*(cells[name].to_numpy(dtype=str) for name in ("donor", "slide")))
        return replace(self, cells=cells, real=real, genes=self.genes[rows], unit=unit, neighbour=self.neighbour[rows])

    def see(self, images: Images) -> Seen:
        """Measure images, brought to the size of the real ones."""
        images = resized(images, self.real.images.shape[-1])
        return _see(self.net, images)


def drawn_cells(cells: pd.DataFrame, start: int, stop: int) -> pd.DataFrame:
    """Return the cells number `start` to `stop` of each slide's draw, which generators make in the same way."""
    parts = []
    for slide, part in cells.groupby("slide", sort=False):
        order = ranked(part["cell_id"].tolist(), 0, "generation", str(slide))
        parts.append(part.iloc[order[start:stop]])
    return pd.concat(parts, ignore_index=True) if parts else cells


def gather(inputs: Inputs, params: Params) -> Problem:
    """Draw the cells, read their images and genes, and fit what training cells tell.

    Raises:
        InputError: too few training or test cells, or no gene that is measured on every slide.
    """
    pools = {split: inputs.cells(split) for split in ("train", "test")}
    train = drawn_cells(pools["train"], 0, params.n_train)
    tested = drawn_cells(pools["test"], 0, params.n_cells)
    for split, found, fewest in (("training", train, FEWEST_TRAIN), ("test", tested, FEWEST_TEST)):
        if len(found) < fewest:
            what = f"{len(found)} {split} cells, and {fewest} are the least"
            raise InputError("tasks.generation", what, "look at splits.json")
    others, paired = _beside(tested, drawn_cells(pools["test"], params.n_cells, 2 * params.n_cells))
    fitted, train_rows = fit_log_counts(inputs, train)
    rows = fitted.rows(inputs, tested)
    images, real_images = (inputs.pictures(cells, params.size_px) for cells in (train, tested))
    net = fit_features(images)
    own, real = _see(net, images), _see(net, real_images)
    chosen = _most_variable(train_rows.toarray(), params.n_genes)
    probe = fit_probe(own.features, own.nucleus, train_rows[:, chosen].toarray())
    far, _ = nearest(real.features, own.features)
    components = (principal_components(train_rows, part) for part in (rows, train_rows))
    _, neighbour = nearest(*(part.astype(np.float64) for part in components))
    unit = choose_unit(*(tested[name].to_numpy(dtype=str) for name in ("donor", "slide")))
    genes = within_slides(rows[:, chosen].toarray().astype(np.float64), tested)
    names = tuple(fitted.genes[i] for i in chosen)
    threshold = float(np.quantile(far, COPY_QUANTILE))
    donors = frozenset(train["donor"].astype(str))
    return Problem(tested, real, genes, names, unit, own, donors, neighbour, others, paired, net, probe, threshold)


def drawn_images(inputs: Inputs, problem: Problem) -> tuple[Problem, dict[str, Images]]:
    """Return the problem and the generator's sets of images [n, C, S, S], a row for each of its tested cells.

    A generator that can draw only some of the tested cells says so (`subset`), and is judged on these.

    Raises:
        InputError: they are of other cells, too few, or have other channels than the real images.
    """
    pictures = inputs.generated()
    found = pd.MultiIndex.from_arrays([pictures.slide, pictures.cell_id])
    asked = pd.MultiIndex.from_frame(problem.cells[["slide", "cell_id"]].astype(str))
    if pictures.about.get("subset"):
        drawn = np.flatnonzero(asked.isin(found))
        if len(drawn) < FEWEST_TEST:
            what = f"they show {len(drawn)} of the tested cells, and {FEWEST_TEST} are the least"
            raise InputError("generated images", what, "draw more cells, or leave this generator out")
        problem, asked = problem.only(drawn), asked[drawn]
    if not found.is_unique or len(found) != len(asked) or not asked.isin(found).all():
        what = f"they show {len(found)} cells, and not the {len(asked)} that are tested"
        raise InputError("generated images", what, "run generate with the task's n_cells")
    rows = found.get_indexer(asked)
    channels = problem.real.images.shape[1]
    for name, images in pictures.images.items():
        if images.shape[1] != channels:
            what = f"{name} has {images.shape[1]} channels, the real images have {channels}"
            raise InputError("generated images", what, "train the generator on this dataset")
    return problem, {name: images[rows] for name, images in pictures.images.items()}


def within_slides(table: Features, cells: pd.DataFrame) -> Features:
    """Return [n, K] less the mean of each slide: differences between slides are no answer to a cell's condition."""
    frame = pd.DataFrame(table)
    centred: Features = (frame - frame.groupby(cells["slide"].to_numpy()).transform("mean")).to_numpy()
    return centred


def _see(net: FeatureNet, images: Images) -> Seen:
    return Seen(images, net.of(images), morphology(images)[list(FEATURES)].to_numpy())


def _beside(tested: pd.DataFrame, others: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the further cells and, of each, the tested cell of its slide that has the same number in the draw."""
    keys = [
        pd.MultiIndex.from_arrays([cells["slide"], cells.groupby("slide", sort=False).cumcount()])
        for cells in (tested, others)
    ]
    return others, keys[0].get_indexer(keys[1])


def _most_variable(rows: NDArray[np.float32], n_genes: int) -> NDArray[np.int64]:
    """Return the columns of the genes that vary most over training cells, in the order of the panel."""
    order = np.argsort(-rows.var(axis=0, dtype=np.float64), kind="stable")
    return np.sort(order[:n_genes])
