"""A slide of three stripes on a hexagonal array, 24 x 24; what the task says of answers that are known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from threadpoolctl import threadpool_info, threadpool_limits

from mistline.core.errors import ConfigError, InputError
from mistline.graphs.build import hexagonal
from mistline.tasks import domain_rows, domains
from mistline.tasks.domains import PROTOCOLS, Params, evaluate
from tests.unit.tasks.divided import long, wide

PARAMS = Params(label="layer", bootstrap=100)
CLASSES = ("a", "b", "c")


@dataclass
class Memory:
    """`Inputs` without files."""

    table: pd.DataFrame
    division: pd.DataFrame
    answers: pd.DataFrame | None = None
    points: np.ndarray | None = None
    matrix: sparse.csr_matrix | None = None
    values: str = "counts"
    genes: tuple[str, ...] = field(default=())

    @property
    def is_controls(self):
        return self.answers is None and self.points is None

    @property
    def has_predictions(self):
        return self.answers is not None

    def cells(self, *splits, **rest):
        return self.table

    def folds(self):
        return wide(self.division, self.table)

    def predictions(self):
        return self.answers

    def embedding(self, cells):
        return self.points[cells.index.to_numpy()]  # as `cells` numbers them

    def counts(self, cells, genes):
        return self.matrix[cells["row"].to_numpy()]

    def common_genes(self):
        return self.genes


def folds(table: pd.DataFrame, params: Params, protocol: str) -> pd.DataFrame:
    return long(domains.folds(table, params, protocol))


def slide(name: str = "s", donor: str = "d", seed: int = 0, side: int = 24, n_unlabelled: int = 20) -> pd.DataFrame:
    row, place = np.divmod(np.arange(side * side), side)
    column = 2 * place + row % 2
    layer = np.array(CLASSES, dtype=object)[row * 3 // side]
    layer[np.random.default_rng(seed).choice(len(layer), n_unlabelled, replace=False)] = None
    about = {"slide": name, "donor": donor, "row": np.arange(len(row))}
    about["cell_id"] = [f"{name}-{i}" for i in range(len(row))]
    places = {"x_um": column * 50.0, "y_um": row * 50 * np.sqrt(3), "array_row": row, "array_col": column}
    return pd.DataFrame({**about, **places, "split": "train", "label_layer": layer})


def answered(table: pd.DataFrame, division: pd.DataFrame, said: np.ndarray, sure: float = 0.97) -> Memory:
    """Return inputs whose model says `said` [n] of every cell."""
    rest = (1 - sure) / (len(CLASSES) - 1)
    index = pd.MultiIndex.from_frame(table[["slide", "cell_id"]])
    asked = division[division["part"].isin(["val", "test"])].reset_index(drop=True)
    row = index.get_indexer(pd.MultiIndex.from_frame(asked[["slide", "cell_id"]]))
    columns = {f"p_{name}": np.where(said[row] == name, sure, rest) for name in CLASSES}
    return Memory(table, division, answers=asked.assign(**columns))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return slide()


@pytest.fixture(scope="module")
def division(table) -> pd.DataFrame:
    return folds(table, PARAMS, "random_spot")


def _truth(table: pd.DataFrame) -> np.ndarray:
    return table["label_layer"].fillna("a").to_numpy(dtype=object)


def _tested(table: pd.DataFrame, division: pd.DataFrame) -> np.ndarray:
    return table["cell_id"].isin(division.loc[division["part"] == "test", "cell_id"]).to_numpy()


def test_right_answers_score_one(table, division):
    scores = evaluate(answered(table, division, _truth(table)), PARAMS, "random_spot")
    metrics = {name: estimate.value for name, estimate in scores.model.metrics.items()}
    for name in ("ari", "nmi", "accuracy", "top2", "macro_f1", "ring_accuracy", "interior_accuracy"):
        assert metrics[name] == pytest.approx(1), name
    assert metrics["log_loss"] == pytest.approx(-np.log(0.97))
    assert metrics["ece"] == pytest.approx(0.03)
    assert scores.n == _tested(table, division).sum()


def test_mistakes_are_counted_where_they_are(table, division):
    """Every tested spot at a border is wrong, every other one right; borders by brute force over the six offsets."""
    truth, tested = _truth(table), _tested(table, division)
    known = table["label_layer"].notna().to_numpy()
    at = {(r, c): i for i, (r, c) in enumerate(zip(table["array_row"], table["array_col"], strict=True))}
    ring = np.zeros(len(table), dtype=bool)
    for (r, c), i in at.items():
        near = [at.get((r + dr, c + dc)) for dr, dc in ((0, 2), (0, -2), (1, 1), (1, -1), (-1, 1), (-1, -1))]
        ring[i] = any(j is not None and known[i] and known[j] and truth[i] != truth[j] for j in near)
    said = np.where(ring, np.where(truth == "a", "b", "a"), truth)
    metrics = evaluate(answered(table, division, said), PARAMS, "random_spot").model.metrics
    assert metrics["ring_accuracy"].value == 0
    assert metrics["interior_accuracy"].value == 1
    assert metrics["accuracy"].value == pytest.approx(1 - ring[tested].mean())
    assert (ring & tested).sum() > 10


def test_unlabelled_spots_are_never_scored(table, division):
    truth = _truth(table)
    said = np.where(table["label_layer"].isna(), "c", truth)
    one = evaluate(answered(table, division, said), PARAMS, "random_spot")
    assert one.model.metrics["accuracy"].value == 1
    assert one.settings["n_unlabelled"] == 20
    assert not set(table.loc[table["label_layer"].isna(), "cell_id"]) & set(one.scored["cell_id"])


def _with_genes(table: pd.DataFrame, division: pd.DataFrame) -> Memory:
    rng = np.random.default_rng(0)
    kind = table["label_layer"].map({name: i for i, name in enumerate(CLASSES)}).fillna(0).to_numpy(dtype=int)
    rate = 1 + 3 * np.eye(3)[kind][:, np.arange(12) % 3]
    matrix = sparse.csr_matrix(rng.poisson(rate).astype(np.int32))
    return Memory(table, division, matrix=matrix, genes=tuple(f"g{i}" for i in range(12)))


def test_places_alone_win_at_random_spots_and_lose_in_blocks(table, division):
    at_random = evaluate(_with_genes(table, division), PARAMS, "random_spot").controls
    assert set(at_random) == {
        "majority",
        "coordinates",
        "pca",
        "neighbour_mean",
        "own_and_neighbours",
        "knn_neighbours",
    }
    assert at_random["coordinates"].metrics["accuracy"].value > 0.9
    assert at_random["majority"].metrics["ari"].value == 0
    blocks = folds(table, PARAMS, "spatial_block")
    in_blocks = evaluate(_with_genes(table, blocks), PARAMS, "spatial_block").controls
    assert in_blocks["coordinates"].metrics["accuracy"].value < 0.8
    for name in ("neighbour_mean", "own_and_neighbours", "knn_neighbours"):
        assert in_blocks[name].metrics["accuracy"].value > 0.9, name
    assert (
        in_blocks["knn_neighbours"].metrics["accuracy"].value != in_blocks["neighbour_mean"].metrics["accuracy"].value
    )


def test_labels_of_other_slides_at_the_same_places_say_nothing():
    """Two slides in one fold have the same places and other stripes."""
    one = slide("s", "d", side=18, n_unlabelled=0)
    turned = one["label_layer"].map(dict(zip(CLASSES, "bca", strict=True)))
    other = one.assign(slide="t", donor="e", cell_id="t-" + one["cell_id"], label_layer=turned)
    split = np.random.default_rng(0).choice(["train", "val", "test"], len(one), p=[0.5, 0.1, 0.4])
    table = pd.concat([own.assign(split=split) for own in (one, other)], ignore_index=True)
    inputs = Memory(table, folds(table, PARAMS, "dataset_split"))
    controls = evaluate(inputs, PARAMS, "dataset_split").controls
    assert controls["coordinates"].metrics["accuracy"].value > 0.9


@pytest.mark.parametrize(("protocol", "made"), [("dataset_split", "class_rows"), ("unsupervised", "cluster_rows")])
def test_sums_are_made_on_one_thread_whatever_is_allowed(table, monkeypatch, protocol, made):
    seen, make = set(), getattr(domain_rows, made)

    def watched(*given):
        seen.update(own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas")
        return make(*given)

    monkeypatch.setattr(domain_rows, made, watched)
    division = folds(table.assign(split=np.where(np.arange(len(table)) % 2, "train", "test")), PARAMS, protocol)
    with threadpool_limits(limits=2, user_api="blas"):
        evaluate(_with_genes(table, division), PARAMS, protocol)
    assert seen == {1}


def test_cells_and_their_neighbours_together_tell_what_neither_tells_alone(table):
    """Classes: what a cell shows, and what its half of the slide does. Its own genes show the first, and a little."""
    rng = np.random.default_rng(0)
    own, half = rng.integers(0, 2, len(table)), (table["array_row"] >= 12).to_numpy(dtype=int)
    told = table.assign(label_layer=np.array([["a", "b"], ["c", "d"]], dtype=object)[half, own])
    rate = 2 + 30 * np.eye(2)[own].repeat(2, axis=1) + np.concatenate([5 * np.eye(2)[half], np.zeros((len(own), 2))], 1)
    inputs = _with_genes(told, folds(told, PARAMS, "random_spot"))
    inputs.matrix, inputs.genes = sparse.csr_matrix(rng.poisson(rate)), tuple("ghij")
    found = {
        name: row.metrics["accuracy"].value for name, row in evaluate(inputs, PARAMS, "random_spot").controls.items()
    }
    assert found["own_and_neighbours"] > max(found["pca"], found["neighbour_mean"]) + 0.05, found


def test_neighbours_of_cells_that_are_only_trained_on_count_as_well():
    table = pd.concat([slide("s", "d", side=15), slide("t", "e", seed=1, side=15)], ignore_index=True)
    table["split"] = table["slide"].map({"s": "train", "t": "test"})
    division = folds(table, PARAMS, "dataset_split")
    controls = evaluate(_with_genes(table, division), PARAMS, "dataset_split").controls
    assert controls["neighbour_mean"].metrics["accuracy"].value > 0.9


@pytest.mark.parametrize(
    "protocol", ["random_spot", "few_label_5", "spatial_block", "leave_donor_out", "dataset_split"]
)
def test_labels_of_tested_spots_change_no_answer_of_a_control(protocol):
    table = pd.concat([slide("s", "d", side=15), slide("t", "e", seed=1, side=15)], ignore_index=True)
    table["split"] = table["slide"].map({"s": "train", "t": "test"})
    division = folds(table, PARAMS, protocol)
    before = evaluate(_with_genes(table, division), PARAMS, protocol)
    inputs = _with_genes(table, division)
    other = table.copy()
    rng = np.random.default_rng(0)
    changed = 0
    for name, own in list(division.groupby("fold"))[:2]:  # one at a time: what one fold tests another trains on
        tested = other["cell_id"].isin(own.loc[own["part"] == "test", "cell_id"]).to_numpy()
        shuffled = other.copy()
        shuffled.loc[tested, "label_layer"] = rng.permutation(other.loc[tested, "label_layer"])
        alone = replace(inputs, table=shuffled, division=own)
        after = evaluate(alone, PARAMS, protocol)
        first = evaluate(replace(inputs, division=own), PARAMS, protocol)
        for control, row in after.controls.items():
            np.testing.assert_array_equal(row.answers, first.controls[control].answers, err_msg=f"{control} {name}")
        changed += int((after.scored["truth"].to_numpy() != first.scored["truth"].to_numpy()).sum())
    assert changed > 10
    assert before.n > 0


def test_what_is_missing_is_said(table, division):
    with pytest.raises(ConfigError, match="no slide has this label column"):
        evaluate(Memory(table, division), Params(label="layre"), "random_spot")
    one = table.assign(label_layer="a")
    with pytest.raises(InputError, match="the labels are all 'a'"):
        evaluate(Memory(one, division), PARAMS, "random_spot")
    good = answered(table, division, _truth(table))
    fewer = replace(good, answers=good.answers.iloc[5:])
    with pytest.raises(InputError, match="test cells of fold 0 have none"):
        evaluate(replace(fewer, answers=fewer.answers[fewer.answers["part"] == "val"]), PARAMS, "random_spot")
    with pytest.raises(InputError, match="they are of the classes a, b"):
        evaluate(replace(good, answers=good.answers.drop(columns="p_c")), PARAMS, "random_spot")


def test_no_more_of_an_embedding_is_held_than_cells_that_some_fold_reads():
    """One slide of two is without labels, and of the other some cells."""
    table = pd.concat([slide("s", "d", side=15), slide("t", "e", side=15)], ignore_index=True)
    table.loc[table["slide"] == "t", "label_layer"] = None
    known = table["label_layer"].notna()
    kind = table["label_layer"].map({name: i for i, name in enumerate(CLASSES)}).fillna(0).to_numpy(dtype=int)
    asked = []

    class Counting(Memory):
        def embedding(self, cells):
            asked.append(cells)
            return super().embedding(cells)

    division = folds(table, PARAMS, "random_spot")
    inputs = Counting(table, division, points=(5 * np.eye(3)[kind]).astype(np.float32))
    scores = evaluate(inputs, PARAMS, "random_spot")
    assert [len(cells) for cells in asked] == [known.sum()] * 2
    assert scores.model.metrics["accuracy"].value == 1
    assert scores.controls["shuffled"].metrics["accuracy"].value < 0.6
    assert scores.settings["n_unlabelled"] == (~known).sum()


def test_clusters_are_compared_without_any_label_in_the_fit(table):
    division = folds(table, PARAMS, "unsupervised")
    kind = table["label_layer"].map({name: i for i, name in enumerate(CLASSES)}).fillna(0).to_numpy(dtype=int)
    points = (5 * np.eye(3)[kind]).astype(np.float32)
    inputs = Memory(table, division, points=points)
    scores = evaluate(inputs, PARAMS, "unsupervised")
    assert scores.model.metrics["ari"].value == pytest.approx(1)
    assert abs(scores.controls["shuffled"].metrics["ari"].value) < 0.05
    shuffled = table.assign(label_layer=np.random.default_rng(0).permutation(table["label_layer"]))
    again = evaluate(Memory(shuffled, folds(shuffled, PARAMS, "unsupervised"), points=points), PARAMS, "unsupervised")
    both = again.scored.assign(said=again.model.answers).merge(
        scores.scored.assign(said=scores.model.answers), on=["slide", "cell_id"]
    )
    assert (both["said_x"] == both["said_y"]).all()


def test_borders_and_buffers_follow_the_array(table):
    """At the rim of the array Delaunay joins spots that are no neighbours; the ring does not."""
    graph = hexagonal(table[["array_row", "array_col"]].to_numpy())
    blocks = folds(table, PARAMS.model_copy(update={"buffer_rings": 1}), "spatial_block")
    known = table["label_layer"].notna().to_numpy()
    for _, own in blocks.groupby("fold"):
        part = pd.Series("", index=table["cell_id"])
        part.loc[own["cell_id"]] = own["part"].to_numpy()
        tested = (part == "test").to_numpy()
        # unlabelled spots of the block are "unlabelled", and their neighbours are kept away too
        near = (graph @ tested.astype(int)) > 0
        assert set(part[near & ~tested & known]) <= {"buffer"}


def test_every_protocol_is_described():
    assert all(len(text) > 20 for text in PROTOCOLS.values())
