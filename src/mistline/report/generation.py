"""Generated images as the page shows them: sheets of what was drawn, edits of genes, and speed against quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json
from mistline.report.generation_sheets import edit_sheet, one_edit, picture_sheet, read_real, shown_cells
from mistline.report.generation_speed import SweepView, view_sweep
from mistline.report.pictures import Album
from mistline.report.plots import responses, theme
from mistline.report.plots.contact import contact
from mistline.report.plots.theme import Picture
from mistline.report.sources import SlideSource
from mistline.report.tables import Column, Row, Table, cell
from mistline.store.pictures import Pictures, read_pictures

_BUDGET_BYTES = 2.5 * 10**6  # of all sheets of images
_LARGEST_PICTURE = 500_000
PROTOCOLS = {
    "recon": "the cell's own image and genes, and its surroundings: how much survives the way through the code",
    "gene2img": "the cell's genes and the genes around it, and no image",
    "context2img": "the genes around the cell, and neither its image nor its genes",
}
_WAYS = {"edited": "from noise", "inverted": "by inversion", "dealt": "control: others' levels"}


@dataclass(frozen=True)
class GenerationFiles:
    """The files of the section.

    Attributes:
        pictures: of the stage generate.
        edits: of the stage edit.
        sweeps: of the stage sweep.
    """

    pictures: Sequence[Path] = ()
    edits: Sequence[Path] = ()
    sweeps: Sequence[Path] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything to show."""
        return bool(self.pictures or self.edits or self.sweeps)


@dataclass(frozen=True)
class DrawnView:
    """What one generator drew by one protocol."""

    title: str
    sentence: str
    sheet: Picture


@dataclass(frozen=True)
class EditView:
    """One edit of one generator: images, and what their nuclei do."""

    title: str
    sentence: str
    sheet: Picture
    chart: Picture


@dataclass(frozen=True)
class GenerationView:
    """Everything of the section; `files` are the tables that become CSV."""

    drawn: tuple[DrawnView, ...]
    edits: tuple[EditView, ...]
    sweeps: tuple[SweepView, ...]
    files: tuple[Table, ...]


def view_generation(
    files: GenerationFiles, slides: Sequence[SlideSource], version: str, album: Album
) -> GenerationView | None:
    """Draw and tabulate what generators made; None where there is nothing.

    Args:
        files: what there is.
        slides: of the cohort, for real images.
        version: of the dataset.
        album: where pictures go; their size is decided here.

    Raises:
        InputError: a file is damaged, or was made from another version of the dataset.
    """
    if not files:
        return None
    drawn = [_of_version(path, read_pictures(path), version) for path in files.pictures]
    edited = [_of_version(path, read_pictures(path), version) for path in files.edits]
    tables = [_sweep(path, version) for path in files.sweeps]
    n_sheets = len(drawn) + sum(1 + max(row["edit"] for row in item.about["rows"]) for item in edited)
    small = Album(album.folder, int(min(_LARGEST_PICTURE, _BUDGET_BYTES / max(n_sheets, 1))), album.seed)
    edits = [view for item in edited for view in _edits(item, small)]
    sweeps = [view_sweep(item, small) for item in tables]
    return GenerationView(
        tuple(_drawn(item, slides, small) for item in drawn),
        tuple(edits),
        tuple(sweeps),
        (*(_edits_table(item) for item in edited), *(item.table for item in sweeps)),
    )


def _of_version(path: Path, found: Pictures, version: str) -> Pictures:
    _check(path, found.origin.dataset_version, version)
    return found


