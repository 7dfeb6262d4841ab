"""The dataset card: what a reader should know before using the dataset, in Markdown."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mistline.mist.splits import SPLITS

HOW_DIVIDED = {
    "donor": "Whole donors: no donor has cells on two sides.",
    "spatial": "Contiguous blocks of each slide, with a gap of at least one largest tile between the sides. Donors "
    "are on several sides: results say how well a model generalises in place, not to a new person.",
    "random": "Cells drawn at random, as there are few donors and no coordinates to divide by: neighbours, donors and "
    "near copies of a cell are on several sides, so results say little about anything new.",
}

_HOW_TO_OPEN = """```python
from mistline.data import open_dataset

cells = open_dataset("results/dataset", scale="cell", split="train", image_size=224, genes="dense")
sample = cells[0]  # .image uint8 [C, 224, 224], .genes float32 [G], .measured bool [G], .xy_um, .key
for batch in cells.loader(batch_size=256, shuffle=True, seed=0, epoch=0, num_workers=2):
    ...
```"""

_LIMITS = """- A gene that a slide's panel lacks was not measured there; it is not a zero: `measured` says which were.
- Cells are what the instrument's segmentation calls so; a transcript outside of every cell is not in the dataset.
- Tiles hold the transcripts of the cells whose centre lies in them, not all transcripts of their area.
- Images are 8-bit: intensities are clipped to a window per slide and channel (image.json) and not comparable in
  absolute terms between slides.
- Meta-cells were fitted on training cells only; what they keep of expression on held-out cells is below."""

_HOW_TO_OPEN_TABLES = """```python
import anndata
import pandas as pd

counts = anndata.read_h5ad("results/slides/SLIDE/counts.h5ad")  # uns["values"]: counts, normalised or log
cells = pd.read_parquet("results/slides/SLIDE/cells.parquet")  # x_um, y_um and label_<column>, in the same order
splits = pd.read_parquet("results/dataset/splits/SLIDE.parquet")
```"""

_HOW_TO_OPEN_PATCHES = """The patches, in the same order:

```python
from pathlib import Path
from mistline.store.reader import ShardReader

patches = ShardReader(Path("results/slides/SLIDE/shards/cell"))  # patches[row].image: uint8 [3, S, S]
index = pd.read_parquet("results/slides/SLIDE/shards/cell.parquet")  # where they lie, and their mean colours
```"""

_TABLE_LIMITS = """- A gene that a slide's table lacks was not measured there; it is not a zero.
- What a row is (a cell, a spot of some cells) and how it was segmented is the table's maker's choice.
- Values are as given: nothing was normalised here, and nothing undone."""

_LICENCE = """The dataset inherits the licence of the bundles it was made from. 10x Genomics publishes most of its
public Xenium data under CC BY 4.0 (attribution required): check your source, slide by slide, before you share this."""


def write_card(
    content: Mapping[str, Any],
    version: str,
    splits: Mapping[str, Any],
    quality: Mapping[str, Any],
    histology: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return the card.

    Args:
        content: of the manifest.
        version: of the dataset.
        splits: contents of splits.json.
        quality: contents of metacells.json.
        histology: slide -> contents of he/image.json, of slides that have an H&E.
    """
    slides = content["slides"]
    names = [scale["name"] for scale in content["scales"]]
    cells = next(scale for scale in content["scales"] if scale["unit"] == "cell")
    parts = [
        "# Dataset card",
        f"Version `{version}`. {len(slides)} slides, {len({slide['donor'] for slide in slides})} donors, "
        f"{cells['records']:,} cells; channels: {', '.join(content['channels'])}.",
        "Made by mistline from raw Xenium bundles: the same cells at every scale, as an image and a gene vector, under "
        "one key `slide/cell_id`.",
        "## Open it",
        _HOW_TO_OPEN,
        "## Records",
        _table(("scale", "unit", "side (px)", "records"), (_scale_row(scale) for scale in content["scales"])),
        "By slide:",
        _table(
            ("slide", "donor", "tissue", "disease", "genes", *names),
            (
                [slide[key] for key in ("slide", "donor", "tissue", "disease", "n_genes")] + _records(slide, names)
                for slide in slides
            ),
        ),
        "By tissue:",
        _table(("tissue", *names), _grouped(slides, "tissue", names)),
        "By donor:",
        _table(("donor", *names), _grouped(slides, "donor", names)),
        "## Cells left out",
        f"{cells['read']:,} cells were read, {cells['records']:,} kept. An excluded cell is in no file of any scale.",
        _table(("reason", "cells"), sorted(cells["excluded"].items())),
        "## Splits",
        *_split_parts(slides, splits),
        "## Meta-cells",
        *_quality_parts(quality),
        *(["## H&E", *_he_parts(histology)] if histology else []),
        "## Limits",
        _LIMITS,
        "## Licence",
        _LICENCE,
    ]
    return "\n\n".join(parts) + "\n"


