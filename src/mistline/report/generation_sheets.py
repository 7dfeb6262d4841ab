"""What the contact sheets of generated images hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.files import read_parquet
from mistline.core.seeds import generator
from mistline.report.plots.contact import Line, Sheet
from mistline.report.plots.responses import Response
from mistline.report.sources import SlideSource
from mistline.store.pictures import Pictures
from mistline.store.reader import ShardReader

_CELLS, _EDITED_CELLS = 8, 4
_SETS = {"autoencoder": "autoencoder", "generated": "generated", "dealt": "dealt"}
_UNITS = {"area": "share of the image", "brightness": "0 to 1", "eccentricity": "0 round, 1 long"}
_LEAST_WHITE, _LEAST_LIMIT = 32, 8  # grey levels: noise is not to be blown up

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Edited:
    """One edit of a file.

    Attributes:
        genes: symbols.
        levels: names, in the order asked for.
        slides: of the cells.
        cells: (slide, id, side in micrometres) of each.
        images: kind -> [cells, levels, C, S, S].
        features: kind -> measure -> [cells, levels].
        what: measure -> what it is.
        own: which level is the cells' own counts; None for none.
    """

    genes: tuple[str, ...]
    levels: tuple[str, ...]
    slides: tuple[str, ...]
    cells: tuple[tuple[str, str, float], ...]
    images: Mapping[str, NDArray[np.uint8]]
    features: Mapping[str, Mapping[str, NDArray[np.float64]]]
    what: Mapping[str, str]
    own: int | None

    def responses(self, ways: Mapping[str, str]) -> list[Response]:
        """Return what each measure does over the levels, by ways of drawing: kind -> its name on the page."""
        return [
            Response(
                name,
                _UNITS.get(name, ""),
                {title: self.features[kind][name] for kind, title in ways.items()},
                frozenset([ways["dealt"]]),
            )
            for name in next(iter(self.features.values()))
        ]


def shown_cells(item: Pictures, seed: int) -> NDArray[np.int64]:
    """Return the rows of at most eight cells: the same cells for every generator and protocol of a run."""
    keys = np.char.add(np.char.add(item.slide, "/"), item.cell_id)
    order = np.argsort(keys, kind="stable")
    drawn = generator(seed, "report", "generation").permutation(len(order))[:_CELLS]
    return order[np.sort(drawn)]


def read_real(
    item: Pictures, rows: NDArray[np.int64], slides: Mapping[str, SlideSource]
) -> list[tuple[Image | None, float | None]]:
    """Return the stored image of some cells at the generator's size, and its side in micrometres; None for none.

    Raises:
        InputError: a slide does not have a cell that was drawn.
    """
    side = next(iter(item.images.values())).shape[-1]
    found: list[tuple[Image | None, float | None]] = []
    for row in rows.tolist():
        slide = slides.get(str(item.slide[row]))
        if slide is None:
            found.append((None, None))
            continue
        index = read_parquet(slide.index("cell"), ["cell_id", "key", "side_px"]).set_index("cell_id")
        cell_id = str(item.cell_id[row])
        if cell_id not in index.index:
            raise InputError(f"slide {slide.name}", f"cell {cell_id} was drawn and is not stored", "run generate again")
        line = index.loc[cell_id]
        stored = ShardReader(slide.shards("cell"))[int(line["key"])].image
        way = cv2.INTER_AREA if stored.shape[-1] > side else cv2.INTER_LINEAR
        resized = np.stack([cv2.resize(plane, (side, side), interpolation=way) for plane in stored])
        found.append((resized.astype(np.uint8), float(line["side_px"]) * slide.pixel_size_um))
    return found


def picture_sheet(item: Pictures, rows: NDArray[np.int64], real: Sequence[tuple[Image | None, float | None]]) -> Sheet:
    """Return a sheet with a column a cell: real, decoded, generated, and with another cell's condition."""
    lines = []
    if any(image is not None for image, _ in real):
        lines.append(Line("real", "as stored", [None if image is None else pixels(image) for image, _ in real]))
    notes = {"autoencoder": "the code alone", "generated": "own condition", "dealt": "another's"}
    for name, label in _SETS.items():
        if name in item.images:
            lines.append(Line(label, notes[name], [pixels(item.images[name][row]) for row in rows]))
    sides = ["" if side is None else f"\n{side:.1f} µm" for _, side in real]
    titles = [f"{item.cell_id[row]}{side}" for row, side in zip(rows.tolist(), sides, strict=True)]
    return Sheet([("", len(rows))], titles, lines, _white(image for line in lines for image in line.images))


