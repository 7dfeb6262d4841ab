"""Maps of embeddings: a draw of all cells in two dimensions, coloured by their labels and by their slide."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.config.report import Report
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import parquet_columns, read_parquet
from mistline.core.seeds import generator
from mistline.report.pictures import Album
from mistline.report.plots import theme
from mistline.report.plots.dots import Dots, dots
from mistline.report.plots.theme import Picture
from mistline.report.sources import SlideSource
from mistline.store.absent import read_absent
from mistline.store.embeddings import read_embedding, read_origin

_MOST_CLASSES = len(theme.GROUP_COLOURS)
_MOST_LABELS = 2
_SLIDE_COLOURS = theme.GROUP_COLOURS[7:] + theme.GROUP_COLOURS[:7]  # other ones than the labels beside them have
_WAYS = {
    "pca": "first two principal components ({share:.0%} of the variance)",
    "tsne": "t-SNE of {axes} principal components (distances between groups mean little)",
    "umap": "UMAP of {axes} principal components (distances between groups mean little)",
}
_MOST_AXES = 50  # that t-SNE and UMAP are given


@dataclass(frozen=True)
class _Drawn:
    """The cells that are drawn.

    Attributes:
        points: [n, D] of the embedding.
        slide: [n] names.
        labels: [n] rows, a column a label.
    """

    points: NDArray[np.float32]
    slide: NDArray[np.object_]
    labels: pd.DataFrame


def embedding_maps(
    files: Sequence[Path], slides: Sequence[SlideSource], version: str, settings: Report, album: Album
) -> list[Picture]:
    """Draw one map a model; a method that was not run has none.

    Args:
        files: embeddings (parquet), model after model, each in the order of the slides.
        slides: of the cohort.
        version: of the dataset.
        settings: how many cells are drawn, and how.
        album: where the pictures go.

    Raises:
        ConfigError: the files are not a multiple of the slides.
        InputError: an embedding is of another dataset, or lacks a cell.
    """
    if len(files) % len(slides):
        raise ConfigError("report", f"{len(files)} embeddings for {len(slides)} slides", "give one a slide and model")
    runs = [files[start : start + len(slides)] for start in range(0, len(files), len(slides))]
    there = [run for run in runs if not any(read_absent(path) for path in run)]
    return [_embedding_map(run, slides, version, settings, album) for run in there]


def _embedding_map(
    run: Sequence[Path], slides: Sequence[SlideSource], version: str, settings: Report, album: Album
) -> Picture:
    origin = read_origin(run[0])
    for path in run:
        if read_origin(path).dataset_version != version:
            raise InputError(path, "was made from another version of the dataset", "run embed again")
    cells = _draw(run, slides, settings.embedding_cells, album.seed)
    places, share = _flat(cells.points, settings.embedding_map, album.seed)
    panels, colours = _panels(cells)
    axes = min(_MOST_AXES, cells.points.shape[1])
    way = _WAYS[settings.embedding_map].format(share=share, axes=axes)
    return theme.tissue(
        partial(dots, xy=places, drawn=panels, colours=colours, is_tissue=False),
        folder=album.folder,
        name=f"{origin.model}.seed-{origin.seed}.embedding",
        alt=f"embedding of model {origin.model} in two dimensions, coloured by {', '.join(p.title for p in panels)}",
        caption=f"{origin.model}, seed {origin.seed}: {len(places):,} cells drawn at random, {way}.",
        budget=album.budget,
    )


def _draw(run: Sequence[Path], slides: Sequence[SlideSource], most: int, seed: int) -> _Drawn:
    """Read the embeddings of cells drawn over all slides, each slide by its share."""
    sizes = np.array([slide.cells["n_kept"] for slide in slides])
    keep = sizes if sizes.sum() <= most else np.maximum(1, most * sizes // sizes.sum())
    points, names, labels = [], [], []
    for path, slide, n in zip(run, slides, keep.tolist(), strict=True):
        table = slide.folder / "cells.parquet"
        columns = [name for name in parquet_columns(table) if name.startswith("label_")]
        cells = read_parquet(table, ["cell_id", *columns])
        chosen = np.sort(generator(seed, "report", "embedding", slide.name).permutation(len(cells))[:n])
        ids, rows = read_embedding(path)
        place = pd.Index(ids).get_indexer(pd.Index(cells["cell_id"].iloc[chosen]))
        if (place < 0).any():
            what = f"{int((place < 0).sum())} cells of slide {slide.name} have no embedding"
            raise InputError(path, what, "run embed again")
        points.append(rows[place])
        names += [slide.name] * len(chosen)
        labels.append(cells[columns].iloc[chosen])
    joined = pd.concat(labels, ignore_index=True)
    return _Drawn(np.concatenate(points), np.array(names, dtype=object), joined.astype(object))


def _flat(points: NDArray[np.float32], way: str, seed: int) -> tuple[NDArray[np.float64], float]:
    """Return places in two dimensions, and the share of the variance that two components hold."""
    centred = points.astype(np.float64) - points.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    n = min(2 if way == "pca" else _MOST_AXES, centred.shape[1])
    first = axes[:, ::-1][:, :n]
    first *= np.sign(first[np.abs(first).argmax(axis=0), np.arange(n)])
    places = centred @ first
    share = float(values[::-1][:2].sum() / max(values.sum(), 1e-12))
    if way != "pca":
        places = {"tsne": _by_tsne, "umap": _by_umap}[way](places, seed)
    if places.shape[1] == 1:
        places = np.column_stack([places, np.zeros(len(places))])
    return places, share


def _by_umap(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    import umap  # compiles itself for seconds: only for those who ask for it

    neighbours = min(15, len(points) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="umap")  # that a seed means one thread
        drawn = umap.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(points)
    return np.asarray(drawn, dtype=np.float64)


def _by_tsne(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE  # only for those who ask for it
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, max(2.0, (len(points) - 1) / 3))
    with threadpool_limits(limits=1):  # sums in one order: the same picture every time
        found = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(points)
    return np.asarray(found, dtype=np.float64)


def _panels(cells: _Drawn) -> tuple[list[Dots], dict[str, str]]:
    """Return a panel a label and one for the slides, and the colours of all their groups."""
    panels, colours = [], {}
    columns = [name for name in cells.labels if 2 <= cells.labels[name].nunique() <= _MOST_CLASSES][:_MOST_LABELS]
    for column in columns:
        title = str(column).removeprefix("label_")
        group = cells.labels[column].where(cells.labels[column].notna(), None).to_numpy(dtype=object)
        names = sorted({name for name in group if name is not None})
        colours |= _coloured(names, theme.GROUP_COLOURS, len(columns) > 1, title)
        panels.append(Dots(title, np.array([_key(name, len(columns) > 1, title) for name in group], dtype=object)))
    names = sorted(set(cells.slide))
    few = names[:_MOST_CLASSES]
    colours |= _coloured(few, _SLIDE_COLOURS, True, "slide")
    panels.append(Dots("slide", np.array([_key(name, True, "slide") for name in cells.slide], dtype=object)))
    return panels, colours


def _coloured(names: Sequence[str], inks: Sequence[str], is_told: bool, title: str) -> dict[str, str]:
    return {_key(name, is_told, title) or "": ink for name, ink in zip(names, inks, strict=False)}


def _key(name: str | None, is_told: bool, title: str) -> str | None:
    """Return a group's name in the legend that all panels share."""
    return name if name is None or not is_told else f"{title} {name}"
