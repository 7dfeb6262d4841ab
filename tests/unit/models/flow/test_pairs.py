from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from mistline.models.flow.pairs import Transport, match, pair, sides_of


def cells(n: int = 60, seed: int = 0) -> pd.DataFrame:
    """Cells of two states and a third, in two groups and all splits, some without state or group."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"cell_id": [f"c{number:03d}" for number in range(n)]})
    table["state"] = rng.choice(["A", "B", "C", None], n, p=[0.35, 0.35, 0.2, 0.1])
    table["group"] = rng.choice(["g", "h", None], n, p=[0.45, 0.45, 0.1])
    table["split"] = rng.choice(["train", "val", "test", "gap"], n, p=[0.4, 0.2, 0.3, 0.1])
    return table.astype(object).where(table.notna(), None)


def scores(table: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(len(table), 5)).astype(np.float32)


QUICK = Transport(iterations=5)


def paired(table: pd.DataFrame, how: Transport, seed: int = 0) -> pd.DataFrame:
    found = scores(table)
    sides = list(sides_of(table, [("A", "B"), ("B", "C")], how, seed, "s"))
    return pair(table, sides, lambda rows: found[rows], how)


def test_a_planted_matching_is_found_whatever_the_order_and_the_unit_of_cost():
    rng = np.random.default_rng(0)
    control = rng.normal(size=(40, 6))
    turn = rng.permutation(40)
    target = (control + 2 * np.eye(6)[0] + 0.05 * rng.normal(size=(40, 6)))[turn]
    for unit in (1.0, 1000.0):
        at, share = match(control * unit, target * unit, Transport())
        np.testing.assert_array_equal(turn[at[:, 0]], np.arange(40))
        assert share.mean() > 0.7
    nearest = np.linalg.norm(control[:, None] - target, axis=2).argmin(axis=1)
    assert (turn[nearest] == np.arange(40)).mean() < 0.5  # each for itself finds the shifted cells badly


def test_confidence_is_the_row_maximum_over_the_row_sum_and_falls_with_choice():
    target = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0], [9.0, 0.0]])
    control = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [9.0, 0.0]])
    at, share = match(control, target, Transport(targets=3))
    assert at[2, 0] == 2
    assert at[3, 0] == 3
    np.testing.assert_allclose(share[2:, 0], 1, atol=1e-3)
    np.testing.assert_allclose(share[:2, :2], 0.5, atol=1e-2)  # two copies of one target share a control cell
    assert (np.diff(share, axis=1) <= 0).all()
    assert (share.sum(axis=1) <= 1 + 1e-9).all()


def test_cells_all_alike_are_matched_to_anyone_with_the_least_confidence():
    at, share = match(np.zeros((3, 2)), np.zeros((4, 2)), Transport())
    np.testing.assert_array_equal(at, 0)
    np.testing.assert_allclose(share, 0.25)


def test_two_cells_of_a_pair_are_of_one_split_and_one_group_and_none_of_the_gap():
    table = cells()
    found = paired(table, QUICK)
    assert set(found["split"]) == {"train", "val", "test"}
    of = table.set_index("cell_id")
    for side, state in (("control_id", 0), ("target_id", 1)):
        own = of.loc[found[side]]
        assert (own["split"].to_numpy() == found["split"].to_numpy()).all()
        assert (own["group"].to_numpy() == found["group"].to_numpy()).all()
        states = [name.split(" -> ")[state] for name in found["transition"]]
        assert own["state"].tolist() == states
    sizes = found.groupby(["transition", "split", "group"])["control_id"].nunique()
    assert (sizes >= 2).all()


def test_pairs_of_training_do_not_change_with_anything_of_the_test_cells():
    table = cells()
    is_test = (table["split"] == "test").to_numpy()
    other = table.copy()
    other.loc[is_test, "state"] = np.random.default_rng(1).permutation(table.loc[is_test, "state"])
    both = [paired(table, QUICK), paired(other, QUICK)]
    kept = [found[found["split"] == "train"].reset_index(drop=True) for found in both]
    pd.testing.assert_frame_equal(*kept)
    assert len(kept[0])


def test_a_large_side_is_drawn_by_the_seed_and_a_small_one_gives_nothing():
    table = cells(200)
    few = Transport(max_cells=4, iterations=5)
    found = paired(table, few)
    assert found.groupby(["transition", "split", "group"])["control_id"].nunique().max() == 4
    pd.testing.assert_frame_equal(found, paired(table.copy(), few))
    assert set(found["control_id"]) != set(paired(table, few, seed=1)["control_id"])
    assert paired(table, Transport(min_cells=100)).empty


def test_further_entries_of_the_plan_are_kept_where_they_are_asked_for():
    table = cells(200)
    one, three = paired(table, QUICK), paired(table, Transport(targets=3, iterations=5))
    first = three.drop_duplicates(["transition", "split", "group", "control_id"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(first, one)
    assert len(three) > 2 * len(one)
    assert (three["confidence"] > 0).all()


def test_matching_brings_no_backend_of_pot_with_it():
    match(np.eye(2), np.eye(2), Transport())
    assert not {"jax", "tensorflow", "cupy"} & set(sys.modules)
    assert "ot" in sys.modules  # codespell:ignore ot