def write_table_card(content: Mapping[str, Any], version: str, splits: Mapping[str, Any]) -> str:
    """Return the card of a dataset of tables.

    Args:
        content: of the manifest.
        version: of the dataset.
        splits: contents of splits.json.
    """
    slides = content["slides"]
    cells = content["scales"][0]
    keys = ("slide", "donor", "tissue", "disease", "kind", "n_genes", "cells")
    parts = [
        "# Dataset card",
        f"Version `{version}`. {len(slides)} slides, {len({slide['donor'] for slide in slides})} donors, "
        f"{cells['records']:,} cells or spots; values: {content['values']}; {_images(slides)}.",
        "Made by mistline from tables (h5ad files, Visium folders): the same cells in the same order in every file of "
        "a slide, under one key `slide/cell_id`.",
        "## Open it",
        _HOW_TO_OPEN_TABLES,
        *([_HOW_TO_OPEN_PATCHES] if any("patches" in slide for slide in slides) else []),
        "## Cells",
        _table((*keys, "coordinates"), ([*(slide[key] for key in keys), _coordinates(slide)] for slide in slides)),
        "## Cells left out",
        f"{cells['read']:,} cells were read, {cells['records']:,} kept. An excluded cell is in no file.",
        _table(("reason", "cells"), sorted(cells["excluded"].items())),
        "## Splits",
        *_split_parts(slides, splits),
        "## Limits",
        _TABLE_LIMITS,
        "## Licence",
        "The dataset inherits the licence of the tables it was made from: check your source, slide by slide, before "
        "you share this.",
    ]
    return "\n\n".join(parts) + "\n"


def _images(slides: Sequence[Mapping[str, Any]]) -> str:
    found = [slide["patches"] for slide in slides if "patches" in slide]
    if not found:
        return "no images"
    padded = sum(item["padded"] for item in found)
    beyond = f", {padded:,} of them padded where they leave the image" if padded else ""
    return (
        f"images of {len(found)} of {len(slides)} slides: a patch of {found[0]['side_um']:.4g} um "
        f"({found[0]['size_px']} px) around each place{beyond}"
    )


def _coordinates(slide: Mapping[str, Any]) -> str:
    return "yes" if slide["has_coordinates"] else "no"


def _scale_row(scale: Mapping[str, Any]) -> list[Any]:
    return [scale["name"], scale["unit"], scale["size_px"] or "native", scale["records"]]


def _records(slide: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    return [slide["scales"][name]["records"] for name in names]


def _grouped(slides: Sequence[Mapping[str, Any]], key: str, names: Sequence[str]) -> list[list[Any]]:
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for slide in slides:
        sums[slide[key]].update(dict(zip(names, _records(slide, names), strict=True)))
    return [[group, *(counts[name] for name in names)] for group, counts in sorted(sums.items())]


def _split_parts(slides: Sequence[Mapping[str, Any]], splits: Mapping[str, Any]) -> list[str]:
    how = HOW_DIVIDED[splits["scheme"]]
    sides = SPLITS
    nearest = splits["leakage"]["nearest_um"]
    checked = "Checked: no tile of any scale holds cells of two sides" + (
        f"; cells of two sides of a slide are at least {nearest:.1f} um apart." if nearest is not None else "."
    )
    if splits["scheme"] == "random":
        checked = "Nothing keeps the sides apart in place."
    whole = [f"{name} ({item['undivided']})" for name, item in splits["slides"].items() if item["undivided"]]
    table = _table(
        ("slide", *sides), ([slide["slide"], *(slide["splits"][side] for side in sides)] for slide in slides)
    )
    return [how, checked, *([f"Wholly training: {'; '.join(whole)}."] if whole else []), table]


def _quality_parts(quality: Mapping[str, Any]) -> list[str]:
    rows = []
    for part in ("train", "held_out"):
        if quality[part]:
            found = quality[part]
            kept = found["variance_kept"]
            figures = (found["gene_pcc"]["mean"], kept["pca"], kept["quantised"])
            rows.append(
                [part.replace("_", " "), found["n_cells"], *("-" if f is None else f"{f:.3f}" for f in figures)]
            )
    return [
        f"{quality['n_metacells']} meta-cells over {quality['n_genes']} genes measured on every training slide, "
        f"{quality['n_components']} components; {quality['n_dropped']} centres were dropped for having too few cells.",
        _table(("part", "cells", "gene correlation", "variance kept by PCA", "by meta-cells"), rows),
    ]


def _he_parts(histology: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for slide, found in histology.items():
        fit, landmarks = found["check"]["dapi"], found["check"]["landmarks"]
        measured = ("-", "-") if fit is None else (f"{fit['correlation']:.2f}", _length(fit["offset_um"]))
        error = landmarks["error_um"] if landmarks else None
        rows.append(
            [
                slide,
                found["source"]["alignment"],
                *measured,
                "-" if error is None else f"{error:.1f}",
                found["cells"]["not_covered"],
                "; ".join(found["warnings"]) or "-",
            ]
        )
    return [
        f"{len(histology)} slide{'s' * (len(histology) != 1)} with a registered H&E: the same keys and squares at "
        'every scale, in red, green and blue, without genes (`open_dataset(..., images="he")`). It was resampled to '
        "the pixels of the DAPI image; beyond its border it is white, and `he/coverage.parquet` says which cells lie "
        "wholly on it. The alignment was compared with DAPI: the correlation of haematoxylin and DAPI where it is, "
        "and how far away they would fit best.",
        _table(
            (
                "slide",
                "alignment",
                "correlation",
                "best fit (um away)",
                "landmarks (um)",
                "cells not covered",
                "remarks",
            ),
            rows,
        ),
    ]


def _length(offset_um: Sequence[float]) -> str:
    return f"{math.hypot(*offset_um):.1f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    shown = [[f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
