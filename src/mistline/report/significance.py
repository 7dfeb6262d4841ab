"""The paired tests of a table's rows, as the stage compare made them: marks in cells, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json
from mistline.core.metrics import FEWEST_PAIRS, direction

ALPHA = 0.05
BETTER, WORSE, UNDECIDED = "▲", "▼", "≈"
LEGEND = (
    f"{BETTER} better than the best control, {WORSE} worse than it, {UNDECIDED} no difference shown (paired "
    f"signed-rank tests, Holm's p below {ALPHA:g})"
)
_TESTED = ("donor", "slide", "gene")  # units that are pairs
_KEYS = ("task", "protocol", "dataset_version", "unit", "metrics")


@dataclass(frozen=True)
class Mark:
    """A sign in a cell and what it says in words; both empty where nothing was tested."""

    sign: str = ""
    note: str = ""


@dataclass(frozen=True)
class PairedTests:
    """The tests of one table.

    Attributes:
        unit: what is paired: donor, slide, gene or cell.
        metrics: metric -> what `tasks.compare` tells of it.
        ablation: what `tasks.ablation` tells, row by row; None where none was asked for.
        accuracy: row -> its accuracy score; empty where the task has none.
    """

    unit: str = ""
    metrics: Mapping[str, Any] | None = None
    ablation: Mapping[str, Any] | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)

    @property
    def were_made(self) -> bool:
        """Whether any pair of rows had enough units to be tested."""
        return any(test["p_holm"] is not None for metric in self.metrics or {} for test in self._of(metric).values())

    def mark(self, metric: str, model: str) -> Mark:
        """Return the sign of a model's test against the best control."""
        test = self._of(metric).get(model)
        if test is None or test["p_holm"] is None:
            return Mark()
        gain = test["difference"] * direction(metric)
        sign = UNDECIDED if test["p_holm"] >= ALPHA or not gain else BETTER if gain > 0 else WORSE
        rival = test.get("control") or (self.metrics or {})[metric].get("best_control")
        note = (
            f"against the best control, {rival}: difference {test['difference']:+.3f}, {_p(test['p_holm'])} by Holm, "
            f"{test['n']} {self.unit}s"
        )
        return Mark(sign, note)

    def sentence(self) -> str:
        """Say what was tested, or why nothing was."""
        if self.metrics is None:
            return "rows were not tested against each other"
        if self.unit not in _TESTED:
            return f"rows were not tested against each other: {self.unit}s of the same slide are no independent pairs"
        if not self.were_made:
            return f"rows were not tested against each other: that takes {FEWEST_PAIRS} {self.unit}s"
        return f"rows are tested in pairs of {self.unit}s"

    def verdict(self, metric: str, model: str) -> str:
        """Say whether the best model's lead over the best control was borne out; empty where it was not tested."""
        sign = self.mark(metric, model).sign
        if not sign:
            return ""
        p = _p(self._of(metric)[model]["p_holm"])
        return f"a paired test {'shows no difference' if sign == UNDECIDED else 'bears the difference out'} ({p})"

    def _of(self, metric: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (self.metrics or {}).get(metric, {}).get("against_best_control", {})
        return found


def read_tests(paths: Sequence[Path], dataset_version: str) -> dict[tuple[str, str], PairedTests]:
    """Read what the stage compare wrote, by task and protocol.

    Raises:
        InputError: a file lacks a key, or was made from another version of the dataset.
    """
    found = {}
    for path in paths:
        result = read_json(path)
        missing = [key for key in _KEYS if key not in result]
        if missing:
            raise InputError(path, f"has no {missing[0]!r}", "run compare again")
        if result["dataset_version"] != dataset_version:
            what = f"was made from dataset {result['dataset_version'][:12]}, not from {dataset_version[:12]}"
            raise InputError(path, what, "run compare again")
        found[result["task"], result["protocol"]] = PairedTests(
            result["unit"], result["metrics"], result.get("ablation"), result.get("accuracy_score") or {}
        )
    return found


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
