"""Test the rows of one table against each other, pair by pair."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.core.errors import InputError
from mistline.core.files import read_json, write_json
from mistline.core.provenance import record
from mistline.tasks.compare import compare
from mistline.workflow.digest import code_digest

_SAME = ("task", "protocol", "dataset_version", "unit")


def run(
    scores: Annotated[list[Path], typer.Option(help="Evaluation (JSON) of a model or of the controls; repeated.")],
    comparison: Annotated[Path, typer.Option(help="The tests (JSON) to write.")],
) -> None:
    """Compare all rows of one task and protocol."""
    read = {path: read_json(path) for path in scores}
    not_run = {result["model"]: result["not_run"] for result in read.values() if "not_run" in result}
    results = {path: result for path, result in read.items() if "not_run" not in result}
    if not results:
        raise InputError("compare", "no row of this table was run", "give the controls too")
    reference, first = next((path, {key: result[key] for key in _SAME}) for path, result in results.items())
    for path, result in results.items():
        for key in _SAME:
            if result[key] != first[key]:
                what = f"its {key.replace('_', ' ')} is {result[key]!r}, that of {reference.name} is {first[key]!r}"
                raise InputError(path, what, "run evaluate again for every row of this table")
    write_json(comparison, {**first, "not_run": not_run, "metrics": compare(list(results.values()))})
    inputs = {f"scores[{number}]": path for number, path in enumerate(scores)}
    record("compare", outputs=[comparison], inputs=inputs, params={}, code=code_digest("compare"))
