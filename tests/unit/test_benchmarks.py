"""The gates themselves: what they let pass, and what they do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks import run, scale
from tests.benchmarks.bench import Gate


@pytest.mark.parametrize(("power", "passes"), [(0.9, True), (1.0, True), (1.3, False)])
def test_cost_may_grow_as_cells_do_and_no_faster(power: float, passes: bool) -> None:
    cpu_s = {n: 2 + 1e-3 * max(0, n - scale.START_CELLS) ** power for n in (scale.START_CELLS, 10_000, 100_000, 10**6)}
    gate = scale._cost("cut_crops", cpu_s)
    assert gate.ours == pytest.approx(power)
    assert gate.passed == passes


def test_a_stage_that_only_begins_has_no_exponent() -> None:
    gate = scale._cost("check_bundle", {scale.START_CELLS: 2.0, 10_000: 2.1, 100_000: 1.9, 10**6: 2.2})
    assert (gate.ours, gate.note[:11]) == (0.0, "start alone")


@pytest.mark.parametrize(
    ("stage", "peaks", "passed"),
    [
        ("project_image", (100, 110, 150), [True, True]),
        ("project_image", (100, 110, 250), [True, False]),  # below what it announces, and yet not flat
        ("read_cells", (100, 110, 900), [True]),  # announced to grow
        ("read_cells", (100, 110, 1000), [False]),
    ],
)
def test_memory_stays_within_what_is_announced(stage: str, peaks: tuple[int, ...], passed: list[bool]) -> None:
    sizes = (2000, 100_000, 1_000_000)
    figures = {n: {"peak_mib": peak, "mem_mb": 1000} for n, peak in zip(sizes, peaks, strict=True)}
    assert [gate.passed for gate in scale._memory(stage, figures)] == passed


def test_one_table_holds_the_gates_of_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"dataset": [Gate("a", "s", 1.0, 2.0, least=1.5)], "scale": [Gate("b", "", 3, limit=2), Gate("c", "s", 1)]}
    monkeypatch.setattr(run, "PARTS", {"dataset": ("whole",), "scale": ("scale",), "left": ("out",)})
    monkeypatch.setattr(run, "_apart", made.__getitem__)
    monkeypatch.setattr(sys, "argv", ["run.py", "all", "--only", "whole", "--only", "scale", "--work", str(tmp_path)])
    assert run.main() == 1
    table = capsys.readouterr().out
    assert "| dataset | a | 1 s | 2 s | 2.00x | >= 1.5x | ok |" in table
    assert "| scale | b | 3  |  |  | <= 2  | MISSED |" in table
    assert table.endswith("1 of 2 gates hold\n")  # nothing is wanted of c


def test_a_part_that_ends_early_is_a_missed_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "all"])
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (gate,) = run._apart("scale")
    assert not gate.passed
    assert gate.note == "exit status 1"
