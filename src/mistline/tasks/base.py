"""What every task is given and what it answers with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from mistline.config.base import Section

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from mistline.mist.pair import Pair
    from mistline.store.filled import Filled
    from mistline.store.imputed import ImputedGenes
    from mistline.store.perturbed import Perturbed
    from mistline.store.pictures import Pictures

MODEL = "model"  # the row of the model that is judged; the others of `Scores.rows` are controls and ceilings
# Columns of the answers' table: these, and two a row.
ANSWER_KEYS, ANSWER, LOSS = ("slide", "cell_id", "truth"), "answer_", "loss_"
CONTROLS = "controls"  # the name under which controls are judged, once for all models


class Published(Section):
    """A figure of the literature, to be shown beside ours."""

    protocol: str = Field(min_length=1, description="the task's protocol that it was made by")
    metric: str = Field(min_length=1, description="our name of the metric")
    value: float = Field(description="as published")
    method: str = Field(min_length=1, description="name of the method, as published")
    row: str | None = Field(None, description="our row that is the same method; empty for a line of its own")
    source: str = Field("", description="where it is from")


class TaskParams(Section):
    """Settings that every task has."""

    seed: int = Field(
        0, ge=0, description="seed of the evaluation itself: every model is judged on the same cells and draws"
    )
    bootstrap: int = Field(1000, ge=100, description="draws behind an interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="coverage of an interval")
    published: tuple[Published, ...] = Field(
        (), description="figures published for the same data, split and metric; shown in a column of their own"
    )


class Inputs(Protocol):
    """The files of what is judged, read on demand: a model's embeddings, its predictions, or neither.

    Rows are asked for as a table of cells (all of `cells` or a part of it), so that a task holds in memory
    only the cells it judges.
    """

    @property
    def is_controls(self) -> bool:
        """Return whether the controls are judged, and no model."""
        ...

    @property
    def has_predictions(self) -> bool:
        """Return whether the model gives predictions of its own, not an embedding."""
        ...

    @property
    def values(self) -> str:
        """Return what `counts` gives: counts, normalised (by depth) or log (of that)."""
        ...

    def sheet(self) -> pd.DataFrame:
        """Return slide, donor, tissue, disease (null where not given): one row a slide, in the order of the cohort."""
        ...

    def count(self, *splits: str) -> int:
        """Return the number of cells of some splits."""
        ...

    def cells(self, *splits: str, at_most: int | None = None, seed: int = 0) -> pd.DataFrame:
        """Return the cells of some splits: slide, donor, row, cell_id, x_um, y_um, split, label_<column>.

        array_row and array_col too where some slide lies on an array; null on the others.

        Args:
            splits: names, such as test; none for all cells.
            at_most: how many to draw by seed, kept in the order of the files; None for all.
            seed: of the draw, which is the same for every model.
        """
        ...

    def folds(self) -> pd.DataFrame:
        """Return the task's own division: slide, cell_id and a column a fold; see `store.folds`."""
        ...

    def predictions(self) -> pd.DataFrame:
        """Return the model's predictions: slide, cell_id, fold, part, p_<class>."""
        ...

    def embedding(self, cells: pd.DataFrame) -> NDArray[np.float32]:
        """Return [n, D], a row for each given cell."""
        ...

    def counts(self, cells: pd.DataFrame, genes: Sequence[str]) -> csr_matrix:
        """Return [n, G] raw counts of these genes, a row for each given cell."""
        ...

    def common_genes(self) -> tuple[str, ...]:
        """Return the ids of the genes measured on every slide, sorted."""
        ...

    def colours(self, cells: pd.DataFrame) -> NDArray[np.float32] | None:
        """Return [n, 3], mean red, green and blue of each given cell's image; None where they are not on record."""
        ...

    def pictures(self, cells: pd.DataFrame, size_px: int) -> NDArray[np.uint8]:
        """Return [n, C, S, S], the real image of each given cell, brought to S = `size_px`."""
        ...

    def generated(self) -> Pictures:
        """Return the images that the model drew."""
        ...

    def filled(self) -> Filled:
        """Return the hidden cells that the model generated."""
        ...

    def perturbed(self) -> Perturbed:
        """Return the rings that the model generated around changed circles."""
        ...

    def imputed(self) -> ImputedGenes:
        """Return the tested genes as the model imputed them."""
        ...

    def pairs(self) -> Iterator[Pair]:
        """Yield each judged slide with the single-cell reference and its division of the genes, one at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Args:
        metrics: name -> estimate.
        per_unit: name -> unit -> the metric of this unit alone, for paired tests; empty where cells are resampled.
        about: what it is and how it was made, JSON values only.
        answers: [n] the class or cluster given to each of `Scores.scored`, as text; None where cells get none.
        losses: [n] cross-entropy of that, for comparisons cell by cell; None where there is none.
        is_ceiling: whether it is given what no model may be given: it is shown apart, and neither ranked nor tested.
    """

    metrics: Mapping[str, Estimate]
    per_unit: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    answers: NDArray[np.object_] | None = None
    losses: NDArray[np.floating] | None = None
    is_ceiling: bool = False


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer of a task for one model, or for the controls, under one protocol.

    Args:
        unit: what the intervals resample: donor, slide, gene or cell.
        n: cells (or whatever is scored) behind the metrics.
        rows: `MODEL` with the controls and ceilings that depend on it, or the other controls and ceilings.
        settings: everything a reader needs to repeat the numbers, JSON values only.
        scored: slide, cell_id and truth of the scored cells, for maps of the rows' answers; None without any.
        own_truth: whether the truth is made of the judged model itself, so that rows of other models answer another
            question and are no rivals.
    """

    unit: str
    n: int
    rows: Mapping[str, Row]
    settings: Mapping[str, Any] = field(default_factory=dict)
    scored: pd.DataFrame | None = None
    own_truth: bool = False

    @property
    def model(self) -> Row:
        """The model's row."""
        return self.rows[MODEL]

    @property
    def controls(self) -> dict[str, Row]:
        """The rows of controls."""
        return {name: row for name, row in self.rows.items() if name != MODEL and not row.is_ceiling}

    @property
    def ceilings(self) -> dict[str, Row]:
        """The rows that show what could be reached."""
        return {name: row for name, row in self.rows.items() if row.is_ceiling}

    def answers(self) -> pd.DataFrame:
        """Return slide, cell_id, truth, `answer_<row>` and `loss_<row>` of the rows that have them.

        Without `scored` there is no line.
        """
        import pandas as pd

        if self.scored is None:
            return pd.DataFrame({name: pd.Series(dtype=str) for name in ANSWER_KEYS})
        given = {f"{ANSWER}{name}": row.answers for name, row in self.rows.items() if row.answers is not None}
        given |= {f"{LOSS}{name}": row.losses for name, row in self.rows.items() if row.losses is not None}
        return self.scored[list(ANSWER_KEYS)].reset_index(drop=True).assign(**given)

    def to_json(self) -> dict[str, Any]:
        """Return the part of the evaluation's JSON that the task is responsible for."""
        model = self.rows.get(MODEL, Row({}))
        controls, ceilings = self.controls, self.ceilings
        return {
            "unit": self.unit,
            "n": self.n,
            "own_truth": self.own_truth,
            "metrics": _metrics(model),
            "per_unit": _per_unit(model),
            "controls": {name: _metrics(row) for name, row in controls.items()},
            "controls_per_unit": {name: _per_unit(row) for name, row in controls.items()},
            "ceilings": {name: _metrics(row) for name, row in ceilings.items()},
            "settings": {
                **self.settings,
                "model": dict(model.about),
                "controls": {name: dict(row.about) for name, row in controls.items()},
                "ceilings": {name: dict(row.about) for name, row in ceilings.items()},
            },
        }


def _metrics(row: Row) -> dict[str, Any]:
    return {name: asdict(estimate) for name, estimate in row.metrics.items()}


def _per_unit(row: Row) -> dict[str, dict[str, float]]:
    return {name: dict(values) for name, values in row.per_unit.items()}