def one_edit(item: Pictures, number: int) -> Edited:
    """Return one edit, its rows put in order."""
    rows = [(place, row) for place, row in enumerate(item.about["rows"]) if row["edit"] == number]
    levels = tuple(dict.fromkeys(row["level"] for _, row in rows))
    cells = tuple(dict.fromkeys((row["slide"], row["cell_id"], float(row["side_um"])) for _, row in rows))
    at = {(row["cell_id"], row["level"]): place for place, row in rows}
    order = np.array([[at[cell[1], level] for level in levels] for cell in cells])
    told = dict(rows)
    features = {
        kind: {
            name: np.array([[told[place]["features"][kind][name] for place in line] for line in order.tolist()])
            for name in measured
        }
        for kind, measured in rows[0][1]["features"].items()
    }
    own = next(
        (
            level
            for level in range(len(levels))
            if all(own == new for place in order[:, level] for own, new in told[int(place)]["counts"])
        ),
        None,
    )
    return Edited(
        tuple(rows[0][1]["genes"]),
        levels,
        tuple(dict.fromkeys(cell[0] for cell in cells)),
        cells,
        {kind: images[order] for kind, images in item.images.items()},
        features,
        item.about.get("features", {}),
        own,
    )


def edit_sheet(edit: Edited, seed: int) -> Sheet:
    """Return a sheet with a row a cell: its image, each level from noise and by inversion, and below what changed."""
    drawn = np.sort(generator(seed, "report", "edits").permutation(len(edit.cells))[:_EDITED_CELLS])
    columns = list(range(len(edit.levels)))
    has_own = edit.own is not None
    titles = [f"{name} (own)" if place == edit.own else name for place, name in enumerate(edit.levels)]
    titles = titles if has_own else ["own", *titles]
    changes = {
        (kind, int(row)): _changes(edit.images[kind][row], edit.images[base][row])
        for row in drawn
        for kind, base in (("edited", "own"), ("inverted", "returned"))
    }
    every = np.abs(np.concatenate([part.ravel() for part in changes.values()]))
    limit = float(max(np.ceil(np.quantile(every, 0.995)), _LEAST_LIMIT))
    lines = []
    for row in drawn.tolist():
        images, below = [pixels(edit.images["original"][row, 0])], [None]
        for kind, base in (("edited", "own"), ("inverted", "returned")):
            if not has_own:
                images.append(pixels(edit.images[base][row, 0]))
                below.append(None)
            images += [pixels(edit.images[kind][row, level]) for level in columns]
            below += [None if level == edit.own else changes[kind, row][level] for level in columns]
        slide, cell_id, side_um = edit.cells[row]
        lines.append(Line(cell_id, f"{slide}, {side_um:.1f} µm", images, below))
    groups = [("", 1), ("from noise", len(titles)), ("by inversion", len(titles))]
    white = _white(image for line in lines for image in line.images)
    return Sheet(groups, ["original", *titles, *titles], lines, white, limit)


def pixels(image: Image) -> Image:
    """Return [S, S] of an image [C, S, S]: its first channel; [S, S, 3] of one in colour."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]


def _changes(images: Image, base: Image) -> NDArray[np.float64]:
    """Return [levels, S, S] grey levels, the mean over colours, or of the first channel."""
    gap = images.astype(np.float64) - base
    return gap.mean(axis=1) if gap.shape[1] == 3 else gap[:, 0]


def _white(images: object) -> float:
    shown = [image for image in images if image is not None]  # type: ignore[attr-defined]
    if any(image.ndim == 3 for image in shown):
        return 255.0
    return float(max(np.ceil(np.quantile(np.concatenate([image.ravel() for image in shown]), 0.999)), _LEAST_WHITE))
