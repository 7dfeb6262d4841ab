"""Rule seal_tables: prove that all files of each slide speak of the same cells; write manifest, vocabulary and card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.core.files import read_json, write_parquet, write_text
from mistline.core.provenance import record, versions
from mistline.mist.card import write_table_card
from mistline.mist.seal import SlideFiles
from mistline.mist.seal_tables import describe_tables, prove_table
from mistline.mist.sheet import check_splits, read_entries, read_sections, refuse_copies
from mistline.mist.vocabulary import unite
from mistline.store.manifest import write_manifest
from mistline.workflow.digest import code_digest

STAGES = ("read_table", "make_splits", "seal_tables")


def run(
    root: Annotated[Path, typer.Option(help="the result folder, which holds slides/")],
    slides_json: Annotated[str, typer.Option(help="JSON list of objects with slide, donor, tissue, disease")],
    manifest: Annotated[Path, typer.Option(help="manifest.json to write; splits lie in its folder")],
    genes: Annotated[Path, typer.Option(help="genes.parquet to write, beside the manifest")],
    card: Annotated[Path, typer.Option(help="card.md to write")],
    params: Annotated[str, typer.Option(help="the sections that the dataset was made with, as one JSON object")],
) -> None:
    """Seal a dataset of tables; nothing is written unless every check passes."""
    entries = read_entries(slides_json)
    sections = read_sections(params)
    folder = manifest.parent
    splits = read_json(folder / "splits.json")
    files = [
        SlideFiles(
            e["slide"],
            e["donor"],
            root / "slides" / e["slide"],
            folder / "splits" / f"{e['slide']}.parquet",
            has_patches=bool(e.get("image")),
        )
        for e in entries
    ]
    check_splits(files, splits)
    proven = [prove_table(item) for item in files]
    refuse_copies(files)
    vocabulary = unite({item.slide: found.panel for item, found in zip(files, proven, strict=True)})
    write_parquet(genes, vocabulary.table())
    stages = (*STAGES, "cut_patches") if any(item.has_patches for item in files) else STAGES
    made_by = {
        "sections": sections,
        "code": {stage: code_digest(stage) for stage in stages},
        "versions": {name: number for name, number in versions().items() if name != "torch"},
    }
    content = describe_tables(folder, entries, files, proven, splits) | made_by
    version = write_manifest(manifest, content)
    write_text(card, write_table_card(content, version, splits))
    inputs = {"splits.json": folder / "splits.json"}
    code = made_by["code"]["seal_tables"]
    record("seal_tables", outputs=[manifest, genes, card], inputs=inputs, params=sections, code=code)
