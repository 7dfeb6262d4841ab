"""The tasks section: what is judged is told honestly, drawn from files, and folded where it would be long."""

from __future__ import annotations

import csv
import re

import pytest

from mistline.config.report import Report
from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_json
from mistline.report.ablations import ablation_table
from mistline.report.embeddings import embedding_maps
from mistline.report.pictures import Album
from mistline.report.results import pair_answers
from mistline.report.results_tables import glance_table, score_table
from mistline.report.scores import read_comparisons
from mistline.report.significance import PairedTests, read_tests
from mistline.report.sources import open_slide
from mistline.stages.report import run
from tests.unit.report.conftest import Made
from tests.unit.report.judged import tests as written_tests
from tests.unit.report.judged import write_domains
from tests.unit.report.tree import write_tree


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("judged") / "ein Bericht"
    tree = write_tree(folder / "results")
    write_domains(tree)
    run(**tree.all_options(folder / "report"))
    return Made(tree, folder / "report")


@pytest.fixture(scope="module")
def random_spot(judged):
    """All rows of one table."""
    items = read_comparisons(judged.tree.scores, judged.tree.version)
    return next(item for item in items if item.protocol == "random_spot")


@pytest.fixture(scope="module")
def table(random_spot):
    """Of random_spot, with its tests."""
    return score_table(random_spot, PairedTests("slide", written_tests("v")["metrics"]), random_spot.metrics)


def line(table, name):
    row = next(row for row in table.rows if row.cells[0].text == name)
    return dict(zip([column.title for column in table.columns], row.cells, strict=True))


def test_scatter_interval_and_marks_stand_in_a_cell(table):
    found = line(table, "gcn")["ari"]
    assert (found.text, found.sub, found.tag) == ("0.805 ± 0.007", "[0.780, 0.830]", "▼")
    assert found.note == "against the best control, coordinates: difference -0.100, p = 0.030 by Holm, 6 slides"
    assert line(table, "mlp")["ari"].tag == ""
    assert (line(table, "coordinates")["ari"].mark, line(table, "coordinates")["ari"].tag) == ("best", "★")


def test_published_figures_stand_in_a_column_of_their_own(table):
    assert line(table, "gcn")["published ari"].value == 0.9
    assert line(table, "mlp")["published ari"].value is None
    other = line(table, "cross-attention")
    assert (other["kind"].text, other["ari"].text, other["published ari"].text) == ("published", "–", "0.928")
    assert not any(column.title == "published macro_f1" for column in table.columns)


def test_figures_of_another_protocol_are_not_shown(judged):
    items = read_comparisons(judged.tree.scores, judged.tree.version)
    few = next(item for item in items if item.protocol == "few_label_1")
    assert not any("published" in column.title for column in score_table(few, PairedTests(), few.metrics).columns)


def test_what_was_not_run_is_a_line(table):
    assert line(table, "peer")["note"].text == "not run: its wheel is missing"
    assert line(table, "pca")["note"].text == "not run: no gene is measured on every slide"
    assert line(table, "pca")["kind"].text == "control"


def test_the_page_names_the_control_that_wins(judged):
    assert "the control coordinates is best (0.900 [0.880, 0.920])" in judged.page
    assert "a paired test bears the difference out (p = 0.030). No model beats the controls here." in judged.page


def test_at_a_glance_a_control_that_wins_is_the_winner(judged):
    items = read_comparisons(judged.tree.scores, judged.tree.version)
    found = glance_table(items, [PairedTests() for _ in items])
    winners = {row.cells[1].text: row.cells[-1].text for row in found.rows if row.cells[0].text == "domains"}
    assert winners == {"few label 1": "control", "few label 10": "control", "random spot": "control"}


def test_steps_of_a_curve_are_folded_and_have_no_maps(judged):
    figures = {path.name for path in (judged.out / "figures").glob("*.png")}
    named = ("labels", "random_spot.confusion", "random_spot.calibration", "random_spot.border", "random_spot.s1.map")
    assert {f"domains.{name}.png" for name in named} <= figures
    assert {"pca.seed-0.embedding.png", "domains.random_spot.training.png"} <= figures
    assert not any(name.startswith("domains.few_label_1.s1") for name in figures)
    assert re.search(r"<summary><b>domains: few label 1</b>", judged.page)
    assert "<h4>domains: random spot</h4>" in judged.page


def test_the_map_says_how_much_is_right(judged):
    assert "s1: as labelled, and as the best model and a control see it (first seed). Grey cells" in judged.page


