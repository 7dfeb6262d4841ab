"""Fit the vocabulary of meta-cells on training cells, and measure what it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from mistline.config.base import load_section
from mistline.config.metacells import Metacells
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import parquet_columns, read_parquet, write_json
from mistline.core.provenance import record
from mistline.mist.expression import CountsFile
from mistline.mist.metacell_fit import Source, fit_vocabulary
from mistline.mist.metacell_quality import Judged, as_types, judge
from mistline.mist.metacells import Vocabulary, write_vocabulary
from mistline.workflow.digest import code_digest


def run(
    slide: Annotated[list[str], typer.Option(help="name of a slide; repeat, in one order with the files")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad; one a slide")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet, for its labels; one a slide")],
    splits: Annotated[list[Path], typer.Option(help="split file; one a slide")],
    metacells: Annotated[Path, typer.Option(help="metacells.h5ad to write")],
    quality: Annotated[Path, typer.Option(help="metacells.json to write")],
    params: Annotated[str, typer.Option(help="the metacells section, as JSON")],
    seed: Annotated[int, typer.Option(help="the run's seed")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="does not change the result")] = 1,
) -> None:
    """Fit on training cells; judge on training and on held-out (validation and test) cells."""
    settings = load_section(Metacells, params, "metacells")
    if not len(slide) == len(counts) == len(cells) == len(splits):
        raise ConfigError(
            "fit-metacells",
            f"{len(slide)} slides, {len(counts)} counts, {len(cells)} cells and {len(splits)} splits",
            "give --counts, --cells and --splits once a slide, in one order",
        )
    sides = [_read_side(*files) for files in zip(splits, counts, strict=True)]
    sources = [
        Source(name, path, (side == "train").to_numpy()) for name, path, side in zip(slide, counts, sides, strict=True)
    ]
    vocabulary = fit_vocabulary(sources, settings, seed, threads)
    labels, skipped = _read_labels(cells)
    judged = [
        Judged(
            source.slide,
            source.counts,
            {"train": source.is_train, "held_out": side.isin(["val", "test"]).to_numpy()},
            types,
        )
        for source, side, types in zip(sources, sides, labels, strict=True)
    ]
    found = judge(vocabulary, judged, threads)
    write_vocabulary(metacells, vocabulary)
    write_json(quality, _describe(vocabulary, settings) | found | {"labels_skipped": skipped})
    inputs = {
        f"{kind}[{name}]": path
        for kind, paths in (("counts", counts), ("cells", cells), ("splits", splits))
        for name, path in zip(slide, paths, strict=True)
    }
    code = code_digest("fit_metacells")
    chosen = settings.model_dump(mode="json")
    record("fit_metacells", outputs=[metacells, quality], inputs=inputs, params=chosen, code=code, seed=seed)


def _read_side(splits: Path, counts: Path) -> pd.Series:
    """Return [n] the side of each cell, after checking that both files list the same cells."""
    table = read_parquet(splits, ["cell_id", "split"], "make_splits")
    with CountsFile(counts) as file:
        ids = file.cell_ids()
    if len(ids) != len(table) or (table["cell_id"].to_numpy(dtype=str) != ids).any():
        raise InputError(splits, f"it lists other cells than {counts.name}", "run make_splits again")
    return table["split"]


def _read_labels(cells: list[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return each slide's label columns as types, and the names of columns that hold no types on some slide."""
    found: list[dict[str, Any]] = []
    skipped: set[str] = set()
    for path in cells:
        columns = [name for name in parquet_columns(path, "read_cells for this slide") if name.startswith("label_")]
        table = read_parquet(path, columns, "read_cells for this slide")
        types = {name.removeprefix("label_"): as_types(table[name]) for name in columns}
        skipped.update(name for name, values in types.items() if values is None)
        found.append(types)
    kept = [{name: values for name, values in types.items() if name not in skipped} for types in found]
    return kept, sorted(skipped)


def _describe(vocabulary: Vocabulary, settings: Metacells) -> dict[str, Any]:
    explained = vocabulary.pca.explained_variance
    return {
        "asked": settings.model_dump(mode="json"),
        "n_metacells": len(vocabulary.n_cells),
        "n_dropped": vocabulary.n_dropped,
        "n_components": len(explained),
        "n_genes": len(vocabulary.genes.gene_ids),
        "n_cells_fitted": int(vocabulary.n_cells.sum()),
        "target_sum": vocabulary.target_sum,
        "levels": {name: len(set(groups.tolist())) for name, groups in vocabulary.levels.items()},
        "explained_variance_share": [round(float(v / vocabulary.pca.total_variance), 9) for v in explained],
    }
