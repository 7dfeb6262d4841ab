"""Read a single-cell reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import validate
from mistline.config.imputation import Imputation
from mistline.core.files import write_json
from mistline.core.provenance import record
from mistline.mist.reference import describe, read_given, write_reference
from mistline.workflow.digest import code_digest


def run(
    reference: Annotated[Path, typer.Option(help="An h5ad of single cells.")],
    counts: Annotated[Path, typer.Option(help="counts.h5ad to write: their values, as a slide's.")],
    summary: Annotated[Path, typer.Option(help="reference.json to write: what they are.")],
    values: Annotated[str, typer.Option(help="What its X holds: counts, normalised or log.")] = "counts",
) -> None:
    """Read and check single cells of the same tissue."""
    said = validate(Imputation, {"values": values}, "imputation").values
    cells = read_given(reference, said)
    write_reference(counts, cells, said)
    write_json(summary, describe(reference, cells, said))
    record(
        "read_reference",
        outputs=[counts, summary],
        inputs={"reference": reference},
        params={"values": values},
        code=code_digest("read_reference"),
    )