def test_the_csv_has_every_metric_in_full(judged):
    with (judged.out / "tables" / "domains.random_spot.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert float(rows["gcn"]["ece"]) == pytest.approx(0.805)
    assert float(rows["gcn"]["ari_sd_seeds"]) == pytest.approx(0.01 / 2**0.5)
    assert rows["coordinates"]["ari_sd_seeds"] == ""
    assert rows["cross-attention"]["published_ari"] == "0.928"
    assert (judged.out / "tables" / "results.csv").is_file()


def test_the_same_files_give_the_same_page(judged, tmp_path):
    run(**judged.tree.all_options(tmp_path / "again"))
    assert (tmp_path / "again" / "index.html").read_text(encoding="utf-8") == judged.page


def test_tests_of_another_dataset_are_refused(tmp_path):
    write_json(tmp_path / "t.json", written_tests("w"))
    with pytest.raises(InputError, match="made from dataset w, not from v; run compare again"):
        read_tests([tmp_path / "t.json"], "v")


@pytest.mark.parametrize(
    ("p_holm", "difference", "metric", "sign"),
    [(0.01, 0.2, "ari", "▲"), (0.01, -0.2, "ari", "▼"), (0.2, 0.2, "ari", "≈"), (0.01, -0.2, "log_loss", "▲")],
)
def test_a_mark_follows_the_direction_of_its_metric(p_holm, difference, metric, sign):
    test = {"n": 6, "difference": difference, "p": p_holm, "p_holm": p_holm}
    tests = PairedTests("donor", {metric: {"best_control": "pca", "against_best_control": {"m": test}}})
    assert tests.mark(metric, "m").sign == sign


def test_why_nothing_was_tested_is_told():
    assert "no independent pairs" in PairedTests("cell", {}).sentence()
    assert "takes 6 donors" in PairedTests("donor", {}).sentence()
    assert PairedTests("donor", {}).mark("ari", "m").sign == ""


def test_an_ablation_shows_what_each_row_adds(random_spot):
    gain = {"unit": "slide", "n": 6, "difference": 0.3, "low": 0.1, "high": 0.5, "p": 0.03, "sd_seeds": 0.02}
    rows = [
        {"row": "mlp", "kind": "step", "against": None, "metrics": {}},
        {"row": "gcn", "kind": "variant", "against": "mlp", "metrics": {"ari": gain | {"is_better": True}}},
    ]
    tests = PairedTests("slide", {}, {"metrics": ["ari", "log_loss"], "rows": rows})
    table = ablation_table(random_spot, tests)
    assert [column.title for column in table.columns[3:]] == ["ari", "log_loss"]
    first, second = table.rows
    assert [cell.text for cell in first.cells[:3]] == ["mlp", "step", "–"]
    assert [cell.text for cell in second.cells[:3]] == ["gcn", "variant", "mlp"]
    assert (first.cells[3].sub, second.cells[4].sub) == ("", "")  # no difference, so the score alone
    shown = second.cells[3]
    assert (shown.tag, shown.sub) == ("▲", "+0.300 ± 0.020\n[+0.100, +0.500]")
    assert shown.parts[3:] == (0.3, 0.1, 0.5, 0.02)
    assert "paired over 6 slides" in shown.note
    assert "paired over slides [95 % interval]" in table.caption
    assert "Means over 2 seeds ± their standard deviation. Lower is better: log_loss." in table.caption
    assert ablation_table(random_spot, PairedTests("slide", {})) is None


def test_answers_are_given_for_all_or_none(tmp_path):
    assert pair_answers([tmp_path], []) == {}
    with pytest.raises(ConfigError, match="1 evaluations and 2 files of answers"):
        pair_answers([tmp_path], [tmp_path, tmp_path])


def test_damaged_answers_are_refused(judged, tmp_path):
    options = judged.tree.all_options(tmp_path)
    damaged = {path: tmp_path / f"{number}.parquet" for number, path in enumerate(options["answers"])}
    for path, copy in damaged.items():
        copy.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"\d\.parquet: .*(again|parquet)"):
        run(**options | {"answers": list(damaged.values())})
    assert not options["page"].exists()


def refused(judged, out, error, match, **changes):
    with pytest.raises(error, match=match):
        run(**judged.tree.all_options(out) | changes)
    assert not out.exists() or not any(path.is_file() for path in out.rglob("*"))


def test_courses_without_a_name_are_refused(judged, tmp_path):
    refused(judged, tmp_path / "out", ConfigError, "courses and 0 names", course_names=[])
    names = ["gcn" for _ in judged.tree.all_options(tmp_path)["courses"]]
    refused(judged, tmp_path / "out", ConfigError, "'gcn' does not say what a course is of", course_names=names)


def test_embeddings_of_other_slides_or_another_dataset_are_refused(judged, tmp_path):
    files = judged.tree.all_options(tmp_path)["embeddings"]
    slides = [
        open_slide(judged.tree.root, judged.tree.root / "dataset/splits", entry, []) for entry in judged.tree.entries
    ]
    album = Album(tmp_path, 10_000, 0)
    with pytest.raises(ConfigError, match="1 embeddings for 2 slides"):
        embedding_maps(files[:1], slides, judged.tree.version, Report(), album)
    with pytest.raises(InputError, match="made from another version of the dataset; run embed again"):
        embedding_maps(files, slides, "w", Report(), album)
