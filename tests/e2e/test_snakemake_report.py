"""Snakemake's own page of a finished run: the report, its tables and the paired tests, each with its caption."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Snakemake
from tests.e2e.conftest import options


def test_the_page_holds_the_report_the_tables_and_the_tests(
    toy_run: Path, tmp_path: Path, snakemake: Snakemake
) -> None:
    page = tmp_path / "snakemake.html"
    run = snakemake("--report", page, *options(toy_run), "all")
    assert run.returncode == 0, run.stdout + run.stderr
    text = page.read_text()
    for name, caption in {
        "results/report/index.html": "as one page that opens from disk",
        "results/report/tables/clustering.fixed_resolution.csv": "One table of the report as CSV",
        "results/evaluation/clustering/fixed_resolution.json": "task clustering, protocol fixed_resolution",
    }.items():
        assert name in text
        assert caption in text
