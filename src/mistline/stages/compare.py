"""Test the rows of one table against each other, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mistline.config.ablation import Ablation
from mistline.config.base import load_section
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import read_json, read_parquet, write_json
from mistline.core.provenance import record
from mistline.tasks.ablation import ablation as compare_steps
from mistline.tasks.accuracy_score import accuracy_scores
from mistline.tasks.compare import compare
from mistline.workflow.digest import code_digest

_SAME = ("task", "protocol", "dataset_version", "unit")


def run(
    scores: Annotated[list[Path], typer.Option(help="Evaluation (JSON) of a model or of the controls; repeated.")],
    comparison: Annotated[Path, typer.Option(help="The tests (JSON) to write.")],
    answers: Annotated[
        list[Path] | None, typer.Option(help="What each of the evaluations says of each cell, for an ablation.")
    ] = None,
    ablation: Annotated[str, typer.Option(help="Rows that differ by one part, as JSON; null for none.")] = "null",
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
    metrics = compare(list(results.values()))
    found = {**first, "not_run": not_run, "metrics": metrics}
    ranked = accuracy_scores(metrics)
    found |= {"accuracy_score": ranked} if ranked else {}
    steps = None if ablation == "null" else load_section(Ablation, ablation, "tasks.ablation")
    if steps is not None:
        found["ablation"] = {"metrics": steps.metrics, "rows": _lines(steps, results, scores, answers or [])}
    write_json(comparison, found)
    inputs = {f"scores[{number}]": path for number, path in enumerate(scores)}
    params = {"ablation": steps.model_dump(mode="json")} if steps else {}
    record("compare", outputs=[comparison], inputs=inputs, params=params, code=code_digest("compare"))


def _lines(
    steps: Ablation, results: Mapping[Path, Mapping[str, Any]], scores: list[Path], answers: list[Path]
) -> list[dict[str, Any]]:
    """Compare the rows of the ablation."""
    if len(answers) != len(scores):
        what = f"{len(scores)} evaluations and {len(answers)} files of answers"
        raise ConfigError("compare", what, "give --answers once an evaluation")
    files = dict(zip(scores, answers, strict=True))
    kept = [path for path, result in results.items() if result["model"] in steps.names]
    return compare_steps(
        steps, [results[path] for path in kept], [read_parquet(files[path], made_by="evaluate") for path in kept]
    )
