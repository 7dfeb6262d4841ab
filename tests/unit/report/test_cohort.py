"""What is said of splits and exclusions."""

from __future__ import annotations

import pytest

from mistline.report import cohort, metacells
from tests.unit.report.tree import quality, splits

ENTRIES = [{"slide": "s1", "donor": "d1"}, {"slide": "s2", "donor": "d2"}]
SIDES = {"s1": "train", "s2": "test"}


def divided(**leakage) -> dict:
    found = splits(ENTRIES, SIDES)
    return found | {"leakage": found["leakage"] | leakage}


def test_a_clean_division_is_good_news():
    notice = cohort.leak_notice(divided())
    assert not notice.is_warning
    assert notice.text.endswith("and no donor is on two sides.")


@pytest.mark.parametrize("leak", [{"tiles_shared": 3}, {"donors_on_two_sides": ["d1"]}])
def test_a_leak_is_a_warning(leak):
    notice = cohort.leak_notice(divided(**leak))
    assert notice.is_warning
    assert notice.text.startswith("Leakage:")


def test_a_division_by_place_says_what_it_cannot_show():
    found = divided(nearest_um=230.04, donors_on_two_sides=["d1"]) | {"scheme": "spatial"}
    notice = cohort.leak_notice(found)
    assert notice.is_warning
    assert "at least 230.0 µm apart. 1 of 2 donors are on more than one side" in notice.text
    assert "contiguous blocks with a gap" in cohort.splits_sentence(found)


def test_cohorts_without_held_out_cells_show_dashes():
    found = quality() | {"held_out": None}
    lines = metacells.quality_table(found).rows
    assert [line.cells[1].text for line in lines[:3]] == ["40", "0", "0.500"]
    assert {line.cells[2].text for line in lines} == {"–"}


def test_rare_types_are_named_and_long_lists_are_not_listed():
    found = quality()
    assert [line.cells[4].text for line in metacells.labels_table(found).rows] == ["", "", "rare"]
    found["train"]["labels"]["kind"]["recall"] = {f"type{number}": 0.5 for number in range(31)}
    (line,) = metacells.labels_table(found).rows
    assert line.cells[4].text == "31 types, not listed one by one"
