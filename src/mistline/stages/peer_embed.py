"""Embed a slide with a published method; that it cannot be run is a result too."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import anndata
import numpy as np
import pandas as pd
import typer

from mistline.config.base import load_section
from mistline.core.errors import InputError
from mistline.core.files import atomic_path, read_parquet
from mistline.core.hashing import hash_file
from mistline.core.provenance import record
from mistline.core.seeds import derive
from mistline.infer.embed import write_blocks
from mistline.mist.expression import CountsFile
from mistline.models.contract import Block
from mistline.models.peer.params import METHODS, Params
from mistline.store.absent import write_absent
from mistline.store.embeddings import Origin
from mistline.store.manifest import read_manifest
from mistline.tasks.peers import environment as made
from mistline.tasks.peers.exchange import Cells, NotRunError, embedding_of, write_cells
from mistline.tasks.peers.run import Job, identity, modules, run_method, scratch
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.tasks")


def run(
    model: Annotated[str, typer.Option(help="Name of the run, as in the tables.")],
    seed: Annotated[int, typer.Option(help="Seed of the method's draws.")],
    environment: Annotated[Path, typer.Option(help="Folder of the method's environment.")],
    status: Annotated[Path, typer.Option(help="What came of making it (JSON).")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    slide: Annotated[str, typer.Option(help="Slide to embed.")],
    cells: Annotated[Path, typer.Option(help="Its cells.parquet.")],
    counts: Annotated[Path, typer.Option(help="Its counts.h5ad.")],
    embedding: Annotated[Path, typer.Option(help="Embedding (parquet) to write.")],
    h5ad: Annotated[Path, typer.Option(help="Embedding (h5ad) to write.")],
    params: Annotated[str, typer.Option(help="Settings of the model, as JSON.")],
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Embed a slide, or write why it could not be."""
    section = load_section(Params, params, f"models.{model}.params")
    trained = _trained(section)
    given = _read(section, cells, counts)
    state = made.read(status)
    code = code_digest("peer_embed", *modules(section.method))
    settings = section.model_dump(mode="json")
    origin = Origin(model, seed, identity(code, state.lock_sha256, settings, seed), read_manifest(manifest).version)
    options = {**section.settings, **trained}
    job = Job(section.method, environment, options, derive(seed, "peer") % 2**31, threads, section.max_minutes)
    try:
        if state.reason is not None:
            raise NotRunError(state.reason)
        _refuse(section, given)
        with scratch(embedding) as folder:
            write_cells(folder / "slide.h5ad", given)
            rows = embedding_of(run_method(job, folder), given.cell_id)
        write_blocks([Block(given.cell_id, rows, {})], embedding, h5ad, origin, len(given.cell_id))
    except NotRunError as reason:
        logger.warning("%s is not run on slide %s: %s", model, slide, reason)
        write_absent(embedding, ["cell_id"], origin, str(reason))
        _write_empty(h5ad, str(reason))
    record(
        "peer_embed",
        outputs=[embedding, h5ad],
        inputs={"manifest": manifest, "status": status},
        params={"slide": slide, "model": model, **settings},
        code=code,
        seed=seed,
    )


def _trained(section: Params) -> dict[str, str]:
    """Return where the files of a method that comes trained lie, once they are known to be those meant."""
    found = {}
    for key in METHODS[section.method].files:
        path = Path(getattr(section, key)).absolute()
        if not path.is_file():
            raise InputError(path, "no such file", section.how())
        if hash_file(path) != getattr(section, f"{key}_sha256"):
            raise InputError(path, f"its sha256 is not {key}_sha256", "copy it again, or correct the hash")
        found[key] = str(path)
    return found


def _read(section: Params, cells: Path, counts: Path) -> Cells:
    table = read_parquet(cells)
    placed = "coordinates" in section.reads()
    with CountsFile(counts) as store:
        if not np.array_equal(store.cell_ids(), table["cell_id"].to_numpy(dtype=str)):
            raise InputError(counts, f"its cells are not those of {cells.name}", "run the stage that makes it again")
        return Cells(
            cell_id=table["cell_id"].astype(str).tolist(),
            genes=store.gene_ids.tolist(),
            counts=store.rows(0, store.n_cells),
            values=store.values,
            xy_um=table[["x_um", "y_um"]].to_numpy(dtype=np.float64) if placed else None,
        )


def _refuse(section: Params, given: Cells) -> None:
    method = METHODS[section.method]
    n = len(given.cell_id)
    if not len(given.genes):
        raise NotRunError("the slide has no genes")
    if given.xy_um is not None and not np.isfinite(given.xy_um).all():
        raise NotRunError("the slide has no coordinates")
    if method.max_cells is not None and n > method.max_cells:
        raise NotRunError(f"{method.why_max}, and the slide has {n:,} (at most {method.max_cells:,})")


def _write_empty(path: Path, reason: str) -> None:
    with atomic_path(path) as part:
        anndata.AnnData(obs=pd.DataFrame(index=pd.Index([], dtype=object)), uns={"not_run": reason}).write_h5ad(part)
