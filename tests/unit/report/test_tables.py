"""Tables: what is shown, and what the CSV holds."""

from __future__ import annotations

import csv

from mistline.report.tables import Table, cell, columns, row, share, write_csv


def test_numbers_are_shown_rounded_and_kept_whole():
    assert (cell(1234567).text, cell(1234567).sort) == ("1,234,567", 1234567)
    assert (cell(0.123456, 3).text, cell(0.123456, 3).value) == ("0.123", 0.123456)
    assert (cell(None).text, cell(None).sort) == ("–", None)
    assert cell("10").sort is None


def test_a_share_of_nothing_is_no_number():
    assert share(0, 0).text == "–"
    assert share(0, 5).text == "0 %"
    assert share(1, 3).text == "33.33 %"


def test_csv_is_plain_and_empty_where_there_is_no_value(tmp_path):
    table = Table("t", "c", columns("a b", "n (µm)", numeric=("n (µm)",)), (row('x,"y"', 0.1 + 0.2), row("", None)))
    write_csv(table, tmp_path)
    lines = list(csv.reader((tmp_path / "t.csv").open(encoding="utf-8")))
    assert lines == [["a_b", "n_µm"], ['x,"y"', str(0.1 + 0.2)], ["", ""]]


def test_score_csv_has_bounds_and_marks_no_format(made):
    lines = list(csv.DictReader((made.out / "tables" / "clustering.fixed.csv").open(encoding="utf-8")))
    by_name = {line["name"]: line for line in lines}
    assert by_name["coordinates"]["kind"] == "control"
    assert float(by_name["coordinates"]["ari"]) == 0.55
    assert (float(by_name["pca"]["ari_low"]), float(by_name["pca"]["ari_high"])) == (0.36, 0.48)
    assert by_name["pca"]["seeds"] == "0 1"


def test_exclusions_add_up(made):
    for line in csv.DictReader((made.out / "tables" / "exclusions.csv").open(encoding="utf-8")):
        excluded = sum(int(line[name]) for name in ("no_polygon", "too_few_counts", "outside_the_image"))
        assert int(line["read"]) - excluded == int(line["kept"])
