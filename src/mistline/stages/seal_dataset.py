"""Prove one key across all scales and slides, then write the manifest, the vocabulary and the dataset card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.config.scales import load_scales
from mistline.core.errors import InputError
from mistline.core.files import read_json, write_parquet, write_text
from mistline.core.log import progress
from mistline.core.provenance import record, versions
from mistline.mist.card import write_card
from mistline.mist.he_proof import prove_he
from mistline.mist.inventory import Cohort, describe
from mistline.mist.metacells import read_vocabulary
from mistline.mist.seal import Proven, SlideFiles, prove
from mistline.mist.sheet import check_splits, read_entries, read_sections, refuse_copies
from mistline.mist.vocabulary import unite
from mistline.store.manifest import write_manifest
from mistline.workflow.digest import code_digest

STAGES = (
    "check_bundle",
    "project_image",
    "read_cells",
    "cut_crops",
    "cut_tiles",
    "make_splits",
    "fit_metacells",
    "assign_metacells",
    "seal_dataset",
)
HE_STAGES = ("register_he", "cut_he")  # named where a slide has an H&E


def run(
    root: Annotated[Path, typer.Option(help="the result folder, which holds slides/")],
    slides_json: Annotated[
        str, typer.Option(help="JSON list of objects: slide, donor, tissue, disease, and he where it has one")
    ],
    manifest: Annotated[Path, typer.Option(help="manifest.json to write; splits and metacells lie in its folder")],
    genes: Annotated[Path, typer.Option(help="genes.parquet to write, beside the manifest")],
    card: Annotated[Path, typer.Option(help="card.md to write")],
    scales: Annotated[str, typer.Option(help="the scales section, as JSON")],
    params: Annotated[str, typer.Option(help="the sections that the dataset was made with, as one JSON object")],
) -> None:
    """Seal the dataset; nothing is written unless every check passes."""
    entries = read_entries(slides_json)
    sections = read_sections(params)
    sizes = load_scales(scales)
    folder = manifest.parent
    cohort = Cohort(folder, entries, read_json(folder / "splits.json"), read_json(folder / "metacells.json"))
    levels = read_vocabulary(folder / "metacells.h5ad").levels
    files = [
        SlideFiles(
            slide=e["slide"],
            donor=e["donor"],
            folder=root / "slides" / e["slide"],
            splits=folder / "splits" / f"{e['slide']}.parquet",
            has_he=bool(e.get("he", False)),
        )
        for e in entries
    ]
    check_splits(files, cohort.splits)
    proven = [prove(item, sizes, levels) for item in progress(files, "prove")]
    refuse_copies(files)
    _check_channels(files, proven)
    histology = {item.slide: prove_he(item, sizes) for item in files if item.has_he}
    vocabulary = unite({item.slide: found.panel for item, found in zip(files, proven, strict=True)})
    write_parquet(genes, vocabulary.table())
    made_by = {
        "sections": sections,
        "code": {stage: code_digest(stage) for stage in (*STAGES, *(HE_STAGES if histology else ()))},
        "versions": {name: number for name, number in versions().items() if name != "torch"},
    }
    content = describe(cohort, files, proven, sizes, made_by)
    version = write_manifest(manifest, content)
    write_text(card, write_card(content, version, cohort.splits, cohort.quality, histology))
    inputs = {name: folder / name for name in ("splits.json", "metacells.h5ad", "metacells.json")}
    code = made_by["code"]["seal_dataset"]
    record("seal_dataset", outputs=[manifest, genes, card], inputs=inputs, params=sections, code=code)


def _check_channels(files: list[SlideFiles], proven: list[Proven]) -> None:
    for item, found in zip(files, proven, strict=True):
        if found.channels != proven[0].channels:
            what = f"its channels {found.channels} differ from {proven[0].channels} of slide {files[0].slide}"
            raise InputError(f"slide {item.slide}", what, "run project_image with one image.channels for all slides")
