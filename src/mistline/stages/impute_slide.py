"""Add genes to a slide that no panel of the run measures."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.imputation import Imputation
from mistline.core.files import remove
from mistline.core.hashing import hash_file, hash_json
from mistline.core.provenance import record
from mistline.infer.impute import impute_slide, method_of
from mistline.infer.unmeasured import unmeasured, whole_view, write_annotated
from mistline.mist.pair import read_names, read_reference
from mistline.scrna.match import MIN_SHARED
from mistline.store.embeddings import Origin
from mistline.store.imputed import write_imputed
from mistline.store.manifest import read_manifest
from mistline.train.device import cpu_threads
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules


def run(
    slide: Annotated[str, typer.Option(help="Name of the slide.")],
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    registry_name: Annotated[str, typer.Option(help="Name in the registry of models.")],
    seed: Annotated[int, typer.Option(help="Seed of the run.")],
    cells: Annotated[Path, typer.Option(help="cells.parquet of the slide.")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad of the slide.")],
    panel: Annotated[
        list[Path],
        typer.Option(help="counts.h5ad of every slide of the run: what these measure is not added; repeated."),
    ],
    reference: Annotated[Path, typer.Option(help="counts.h5ad of the single cells.")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    imputed: Annotated[Path, typer.Option(help="Imputed genes (parquet) to write.")],
    h5ad: Annotated[Path, typer.Option(help="The same as h5ad to write.")],
    min_shared: Annotated[int, typer.Option(help="Fewest genes shared with the reference.")] = MIN_SHARED,
    added: Annotated[
        str, typer.Option(help="Which genes: n_genes and genes of the section imputation, as JSON.")
    ] = "{}",
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
) -> None:
    """Impute genes in all cells of a slide, from all genes that it shares with the reference."""
    package = find("models", registry_name, "--registry-name")
    own = load_section(importlib.import_module(f"{package}.params").Params, params, f"models.{model}.params")
    asked = load_section(Imputation, added, "imputation")
    digest = code_digest("impute_slide", *folder_modules(package))
    chosen = {"n_genes": asked.n_genes, "genes": list(asked.genes), "min_shared": min_shared}
    settings = {**chosen, "model": own.model_dump(mode="json")}
    single, source = read_reference(reference), hash_file(reference)
    made_from = hash_json([digest, settings, source])
    origin = Origin(model, seed, made_from, read_manifest(manifest).version)
    method = method_of(package, own, origin, imputed, threads, devices)
    wanted = unmeasured(single, [read_names(path) for path in panel], asked)
    with cpu_threads(threads):
        view = whole_view(slide, cells, counts, single, wanted, min_shared)
        found = impute_slide(method, view, wanted.symbols)
    write_imputed(imputed, found)
    write_annotated(h5ad, found, source)
    record(
        "impute_slide",
        outputs=[imputed, h5ad],
        inputs={"manifest": manifest, "counts": counts, "reference": reference},
        params=settings,
        code=digest,
        seed=seed,
    )
    remove(method.resume.parent)
