"""Comparisons: who wins is said honestly."""

from __future__ import annotations

import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_json
from mistline.report.page import _headline
from mistline.report.results_tables import score_table
from mistline.report.scores import Value, format_value, overlap, read_comparisons
from mistline.report.significance import PairedTests
from tests.unit.report.tree import score


@pytest.fixture
def compare(tmp_path):
    def read(*results):
        paths = [tmp_path / f"{number}.json" for number in range(len(results))]
        for path, result in zip(paths, results, strict=True):
            write_json(path, result)
        return read_comparisons(paths, "v")[0]

    return read


def test_a_control_that_wins_is_the_winner(compare):
    found = compare(score("v", "deep", 0, 0.4))
    assert [entry.name for entry in found.best("ari")] == ["coordinates"]
    assert found.beaten_by_control("ari")
    text = found.verdict("ari")
    assert "the control coordinates is best (0.550 [0.500, 0.600])" in text
    assert "the best model is deep" in text
    assert text.endswith("No model beats the controls here.")


def test_a_model_that_wins_is_said_to_overlap_or_not(compare):
    clear = compare(score("v", "deep", 0, 0.8))
    assert not clear.beaten_by_control("ari")
    assert "overlap" not in clear.verdict("ari")
    close = compare(score("v", "deep", 0, 0.6))
    assert "intervals overlap, so this may be chance" in close.verdict("ari")


def test_a_paired_test_decides_where_intervals_overlap(compare):
    close = compare(score("v", "deep", 0, 0.6))
    told = close.verdict("ari", "a paired test bears the difference out (p = 0.001)")
    assert "their intervals overlap, and a paired test bears the difference out (p = 0.001)" in told
    assert "chance" not in told


def test_a_tie_goes_to_nobody(compare):
    found = compare(score("v", "deep", 0, 0.55))
    assert {entry.name for entry in found.best("ari")} == {"deep", "coordinates"}
    assert found.beaten_by_control("ari")
    assert "the model deep and the control coordinates share the best value" in found.verdict("ari")


def test_lower_is_better_where_it_is(compare):
    found = compare(score("v", "deep", 0, 0.4))
    assert [entry.name for entry in found.best("log_loss")] == ["coordinates"]


def test_an_unknown_metric_has_no_winner(compare):
    result = score("v", "deep", 0, 0.4)
    result["metrics"]["glow"] = {"value": 3.0, "low": None, "high": None}
    found = compare(result)
    assert found.best("glow") == ()
    assert "no winner is marked" in found.verdict("glow")


def test_seeds_are_pooled_with_the_widest_bounds(compare):
    found = compare(score("v", "deep", 1, 0.4), score("v", "deep", 0, 0.5))
    deep = found.entries[0]
    assert (deep.name, deep.seeds) == ("deep", (0, 1))
    assert (deep.values["ari"].value, deep.values["ari"].low, deep.values["ari"].high) == pytest.approx(
        (0.45, 0.35, 0.55)
    )


def test_a_control_is_one_row_unless_it_depends_on_the_model(compare):
    found = compare(score("v", "a", 0, 0.4), score("v", "b", 0, 0.5))
    assert [entry.name for entry in found.entries if entry.is_control] == [
        "coordinates",
        "shuffled (a)",
        "shuffled (b)",
    ]


def test_models_with_truths_of_their_own_are_no_rivals_and_neither_are_their_controls(compare):
    one, other = ({**score("v", name, 0, value), "own_truth": True} for name, value in (("deep", 0.6), ("flat", 0.3)))
    one["controls"]["coordinates"]["ari"] = {"value": 0.1, "low": None, "high": None}
    other["controls"]["coordinates"]["ari"] = {"value": 0.9, "low": None, "high": None}
    found = compare(one, other)
    assert [entry.name for entry in found.best("ari")] == ["coordinates (flat)", "deep"]
    assert [entry.name for entry in found.contenders("ari")] == ["deep", "coordinates (deep)"]
    assert not found.beaten_by_control("ari")
    verdict = found.verdict("ari")
    assert "deep (0.600 [0.550, 0.650]) beats coordinates (deep) (0.100 (no interval))" in verdict
    assert "flat (0.300 [0.250, 0.350]) does not beat coordinates (flat) (0.900 (no interval))" in verdict


