"""`mistline toy`: a folder of synthetic slides to run everything on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.xenium.toy.cohort import plan_cohort, write_cohort
from mistline.xenium.toy.settings import LAYOUTS


def run(
    out: Annotated[Path, typer.Option(help="Folder to write; must be empty or absent.")],
    slides: Annotated[int, typer.Option(help="Number of slides.")] = 5,
    cells: Annotated[int, typer.Option(help="Cells of each slide.")] = 400,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    layouts: Annotated[str, typer.Option(help="Layouts, taken in turn.")] = ",".join(LAYOUTS),
    genes: Annotated[int, typer.Option(help="Genes of the shared panel, at least 80.")] = 100,
    planes: Annotated[int, typer.Option(help="Planes of the z-stack.")] = 4,
    threads: Annotated[int, typer.Option(help="Threads of the image encoder.")] = 2,
) -> None:
    """Write bundles, labels, the slide sheet, a config and the truth."""
    names = [name.strip() for name in layouts.split(",") if name.strip()] or [layouts]
    write_cohort(out, plan_cohort(slides, cells, seed, names, n_genes=genes, n_planes=planes), threads=threads)
