"""Command init: scan bundles and write a config whose slides section is filled in."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from mistline.config.load import load_config
from mistline.config.metacells import Metacells
from mistline.config.root import Config
from mistline.core.errors import InputError, OutputError
from mistline.core.files import write_text
from mistline.xenium.bundle import Experiment, read_experiment
from mistline.xenium.counts import read_features
from mistline.xenium.layout import EXPERIMENT, Layout, detect
from mistline.xenium.tables import n_rows

_UNKNOWN = "unknown"
_NO_TISSUE = {"", "n/a", "na", "none", "multi", "custom"}
_NO_SLIDE_ID = {"", "n/a", "na", "none"}
_HEAD = """\
# Written by `mistline init`. Before you run: correct donor, tissue and disease.
# donor says whose tissue it is. Splits keep a donor on one side, so two slides of one person must share it;
# here every slide was given a donor of its own name.
"""
_CELLS_A_METACELL = 40
_DEFAULTS_HEAD = """
# Everything else has these defaults; take the # away from what you change (README.md explains each key).
"""


@dataclass(frozen=True)
class Found:
    """A bundle that was recognised."""

    slide: str
    layout: Layout
    experiment: Experiment
    n_cells: int
    n_genes: int


def run(
    bundles: Annotated[list[Path], typer.Argument(help="bundles, or folders that hold bundles")],
    out: Annotated[Path, typer.Option(help="the config to write; an existing file is never overwritten")] = Path(
        "config.yaml"
    ),
) -> None:
    """Scan bundles and write the slides section of a config."""
    if out.exists():
        raise OutputError(out, "already exists", "choose another name with --out, or remove it first")
    found = _scan(bundles)
    text = render(found)
    load_config(yaml.safe_load(text), root=Path.cwd())
    write_text(out, text)
    typer.echo(
        f"{out}: {len(found)} slides, {sum(item.n_cells for item in found):,} cells; now correct the donors in it."
    )


def render(found: list[Found]) -> str:
    """Return the config as text."""
    entries = "".join(_entry(item) for item in found)
    few = _few_cells(found)
    others = _defaults(without={"slides", "metacells"} if few else {"slides"})
    return f"{_HEAD}{_shared_slides(found)}slides:\n{entries}{few}{_DEFAULTS_HEAD}{others}"


def slide_name(bundle: Path, taken: set[str]) -> str:
    """Return a name for a bundle's slide: its folder's, in the characters a slide's name may have, not yet taken."""
    folder = bundle.resolve()
    if folder.name in {"outs", "output", "bundle"} and folder.parent.name:
        folder = folder.parent
    plain = unicodedata.normalize("NFKD", folder.name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).lstrip("_.-").rstrip("_") or "slide"
    number = 1
    unique = name
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique


def _scan(folders: list[Path]) -> list[Found]:
    found: list[Found] = []
    for bundle in dict.fromkeys(bundle for folder in folders for bundle in _bundles_below(folder)):
        layout = detect(bundle)
        features = read_features(layout.matrix)
        n_rows(layout.cell_boundaries)
        found.append(
            Found(
                slide=slide_name(bundle, {item.slide for item in found}),
                layout=layout,
                experiment=read_experiment(layout.experiment),
                n_cells=n_rows(layout.cells),
                n_genes=len(features.gene_ids),
            )
        )
    return found


def _bundles_below(folder: Path) -> list[Path]:
    """Return the folder itself when it is a bundle, else the bundles one or two levels below it."""
    if (folder / EXPERIMENT).is_file() or not folder.is_dir():
        return [folder]
    below = sorted({path.parent for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/{EXPERIMENT}")})
    if not below:
        raise InputError(folder, f"no bundle here or below (no {EXPERIMENT})", "name the unzipped output bundles")
    return below


def _entry(item: Found) -> str:
    tissue = item.experiment.tissue.lower()
    values = {
        "slide": item.slide,
        "bundle": str(item.layout.root),
        "donor": item.slide,
        "tissue": _UNKNOWN if tissue in _NO_TISSUE else tissue,
        "disease": _UNKNOWN,
        "cells": item.n_cells,
        "genes": item.n_genes,
        "xoa": item.experiment.xoa or None,
    }
    present = {key: value for key, value in values.items() if value is not None}
    text = yaml.safe_dump([present], sort_keys=False, allow_unicode=True, width=10_000)
    shown = [f"layout {item.layout.name}", item.experiment.panel_name, item.experiment.region]
    comment = ", ".join(" ".join(part.split()) for part in shown if part)
    return f"  # {comment}\n" + "".join(f"  {line}\n" for line in text.splitlines())


def _shared_slides(found: list[Found]) -> str:
    """Point out bundles that may be of one tissue block: same glass slide, same panel."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in found:
        if item.experiment.slide_id.lower() not in _NO_SLIDE_ID:
            groups[(item.experiment.slide_id, item.experiment.panel_name)].append(item.slide)
    return "".join(
        f"# {' and '.join(names)} are of one glass slide ({' '.join(glass.split())}) and panel: if that is one tissue"
        " block, give them one donor.\n"
        for (glass, _), names in groups.items()
        if len(names) > 1
    )


def _few_cells(found: list[Found]) -> str:
    """Scale the meta-cells down where there are too few cells for the default vocabulary."""
    n_cells = sum(item.n_cells for item in found)
    default = Metacells()
    n_metacells = min(max(4, n_cells // _CELLS_A_METACELL), default.n_metacells)
    if n_metacells == default.n_metacells:
        return ""
    levels = default.levels if n_metacells > 2 * max(default.levels) else (max(2, n_metacells // 2), 2)
    genes = min(item.n_genes for item in found)
    chosen = {
        "n_metacells": n_metacells,
        "n_components": max(2, min(default.n_components, n_cells // 10, genes // 2)),
        "levels": list(levels),
        "min_cells": 5,
    }
    text = yaml.safe_dump({"metacells": chosen}, sort_keys=False, default_flow_style=None)
    return f"\n# Fewer meta-cells than the default {default.n_metacells}, as there are {n_cells:,} cells.\n{text}"


def _defaults(without: set[str]) -> str:
    dummy = {"slide": "a", "bundle": "a", "donor": "a", "tissue": "a", "disease": "a"}
    values = Config.model_validate({"slides": [dummy]}).model_dump(mode="json", exclude=without)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return "".join(f"# {line}\n" for line in text.splitlines())
