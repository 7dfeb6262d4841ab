"""Sidecars and benchmark files as tables."""

from __future__ import annotations

import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_json
from mistline.core.provenance import record
from mistline.report.origins import benchmarks_table, read_origins, stages_table, versions

HEAD = "s\th:m:s\tmax_rss\tmax_vms\n"


def shown(table) -> list[list[str]]:
    return [[field.text for field in line.cells] for line in table.rows]


def test_two_states_of_the_code_are_told(tmp_path):
    for number, code in enumerate(("aaa", "bbb")):
        path = tmp_path / "slides" / str(number) / "cells.json"
        write_json(path, {})
        record("read_cells", outputs=[path], inputs={}, params={"min_counts": 1, "slide": str(number)}, code=code)
    origins, sidecars = read_origins([tmp_path / "slides/0", tmp_path / "slides/1"], tmp_path / "dataset", [])
    assert shown(stages_table(origins)) == [
        ["read_cells", "2", "0.1.0", "aaa, bbb", "made by more than one state of the code"]
    ]
    assert len(origins[0].settings) == 1
    sidecars[0]["versions"]["numpy"] = "0.9"
    assert dict(versions(sidecars))["numpy"].startswith("0.9, ")


def test_benchmarks_are_summed_by_rule(tmp_path):
    folder = tmp_path / "benchmarks"
    (folder / "cut_crops").mkdir(parents=True)
    (folder / "cut_crops/s1.tsv").write_text(HEAD + "10.5\t0:00:10\t120.4\t300\n")
    (folder / "cut_crops/s2.tsv").write_text(HEAD + "2.5\t0:00:02\tNA\tNA\n")
    (folder / "make_splits.tsv").write_text(HEAD + "0.1\t0:00:00\t-\t-\n")
    assert shown(benchmarks_table(list(folder.rglob("*.tsv")))) == [
        ["cut_crops", "2", "13.0", "10.5", "120"],
        ["make_splits", "1", "0.1", "0.1", "–"],
    ]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="not a benchmark file"):
        benchmarks_table([path])
