"""Divide the genes that slides share with the single-cell reference into folds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from mistline.config.base import load_section
from mistline.config.imputation import Division
from mistline.core.errors import ConfigError
from mistline.core.files import write_json, write_parquet
from mistline.core.provenance import record
from mistline.mist.pair import Reference, read_names, read_reference
from mistline.scrna.folds import PARTS, check_division, divide
from mistline.scrna.match import Shared, share
from mistline.workflow.digest import code_digest


def run(
    reference: Annotated[Path, typer.Option(help="counts.h5ad of the single cells.")],
    slide: Annotated[list[str], typer.Option(help="Names of the judged slides; repeated.")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad of each slide; repeated.")],
    genes: Annotated[Path, typer.Option(help="Division of the genes (parquet) to write.")],
    summary: Annotated[Path, typer.Option(help="What was divided (JSON) to write.")],
    params: Annotated[str, typer.Option(help="How genes are divided, as JSON.")] = "{}",
) -> None:
    """Divide genes; only names of a slide's genes are read, none of its values."""
    section = load_section(Division, params, "tasks.imputation.params")
    if len(slide) != len(counts):
        raise ConfigError("fold-genes", "the options of the slides are not equally many", "repeat each once a slide")
    single = read_reference(reference)
    constant = single.constant()
    shared = {
        name: share(f"slide {name}", read_names(path), single.names(), constant, section.min_shared)
        for name, path in zip(slide, counts, strict=True)
    }
    table = divide(_table(shared), single.by_expression(), section.n_folds, section.val_share, section.seed)
    check_division("fold-genes", table)
    write_parquet(genes, table)
    write_json(summary, _describe(single, shared, table))
    record(
        "fold_genes",
        outputs=[genes, summary],
        inputs={"reference": reference, **{f"counts:{name}": path for name, path in zip(slide, counts, strict=True)}},
        params=section.model_dump(mode="json"),
        code=code_digest("fold_genes"),
        seed=section.seed,
    )


def _table(shared: Mapping[str, Shared]) -> pd.DataFrame:
    """Return slide, gene, symbol, reference_gene: a row a slide and shared gene."""
    parts = [
        pd.DataFrame({"slide": name, "gene": own.genes, "symbol": own.symbols, "reference_gene": own.reference_genes})
        for name, own in shared.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _describe(single: Reference, shared: Mapping[str, Shared], table: pd.DataFrame) -> dict[str, Any]:
    once = table.drop_duplicates(["reference_gene", "fold"])
    sizes = once.groupby(["fold", "part"]).size().unstack("part", fill_value=0)
    return {
        "n_genes": int(table["reference_gene"].nunique()),
        "n_reference_genes": len(single.genes),
        "slides": {
            name: {
                "n_shared": len(own.genes),
                "n_by_symbol": own.by_symbol,
                "n_ambiguous": own.ambiguous,
                "n_constant_in_reference": own.constant,
            }
            for name, own in shared.items()
        },
        "folds": {str(fold): {part: int(row.get(part, 0)) for part in PARTS} for fold, row in sizes.iterrows()},
    }
