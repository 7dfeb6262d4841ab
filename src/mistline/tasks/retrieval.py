"""Does a cell find its like on another slide? Nearest cells of other slides, by exact search.

A query is answered at k when one of its k nearest cells has its label. Nothing is fitted; the labels only score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from mistline.core.errors import InputError
from mistline.tasks.base import Inputs, Row, Scores, TaskParams

if TYPE_CHECKING:
    import pandas as pd

# What needs scikit-learn or pandas is imported where it is used: a dry run reads Params from this module.

NEEDS_LABELS = True
JUDGES = frozenset(["embedding"])
PROTOCOLS = {
    "other_slides": "test cells of a slide ask all other slides, of the same donor too",
    "other_donors": "test cells of a slide ask the slides of other donors",
}


class Params(TaskParams):
    """What has to agree, and how far one looks."""

    labels: tuple[str, ...] = Field(
        min_length=1, description="columns of the slides' labels that should agree, such as the type and the domain"
    )
    k: tuple[int, ...] = Field((1, 5, 10), min_length=1, description="nearest cells that are looked at")
    max_queries: int = Field(5000, ge=10, description="test cells drawn to ask, the same for every model")
    max_database: int = Field(50_000, ge=100, description="cells drawn to be found, the same for every model")

    @field_validator("k")
    @classmethod
    def _rising(cls, k: tuple[int, ...]) -> tuple[int, ...]:
        if min(k) < 1 or list(k) != sorted(set(k)):
            raise ValueError("give rising numbers from 1 on, each once")
        return k


def evaluate(inputs: Inputs, params: Params, protocol: str) -> Scores:
    """Ask with the test cells of every slide, and score whether a cell with the same label is found.

    Raises:
        ConfigError: no slide has a label column.
        InputError: one slide, or one donor; one class; too few cells to look at.
    """
    from mistline.tasks.controls import left_out
    from mistline.tasks.retrieval_search import CHANCE, chance, representations, searches

    group = "donor" if protocol == "other_donors" else "slide"
    cells = _everyone(inputs, params, group)
    problems = searches(cells, params, group)
    rows: dict[str, Row] = {}
    for name, (what, points) in representations(inputs, cells, params.seed).items():
        here = points()
        rows[name] = _joined([search.score(here, params) for search in problems], what)
    if inputs.is_controls:
        rows["chance"] = _joined([chance(search, params) for search in problems], CHANCE)
    settings: dict[str, Any] = {
        **params.model_dump(mode="json"),
        "protocol": PROTOCOLS[protocol],
        "split_of_queries": "test",
        "split_of_database": "any",
        "per_label": {search.label: search.about() for search in problems},
        "interval": problems[0].unit.note,
        "macro": "the mean over the classes among the queries",
        "left_out": left_out(inputs, cells) if inputs.is_controls else {},
    }
    n = sum(len(search.queries) for search in problems)
    return Scores(problems[0].unit.name, n, rows, settings)


def _everyone(inputs: Inputs, params: Params, group: str) -> pd.DataFrame:
    """Return the cells drawn to ask, marked `asks`, and to be found, marked `is_found`."""
    import pandas as pd

    queries = inputs.cells("test", at_most=params.max_queries, seed=params.seed)
    database = inputs.cells(at_most=params.max_database, seed=params.seed)
    groups = database[group].unique()
    if len(groups) < 2:
        what = f"asks other {group}s, and there is only {groups[0]}"
        raise InputError("tasks.retrieval", what, f"add {group}s or leave the task out")
    both = pd.concat([queries.assign(asks=True), database.assign(is_found=True)])
    marks = both.groupby(["slide", "row"], sort=False)[["asks", "is_found"]].any()
    cells = both.drop_duplicates(["slide", "row"]).drop(columns=["asks", "is_found"])
    return cells.join(marks, on=["slide", "row"]).reset_index(drop=True)


def _joined(found: list[Row], what: str) -> Row:
    """Put the columns of all labels in one row."""
    metrics, per_unit = {}, {}
    for row in found:
        metrics |= row.metrics
        per_unit |= row.per_unit
    return Row(metrics, per_unit, {"what": what} if what else {})
