"""Which file of a bundle is what: the one table of known layouts.

The instrument's software moved files and columns between versions. A layout is recognised by what is there;
the version string ("R&D" in some bundles) only breaks a tie. A new layout is a row of `KNOWN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from mistline.core.errors import InputError, system_error
from mistline.xenium.bundle import read_experiment, version_hint
from mistline.xenium.tables import columns_of

EXPERIMENT = "experiment.xenium"
CELLS = "cells.parquet"
CELL_BOUNDARIES = "cell_boundaries.parquet"
NUCLEUS_BOUNDARIES = "nucleus_boundaries.parquet"
MATRIX = "cell_feature_matrix.h5"
GENE_PANEL = "gene_panel.json"
ZSTACK = "morphology.ome.tif"
MIP = "morphology_mip.ome.tif"
FOCUS_FOLDER = "morphology_focus"
REQUIRED = (EXPERIMENT, CELLS, CELL_BOUNDARIES, MATRIX)

_FOCUS_FILE = "morphology_focus.ome.tif"
_FOCUS_NUMBERED = "morphology_focus/morphology_focus_[0-9]*.ome.tif"
_FOCUS_NAMED = "morphology_focus/ch[0-9]*_*.ome.tif"
_SINCE_3 = "genomic_control_counts"
_SINCE_2 = "segmentation_method"


@dataclass(frozen=True)
class Form:
    """A known layout: what tells it from the others.

    Args:
        name: the first version that wrote it.
        focus: pattern of the in-focus images below the bundle.
        mip: whether a maximum projection may lie beside the z-stack.
        id_type: how `cell_id` is stored.
        with_columns: columns of cells.parquet it has.
        without_columns: columns of cells.parquet that came later.
    """

    name: str
    focus: str
    mip: bool
    id_type: str
    with_columns: tuple[str, ...] = ()
    without_columns: tuple[str, ...] = ()


KNOWN = (
    Form("1.0", _FOCUS_FILE, mip=True, id_type="integer", without_columns=(_SINCE_2, _SINCE_3)),
    Form("1.3", _FOCUS_FILE, mip=True, id_type="text", without_columns=(_SINCE_2, _SINCE_3)),
    Form("2.0", _FOCUS_NUMBERED, mip=False, id_type="text", without_columns=(_SINCE_3,)),
    Form("3.0", _FOCUS_NUMBERED, mip=False, id_type="text", with_columns=(_SINCE_3,)),
    Form("4.0", _FOCUS_NAMED, mip=False, id_type="text"),
)


@dataclass(frozen=True)
class Layout:
    """The files of one bundle. Paths are absent (None, empty) when the bundle lacks the file and may lack it."""

    name: str
    root: Path
    experiment: Path
    cells: Path
    cell_boundaries: Path
    nucleus_boundaries: Path | None
    matrix: Path
    gene_panel: Path | None
    zstack: Path | None
    mip: Path | None
    focus: tuple[Path, ...]


@dataclass(frozen=True)
class _Evidence:
    images: frozenset[str]  # ZSTACK, MIP and the patterns of in-focus images that match
    id_type: str
    columns: frozenset[str]


def is_read(name: str) -> bool:
    """Tell whether a file of a bundle, named as seen from its folder, is one that some layout reads."""
    path = PurePosixPath(name)
    patterns = (*REQUIRED, NUCLEUS_BOUNDARIES, GENE_PANEL, ZSTACK, MIP, *(form.focus for form in KNOWN))
    return any(path.match(pattern) and len(path.parts) == pattern.count("/") + 1 for pattern in patterns)


def detect(bundle: Path) -> Layout:
    """Recognise a bundle's layout by its files and columns.

    Raises:
        InputError: the folder or a file every layout has is missing, cells.parquet cannot be read, or no known
            layout fits; the sentence lists what was found, what was looked for and the nearest layout.
    """
    bundle = Path(bundle)
    _require_bundle(bundle)
    evidence = _look(bundle)
    fitting = [form for form in KNOWN if not _contradictions(form, evidence)]
    if not evidence.images or not fitting:
        raise _unknown(bundle, evidence)
    form = _nearest_version(fitting, read_experiment(bundle / EXPERIMENT).xoa)
    return Layout(
        name=form.name,
        root=bundle,
        experiment=bundle / EXPERIMENT,
        cells=bundle / CELLS,
        cell_boundaries=bundle / CELL_BOUNDARIES,
        nucleus_boundaries=_optional(bundle / NUCLEUS_BOUNDARIES),
        matrix=bundle / MATRIX,
        gene_panel=_optional(bundle / GENE_PANEL),
        zstack=_optional(bundle / ZSTACK),
        mip=_optional(bundle / MIP),
        focus=tuple(sorted(bundle.glob(form.focus))),
    )


def _require_bundle(bundle: Path) -> None:
    if bundle.is_file():
        raise InputError(bundle, "a file, not a bundle's folder", "unzip it and put the folder into bundle:")
    if not bundle.is_dir():
        raise InputError(
            bundle,
            "no such bundle",
            "download and unzip it, have it fetched from the slide sheet's url column (snakemake --config fetch=true or"
            " mistline fetch --sheet), or correct bundle: in the config",
        )
    for folder in (bundle, bundle / FOCUS_FOLDER):
        _require_listable(folder)
    missing = [name for name in REQUIRED if not (bundle / name).is_file()]
    if not missing:
        return
    nested = sorted(path.parent for path in bundle.glob(f"*/{EXPERIMENT}"))
    remedy = f"point bundle: at {nested[0]}" if nested else "copy the whole output bundle of the run, unzipped"
    if len(missing) < len(REQUIRED):
        raise InputError(bundle / missing[0], "no such file in the bundle", remedy)
    raise InputError(bundle, f"not a Xenium bundle: found {_listing(bundle)}; looked for {', '.join(REQUIRED)}", remedy)


def _require_listable(folder: Path) -> None:
    """Refuse a folder that cannot be listed: a search for images in it would find none, without a word."""
    if not folder.is_dir():
        return
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise system_error(error, folder) or error from error


def _look(bundle: Path) -> _Evidence:
    images = {name for name in (ZSTACK, MIP) if (bundle / name).is_file()}
    images |= {form.focus for form in KNOWN if next(bundle.glob(form.focus), None)}
    columns = columns_of(bundle / CELLS)
    kind = columns.get("cell_id")
    if kind is None:
        raise InputError(bundle / CELLS, "column cell_id is missing", "use the table as the instrument wrote it")
    return _Evidence(frozenset(images), "integer" if pa.types.is_integer(kind) else "text", frozenset(columns))


def _contradictions(form: Form, evidence: _Evidence) -> list[str]:
    """Say in which ways a bundle is not of this layout; empty means it fits."""
    focus = sorted(pattern for pattern in evidence.images - {ZSTACK, MIP} if pattern != form.focus)
    return [
        *(f"in-focus images {pattern}" for pattern in focus),
        *([f"there is a {MIP}"] if MIP in evidence.images and not form.mip else []),
        *([f"cell_id is stored as {evidence.id_type}"] if evidence.id_type != form.id_type else []),
        *(f"{CELLS} lacks {name}" for name in form.with_columns if name not in evidence.columns),
        *(f"{CELLS} has {name}" for name in form.without_columns if name in evidence.columns),
        *([] if evidence.images else ["there is no morphology image"]),
    ]


def _nearest_version(fitting: list[Form], xoa: str) -> Form:
    """Break a tie (a bundle without in-focus images) by the version string, else take the oldest layout."""
    hint = version_hint(xoa)
    if hint is None:
        return fitting[0]
    older = [form for form in fitting if tuple(map(int, form.name.split("."))) <= hint]
    return older[-1] if older else fitting[0]


def _unknown(bundle: Path, evidence: _Evidence) -> InputError:
    nearest = min(KNOWN, key=lambda form: len(_contradictions(form, evidence)))
    looked_for = ", ".join(dict.fromkeys([ZSTACK, MIP, *(form.focus for form in KNOWN)]))
    return InputError(
        bundle,
        f"unknown layout: found {_listing(bundle)}; looked for {looked_for}; nearest known layout is {nearest.name},"
        f" but {' and '.join(_contradictions(nearest, evidence))}",
        "restore the files of the run, or add the layout to mistline.xenium.layout.KNOWN",
    )


def _listing(bundle: Path, most: int = 20) -> str:
    names = sorted(
        path.relative_to(bundle).as_posix()
        for path in [*bundle.glob("*"), *bundle.glob("morphology_focus/*")]
        if path.is_file()
    )
    shown = ", ".join(names[:most]) or "nothing"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _optional(path: Path) -> Path | None:
    return path if path.is_file() else None
