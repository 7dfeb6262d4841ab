from __future__ import annotations

import numpy as np
import pytest

from mistline.core.seeds import generator
from mistline.tasks.stats import (
    bootstrap_tables,
    choose_unit,
    interval,
    resample_tables,
    tables_by_unit,
)


def _accuracy(tables):
    return np.trace(tables, axis1=1, axis2=2) / tables.sum(axis=(1, 2))


def test_donors_are_resampled_where_there_are_five():
    donors = np.array(["d1", "d2", "d3", "d4", "d5", "d5"])
    unit = choose_unit(donors, np.array(list("abcdef")))
    assert (unit.name, unit.n_units) == ("donor", 5)
    np.testing.assert_array_equal(unit.codes, [0, 1, 2, 3, 4, 4])


def test_slides_come_next():
    assert choose_unit(np.array(["d1"] * 6), np.array(list("abcdef"))).name == "slide"


def test_few_slides_leave_cells_and_say_so():
    unit = choose_unit(np.array(["d1", "d2"]), np.array(["a", "b"]))
    assert unit.name == "cell"
    assert "within these slides only" in unit.note


def test_tables_add_up_to_the_plain_contingency():
    rng = np.random.default_rng(0)
    first, second, donors = rng.integers(0, 3, 200), rng.integers(0, 4, 200), rng.integers(0, 6, 200).astype(str)
    tables = tables_by_unit(choose_unit(donors, donors), first, second, (3, 4))
    assert tables.shape == (6, 3, 4)
    for k in range(3):
        for label in range(4):
            assert tables[:, k, label].sum() == ((first == k) & (second == label)).sum()


@pytest.mark.parametrize("n_donors", [1, 8])
def test_replicates_keep_their_size_and_centre(n_donors):
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(n_donors), 400 // n_donors).astype(str)
    first, second = rng.integers(0, 3, 400), rng.integers(0, 3, 400)
    unit = choose_unit(donors, donors)
    tables = tables_by_unit(unit, first, second, (3, 3))
    replicates = resample_tables(unit, tables, 2000, generator(0, "test"))
    assert (replicates.sum(axis=(1, 2)) == 400).all()
    np.testing.assert_allclose(replicates.mean(axis=0), tables.sum(axis=0), rtol=0.1)


def test_cell_interval_agrees_with_the_binomial():
    table = np.array([[300, 50], [50, 100]])
    unit = choose_unit(np.array(["d"]), np.array(["s"]))
    replicates = resample_tables(unit, table[None], 4000, generator(0, "test"))
    found = bootstrap_tables(_accuracy, table, replicates, 0.95, (0, 1))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 500)
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.004)


def test_donors_that_differ_widen_the_interval():
    good, bad = np.array([[50, 0], [0, 50]]), np.array([[25, 25], [25, 25]])
    tables = np.array([good, bad] * 3)
    donors = np.arange(6).astype(str)
    by_donor = choose_unit(donors, donors)
    by_cell = choose_unit(donors[:1], donors[:1])
    widths = []
    for unit in (by_donor, by_cell):
        part = tables if unit.name == "donor" else tables.sum(axis=0)[None]
        found = bootstrap_tables(
            _accuracy, tables.sum(axis=0), resample_tables(unit, part, 1000, generator(0, "t")), 0.95, (0, 1)
        )
        widths.append(found.high - found.low)
    assert widths[0] > 3 * widths[1]


def test_interval_holds_the_estimate_although_the_draws_are_biased():
    draws = np.random.default_rng(0).normal(0.3, 0.01, 500)
    found = interval(0.0, draws, 0.95, (-1, 1))
    assert found.low < 0 < found.high
    assert found.high - found.low == pytest.approx(0.04, abs=0.006)


def test_same_seed_same_draws():
    unit = choose_unit(np.array(["d"]), np.array(["s"]))
    tables = np.array([[[5, 6], [7, 8]]])
    one, two = (resample_tables(unit, tables, 100, generator(3, "x")) for _ in range(2))
    np.testing.assert_array_equal(one, two)