def _sweep(path: Path, version: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(path)
    missing = [key for key in ("model", "seed", "dataset_version", "protocol", "rows") if key not in found]
    if missing:
        raise InputError(path, f"lacks {missing[0]}", "run sweep again")
    _check(path, str(found["dataset_version"]), version)
    return found


def _check(path: Path, own: str, version: str) -> None:
    if own != version:
        what = f"was made from dataset {own[:12]}, not from {version[:12]}"
        raise InputError(path, what, "make it again: results of two versions are never put on one page")


def _drawn(item: Pictures, slides: Sequence[SlideSource], album: Album) -> DrawnView:
    origin, protocol, about = item.origin, str(item.about["protocol"]), item.about
    rows = shown_cells(item, album.seed)
    real = read_real(item, rows, {slide.name: slide for slide in slides if slide.image})
    sheet = picture_sheet(item, rows, real)
    sampling = about["sampling"]
    picture = theme.tissue(
        partial(contact, drawn=sheet),
        folder=album.folder,
        name=f"generation.{origin.model}.{protocol}",
        alt=f"{len(rows)} cells in rows of real, decoded, generated and dealt images, {origin.model}, {protocol}",
        caption=f"{len(rows)} of {len(item.cell_id):,} drawn test cells (seed {album.seed}), one a column; "
        f"{about['image_size']} px, black to white is 0 to {sheet.white:g} of 255. Autoencoder: the real image through "
        "the code alone, the best that a generator on this code can reach. Dealt: the noise of the cell above, the "
        "condition of another cell; where it looks as much like the real cell, the condition is not used.",
        budget=album.budget,
    )
    seconds = about.get("seconds_per_image")
    took = f"; {seconds:.3g} s an image" if seconds is not None else ""
    told = PROTOCOLS.get(protocol, protocol)
    sentence = f"The generator is given {told}. {sampling['steps']} steps, guidance {sampling['guidance']:g}{took}."
    return DrawnView(f"{origin.model}: {protocol}", sentence, picture)


def _edits(item: Pictures, album: Album) -> list[EditView]:
    numbers = dict.fromkeys(row["edit"] for row in item.about["rows"])
    return [_edit(item, int(number), album) for number in numbers]


def _edit(item: Pictures, number: int, album: Album) -> EditView:
    origin, edit = item.origin, one_edit(item, number)
    genes = " and ".join(edit.genes)
    name = f"edits.{origin.model}.{number}"
    sheet = edit_sheet(edit, album.seed)
    n_shown, n_cells = len(sheet.lines), len(edit.cells)
    picture = theme.tissue(
        partial(contact, drawn=sheet),
        folder=album.folder,
        name=name,
        alt=f"{n_shown} cells drawn with other counts of {genes}, from noise and by inversion, with differences",
        caption=f"{n_shown} of {n_cells} cells; black to white is 0 to {sheet.white:g} of 255. From noise: every level "
        "from the cell's same noise. By inversion: from the noise that the cell's own image was taken back to, which "
        "keeps its shape as far as the genes allow. Below: what changed beside the image drawn by the cell's own genes "
        f"(own), blue darker, orange brighter, up to {sheet.limit:g} grey levels. A factor leaves a count of 0 at 0.",
        budget=album.budget,
    )
    what = ", ".join(f"{name} ({text})" for name, text in edit.what.items())
    label = f"level of {', '.join(edit.genes)}"
    chart = theme.chart(
        partial(responses.responses, drawn=edit.responses(_WAYS), levels=edit.levels, label=label),
        folder=album.folder,
        name=f"{name}.nucleus",
        alt=f"area, brightness and eccentricity of the drawn nuclei by level of {genes}",
        caption=f"Nuclei measured in the drawn images, mean of {n_cells} cells; thin: single cells. Control: from the "
        f"same noise, told what another row of this edit is told, of another cell or level. Measured: {what}.",
    )
    sentence = f"{_counted(n_cells, 'cell')} of {', '.join(edit.slides)}, told other counts of {genes}; protocol "
    return EditView(f"{origin.model}: {genes}", f"{sentence}{item.about['protocol']}.", picture, chart)


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _edits_table(item: Pictures) -> Table:
    """Return a line an image: what was told, and what is measured; for the CSV."""
    rows = item.about["rows"]
    features = list(next(iter(rows[0]["features"].values())))
    heads = [Column("edit", True), *map(Column, ("genes", "level", "slide", "cell", "counts", "told", "image"))]
    heads += [Column(name, True) for name in features]
    lines = []
    for line in rows:
        own, told = (", ".join(str(pair[place]) for pair in line["counts"]) for place in (0, 1))
        fixed = (int(line["edit"]), ", ".join(line["genes"]), line["level"], line["slide"], line["cell_id"], own, told)
        for kind, measured in line["features"].items():
            values = (*fixed, kind, *(float(measured[name]) for name in features))
            lines.append(Row(tuple(map(cell, values))))
    return Table(f"edits.{item.origin.model}", "Nuclei of edited cells.", tuple(heads), tuple(lines))
