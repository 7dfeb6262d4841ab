"""What every task is given and what it answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from mistline.config.base import Section

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


class TaskParams(Section):
    """Settings that every task has."""

    seed: int = Field(
        0, ge=0, description="seed of the evaluation itself: every model is judged on the same cells and draws"
    )
    bootstrap: int = Field(1000, ge=100, description="draws behind an interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="coverage of an interval")


class Inputs(Protocol):
    """The files of one model's embeddings, read on demand.

    Rows are asked for as a table of cells (all of `cells` or a part of it), so that a task holds in memory
    only the cells it judges.
    """

    def count(self, *splits: str) -> int:
        """Return the number of cells of some splits."""
        ...

    def cells(self, *splits: str, at_most: int | None = None, seed: int = 0) -> pd.DataFrame:
        """Return the cells of some splits: slide, donor, row, cell_id, x_um, y_um, split, label_<column>.

        Args:
            splits: names, such as test.
            at_most: how many to draw by seed, kept in the order of the files; None for all.
            seed: of the draw, which is the same for every model.
        """
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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer of a task for one model and protocol.

    Args:
        unit: what the intervals resample: donor, slide or cell.
        n: cells (or whatever is scored) behind the metrics.
        metrics: name -> estimate, for the model.
        controls: control -> the same metrics, for what needs no model.
        settings: everything a reader needs to repeat the number, JSON values only.
    """

    unit: str
    n: int
    metrics: Mapping[str, Estimate]
    controls: Mapping[str, Mapping[str, Estimate]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the part of the evaluation's JSON that the task is responsible for."""
        return {
            "unit": self.unit,
            "n": self.n,
            "metrics": {name: asdict(estimate) for name, estimate in self.metrics.items()},
            "controls": {
                control: {name: asdict(estimate) for name, estimate in metrics.items()}
                for control, metrics in self.controls.items()
            },
            "settings": dict(self.settings),
        }
