from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.tasks import domains
from mistline.tasks.domain_folds import ring_graph
from mistline.tasks.domains import PROTOCOLS, Params
from tests.unit.tasks.divided import long

PARAMS = Params(label="layer", groups=(("a", "b"), ("c", "d")))
LABEL = "label_layer"
SPLIT = {"a": "train", "b": "train", "c": "val", "d": "gap", "e": "test", "f": "test"}


def folds(cells: pd.DataFrame, params: Params, protocol: str) -> pd.DataFrame:
    return long(domains.folds(cells, params, protocol))


def slide(name: str, donor: str, rows: int = 24, columns: int = 20) -> pd.DataFrame:
    """A honeycomb in four stripes; every eleventh spot has no label."""
    y, x = (values.ravel() for values in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    layer = np.array([f"L{row * 4 // rows}" for row in y], dtype=object)
    layer[::11] = None
    return pd.DataFrame(
        {
            "slide": name,
            "donor": donor,
            "cell_id": [f"{name}-{i}" for i in range(len(y))],
            "x_um": 50.0 * (2 * x + y % 2),
            "y_um": 50.0 * np.sqrt(3) * y,
            "array_row": y,
            "array_col": 2 * x + y % 2,
            LABEL: layer,
        }
    )


@pytest.fixture
def cells() -> pd.DataFrame:
    plan = {"a": "d1", "b": "d1", "c": "d1", "d": "d1", "e": "d2", "f": "d2"}
    found = pd.concat([slide(name, donor) for name, donor in plan.items()], ignore_index=True)
    return found.assign(split=found["slide"].map(SPLIT))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_cell_is_twice_in_a_fold_and_the_unlabelled_are_never_used(cells, protocol):
    found = folds(cells, PARAMS, protocol)
    assert not found.duplicated(["slide", "cell_id", "fold"]).any()
    label = found.merge(cells, on=["slide", "cell_id"])[LABEL]
    np.testing.assert_array_equal(label.isna(), found["part"] == "unlabelled")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_seed_gives_the_same_folds_and_another_seed_others(cells, protocol):
    found = folds(cells, PARAMS, protocol)
    pd.testing.assert_frame_equal(found, folds(cells, PARAMS, protocol))
    other = folds(cells, PARAMS.model_copy(update={"seed": 1}), protocol)
    assert found.equals(other) == (protocol in ("unsupervised", "dataset_split"))


def test_random_spots_are_sixty_twenty_twenty_of_every_class(cells):
    found = folds(cells, PARAMS, "random_spot").merge(cells, on=["slide", "cell_id"])
    share = found[found[LABEL].notna()].groupby(LABEL)["part"].value_counts(normalize=True).unstack()
    assert ((share["train"] - 0.6).abs() < 0.02).all()
    assert ((share["val"] - 0.2).abs() < 0.02).all()


def test_fewer_labels_are_a_part_of_more_and_the_test_stays(cells):
    parts = {p: folds(cells, PARAMS, p)["part"] for p in ("random_spot", "few_label_10", "few_label_1")}
    for few, more in (("few_label_1", "few_label_10"), ("few_label_10", "random_spot")):
        assert ((parts[few] == "train") <= (parts[more] == "train")).all()
        assert ((parts[few] == "test") == (parts[more] == "test")).all()
    assert (parts["few_label_10"] == "train").sum() < (parts["random_spot"] == "train").sum() / 4


def test_blocks_test_every_labelled_cell_once_with_rings_between(cells):
    found = folds(cells, PARAMS, "spatial_block").merge(cells, on=["slide", "cell_id"])
    tested = found[found["part"] == "test"]
    assert len(tested) == cells[LABEL].notna().sum()
    for _, fold in found[found["slide"] == "a"].groupby("fold"):
        xy = fold[["x_um", "y_um"]].to_numpy()
        train, test = (xy[(fold["part"].isin(part)).to_numpy()] for part in (("train", "val"), ("test",)))
        nearest = np.linalg.norm(train[:, None] - test[None], axis=2).min()
        assert nearest > 2 * 50 * np.sqrt(3) * 0.99  # further than two rings of neighbours 100 um apart


def test_a_group_goes_out_together_and_only_its_donor_trains(cells):
    found = folds(cells, PARAMS, "leave_group_out")
    for _, fold in found.groupby("fold"):
        test = set(fold.loc[fold["part"] == "test", "slide"])
        train = set(fold.loc[fold["part"] == "train", "slide"])
        assert test in ({"a", "b"}, {"c", "d"}, {"e"}, {"f"})
        assert not test & train
        donors = cells[cells["slide"].isin(test | train)]["donor"].unique()
        assert len(donors) == 1


def test_a_donor_goes_out_whole(cells):
    found = folds(cells, PARAMS, "leave_donor_out").merge(cells, on=["slide", "cell_id"])
    for _, fold in found.groupby("fold"):
        sides = {part: set(fold.loc[fold["part"] == part, "donor"]) for part in ("train", "val", "test")}
        assert len(sides["test"]) == 1
        assert sides["val"] <= sides["train"]
        assert not sides["test"] & sides["train"]


def test_the_split_of_the_dataset_is_one_fold(cells):
    found = folds(cells, PARAMS, "dataset_split").merge(cells, on=["slide", "cell_id"])
    assert set(found["fold"]) == {0}
    known = found[found[LABEL].notna()]
    assert (known["part"] == known["split"].replace("gap", "buffer")).all()
    with pytest.raises(InputError, match="needs labelled cells to train on and others to test"):
        folds(cells.assign(split="train"), PARAMS, "dataset_split")


def test_one_donor_cannot_be_left_out(cells):
    with pytest.raises(InputError, match="needs slides to train on and others to test"):
        folds(cells[cells["donor"] == "d2"].reset_index(drop=True), PARAMS, "leave_donor_out")


def test_an_unknown_label_names_those_there_are(cells):
    with pytest.raises(ConfigError, match=r"no slide has this label column \(there are: layer\)"):
        folds(cells, PARAMS.model_copy(update={"label": "domain"}), "random_spot")


@pytest.mark.parametrize("protocol", ["random_spot", "spatial_block"])
def test_cells_without_places_are_refused(cells, protocol):
    cells["x_um"] = np.nan
    with pytest.raises(InputError, match="asks for coordinates, and 6 slides have none, such as a"):
        folds(cells, PARAMS, protocol)


def test_a_slide_without_labels_takes_no_part(cells):
    cells.loc[cells["slide"] == "f", LABEL] = None
    assert "f" not in set(folds(cells, PARAMS, "random_spot")["slide"])


def test_rings_follow_the_array_where_there_is_one(cells):
    own = cells[cells["slide"] == "a"].reset_index(drop=True)
    assert ring_graph(own).sum(axis=1).max() == 6
    without = ring_graph(own.drop(columns=["array_row", "array_col"]))
    inside = (own["array_row"].between(2, 21) & own["array_col"].between(3, 36)).to_numpy()
    assert (np.asarray(without.sum(axis=1)).ravel()[inside] == 6).all()