def test_the_metric_to_quote_comes_first(compare):
    result = score("v", "deep", 0, 0.4)
    result["metrics"]["ami"] = result["metrics"]["ari"]
    assert compare(result).metrics == ("ari", "ami", "log_loss")


def test_oracles_are_known_by_their_settings(compare):
    result = score("v", "deep", 0, 0.4)
    assert not compare(result).is_oracle
    result["settings"]["oracle"] = True
    assert compare(result).is_oracle


def test_another_version_of_the_dataset_is_refused(compare):
    with pytest.raises(InputError, match=r"made from dataset w, not from v; run evaluate again"):
        compare(score("w", "deep", 0, 0.4))


def test_models_judged_on_different_items_are_refused(compare):
    with pytest.raises(InputError, match="b was judged on 7 items by donor, a on 40 by donor"):
        compare(score("v", "a", 0, 0.4), score("v", "b", 0, 0.4) | {"n": 7})


def test_a_file_without_a_key_is_refused(compare):
    result = score("v", "deep", 0, 0.4)
    del result["unit"]
    with pytest.raises(InputError, match="has no 'unit'"):
        compare(result)


def test_values_without_interval():
    alone = Value(0.5, None, None)
    assert format_value(alone) == "0.500 (no interval)"
    assert overlap(alone, Value(0.4, 0.3, 0.5))
    assert not overlap(alone, Value(0.4, 0.3, 0.49))


def test_the_scatter_over_seeds_is_told(compare):
    found = compare(score("v", "deep", 1, 0.4), score("v", "deep", 0, 0.5))
    assert found.entries[0].values["ari"].sd == pytest.approx(0.1 / 2**0.5)
    assert compare(score("v", "deep", 1, 0.4)).entries[0].values["ari"].sd is None


def test_what_could_not_be_run_is_told_and_not_scored(compare):
    peer = score("v", "peer", 0, 0.4) | {"metrics": {}, "controls": {}, "n": 0, "not_run": "no wheel for this machine"}
    controls = score("v", "controls", 0, 0.4) | {"metrics": {}, "settings": {"left_out": {"pca": "no common gene"}}}
    found = compare(score("v", "deep", 0, 0.8), peer, controls)
    assert [(row.name, row.is_control, row.reason) for row in found.not_run] == [
        ("peer", False, "no wheel for this machine"),
        ("pca", True, "no common gene"),
    ]
    assert "peer" not in [entry.name for entry in found.entries]
    assert found.n == 40


def test_a_ceiling_is_shown_apart_and_beats_nobody(compare):
    result = score("v", "deep", 0, 0.8)
    result["ceilings"] = {"real": {"ari": {"value": 1.0, "low": 0.9, "high": 1.0}}}
    result["settings"]["ceilings"] = {"real": {"what": "the truth itself"}}
    found = compare(result)
    assert [(row.name, row.note, row.is_control) for row in found.ceilings] == [("real", "the truth itself", False)]
    assert [entry.name for entry in found.best("ari")] == ["deep"]
    assert "real" not in found.verdict("ari")
    table = score_table(found, PairedTests(), ["ari"])
    kinds = {line.cells[0].text: (line.cells[1].text, line.cells[2].tag) for line in table.rows}
    assert kinds["real"] == ("ceiling", "")
    assert kinds["deep"] == ("model", "★")
    assert "is not ranked" in table.caption
    assert "ceiling" not in score_table(compare(score("v", "deep", 0, 0.8)), PairedTests(), ["ari"]).caption


def test_a_ceiling_that_depends_on_the_model_is_named_after_it(compare):
    results = [score("v", model, 0, 0.4) for model in ("a", "b")]
    for value, result in enumerate(results):
        result["ceilings"] = {"autoencoder": {"ari": {"value": value, "low": value, "high": value}}}
    assert [row.name for row in compare(*results).ceilings] == ["autoencoder (a)", "autoencoder (b)"]


def test_a_lead_that_its_test_does_not_bear_out_is_no_good_news(compare):
    item = compare(score("v", "deep", 0, 0.6))
    for p_holm, is_warning in ((0.3, True), (0.001, False)):
        test = {"n": 8, "difference": 0.2, "p": p_holm, "p_holm": p_holm}
        tests = PairedTests("donor", {"ari": {"best_control": "coordinates", "against_best_control": {"deep": test}}})
        assert _headline(item, tests).is_warning == is_warning
