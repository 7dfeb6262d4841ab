from __future__ import annotations

import json
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import ConfigError, InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import EmbeddingWriter, Origin
from mistline.tasks import expression_regress, expression_rows
from mistline.tasks.expression import PROTOCOLS, Params, evaluate, folds
from mistline.tasks.expression_problem import Fold, gather, most_variable
from mistline.tasks.expression_rows import Scored, bootstrapped, by_unit, scored_in
from mistline.tasks.files import FileInputs, SlideFiles, Subject
from tests.unit.tasks.divided import long

GENES = tuple(f"g{i:02d}" for i in range(12))
PARAMS = Params(n_genes=4, bootstrap=200)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setitem(expression_regress.TREES, "n_estimators", 10)


class Slides:
    """Slides whose first four genes follow what the image shows; the others are noise, one is rare."""

    def __init__(self, root):
        self.root, self.files = root, []

    def add(self, name, donor, n=80, seed=None):
        folder = self.root / name
        folder.mkdir(parents=True)
        rng = np.random.default_rng(len(self.files) if seed is None else seed)
        seen = rng.normal(size=(n, 4))
        rate = np.full((n, len(GENES)), 2.0)
        rate[:, :4] = np.exp(1.5 * seen + 1)
        counts = rng.poisson(rate)
        counts[:, 11] = 0
        counts[0, 11] = 500  # in one cell of 80
        paths = {key: folder / f"{key}.parquet" for key in ("cells", "splits", "embedding", "patches")}
        item = SlideFiles(name, donor, counts=folder / "counts.h5ad", **paths)
        ids = [f"{name}-{i}" for i in range(n)]
        xy = rng.uniform(0, 100, (n, 2))
        write_parquet(item.cells, pd.DataFrame({"cell_id": ids, "x_um": xy[:, 0], "y_um": xy[:, 1]}))
        split = np.array(["train", "train", "val", "test", "gap"], dtype=object)[np.arange(n) % 5]
        write_parquet(item.splits, pd.DataFrame({"cell_id": ids, "split": split}))
        colours = pd.DataFrame(rng.uniform(0, 255, (n, 3)).astype(np.float32), columns=["red", "green", "blue"])
        write_parquet(item.patches, colours.assign(cell_id=ids))
        var = pd.DataFrame({"symbol": list(GENES)}, index=list(GENES))
        matrix = sparse.csr_matrix(counts.astype(np.int32))
        anndata.AnnData(matrix, obs=pd.DataFrame(index=ids), var=var).write_h5ad(item.counts)
        with EmbeddingWriter(item.embedding, Origin("m", 0, "w", "v1")) as writer:
            writer.put(ids, np.column_stack([seen, rng.normal(size=(n, 3))]).astype(np.float32))
        self.files.append(item)
        return item

    def inputs(self, protocol="leave_slide_out", params=PARAMS, controls=False):
        files = [replace(item, embedding=None) for item in self.files] if controls else self.files
        everyone = FileInputs(files, Subject(None if controls else "m", 0, "v1")).cells()
        path = self.root / f"{protocol}.parquet"
        write_parquet(path, folds(everyone, params, protocol))
        return FileInputs(files, Subject(None if controls else "m", 0, "v1", folds=path))


@pytest.fixture
def two(tmp_path):
    slides = Slides(tmp_path)
    slides.add("a", "d1")
    slides.add("b", "d2")
    return slides


def test_what_the_image_shows_is_found_and_nothing_else(two):
    scores = evaluate(two.inputs(), PARAMS, "leave_slide_out")
    assert [set(genes) for genes in scores.settings["genes"]] == [set(GENES[:4])] * 2
    for metric in ("xgboost_pcc", "ridge_pcc"):
        assert scores.model.metrics[metric].value > 0.7
        assert abs(scores.controls["shuffled"].metrics[metric].value) < 0.25
        assert set(scores.model.per_unit[metric]) == set(GENES[:4])
    assert (scores.unit, scores.n) == ("gene", 160)
    assert scores.settings["donors_disjoint"]
    controls = evaluate(two.inputs(controls=True), PARAMS, "leave_slide_out")
    assert set(controls.controls) == {"gene_mean", "colour"}
    assert controls.controls["gene_mean"].metrics["ridge_pcc"].value == 0
    assert abs(controls.controls["colour"].metrics["xgboost_pcc"].value) < 0.25
    assert list(controls.settings["left_out"]) == ["coordinates"]


def test_places_are_a_control_where_tested_slides_are_trained_on(two):
    scores = evaluate(two.inputs("dataset_split", controls=True), PARAMS, "dataset_split")
    assert set(scores.controls) == {"gene_mean", "coordinates", "colour"}
    assert not scores.settings["donors_disjoint"]
    assert scores.settings["n_cells"] == [{"train": 64, "test": 32}]
    two.files = [replace(item, patches=None) for item in two.files]
    assert (
        "colour" in evaluate(two.inputs("dataset_split", controls=True), PARAMS, "dataset_split").settings["left_out"]
    )


def test_the_genes_and_values_of_tested_cells_change_nothing_that_is_fitted(two, monkeypatch):
    fitted = []
    kept = expression_rows.regress

    def spy(train, known, test):
        found = kept(train, known, test)
        fitted.append([known.tobytes(), *(values.tobytes() for values in found[0].values())])
        return found

    monkeypatch.setattr(expression_rows, "regress", spy)
    before = evaluate(two.inputs("dataset_split"), PARAMS, "dataset_split")
    for item in two.files:
        split = pd.read_parquet(item.splits)["split"].to_numpy()
        store = anndata.read_h5ad(item.counts)
        dense = store.X.toarray()
        rows = np.flatnonzero(split == "test")
        dense[rows] = np.random.default_rng(7).permutation(dense[rows].ravel()).reshape(len(rows), -1)
        store.X = sparse.csr_matrix(dense)
        store.write_h5ad(item.counts)
    after = evaluate(two.inputs("dataset_split"), PARAMS, "dataset_split")
    assert len(fitted) == 4
    assert fitted[:2] == fitted[2:]
    assert before.settings["genes"] == after.settings["genes"]
    assert before.model.metrics["ridge_pcc"].value > 0.7 > abs(after.model.metrics["ridge_pcc"].value)


def test_features_are_scaled_by_the_training_cells_alone():
    train = np.array([[0.0], [2.0], [4.0]], dtype=np.float32)
    x, x_test = expression_regress.components(train, np.array([[10.0]], dtype=np.float32))
    spread = np.std([0, 2, 4])
    np.testing.assert_allclose(np.abs(x[:, 0]), [2 / spread, 0, 2 / spread], atol=1e-6)
    np.testing.assert_allclose(np.abs(x_test[0, 0]), 8 / spread, atol=1e-5)


def test_genes_are_chosen_by_variance_among_those_that_are_detected():
    rows = np.zeros((20, 4), dtype=np.float32)
    rows[:10, 0] = 1.0  # variance 0.25
    rows[:, 1] = 3.0  # does not vary
    rows[0, 2] = 9.0  # variance 3.8, in 5 % of the cells
    rows[:10, 3] = 2.0  # variance 1
    assert most_variable(sparse.csr_matrix(rows), 5) == [3, 0]
    assert most_variable(sparse.csr_matrix(rows), 1) == [3]


def test_means_and_intervals_by_hand():
    table = np.array([[0.2, 0.4, np.nan], [0.6, 0.0, 0.3]])
    few = Scored(("s", "t"), ("d", "e"), ("x", "y", "z"), "gene")
    value, draws = bootstrapped(table, few, 400, np.random.default_rng(0))
    assert value == pytest.approx((0.3 + 0.3) / 2)
    assert by_unit(table, few) == pytest.approx({"x": 0.4, "y": 0.2, "z": 0.3})
    assert 0.02 < draws.std() < 0.1
    assert draws.min() >= 0
    same = Scored(("s", "t"), ("d", "d"), ("x", "y", "z"), "donor")
    assert by_unit(table, same) == pytest.approx({"d": 0.3})
    constant = np.full((3, 3), 0.25)
    three = Scored(("s", "t", "u"), ("d", "d", "e"), ("x", "y", "z"), "slide")
    np.testing.assert_allclose(bootstrapped(constant, three, 50, np.random.default_rng(0))[1], 0.25)
    uneven = np.array([[0.0], [0.4], [0.8]])
    donors = Scored(("s", "t", "u"), ("d", "d", "e"), ("x",), "donor")
    value, draws = bootstrapped(uneven, donors, 400, np.random.default_rng(0))
    assert value == pytest.approx((0.2 + 0.8) / 2)
    assert set(np.round(draws, 6)) == {0.2, 0.5, 0.8}
    with pytest.raises(InputError, match="slide t: none of the genes varies"):
        bootstrapped(np.array([[0.1], [np.nan]]), few, 10, np.random.default_rng(0))


def test_units_are_donors_from_five_on_then_slides():
    def fold(names):
        test = pd.DataFrame(names, columns=["slide", "donor"])
        return Fold(test.iloc[:0], test, ("x",), np.zeros((0, 1)), np.zeros((len(test), 1)))

    assert scored_in([fold([("a", "d"), ("b", "e")])]).unit == "gene"
    assert scored_in([fold([(f"s{i}", "d")]) for i in range(5)]).unit == "slide"
    assert scored_in([fold([(f"s{i}", f"d{i}")]) for i in range(5)]).unit == "donor"
    with pytest.raises(InputError, match="tested in two folds"):
        scored_in([fold([("a", "d")])] * 2)


def test_folds_by_hand():
    cells = pd.DataFrame(
        {
            "slide": list("aabbc"),
            "donor": list("ddddf"),
            "cell_id": list("12345"),
            "split": ["gap", *["train"] * 3, "test"],
        }
    )
    out = long(folds(cells, PARAMS, "leave_slide_out"))
    assert out.groupby(["fold", "part"]).size().to_dict() == {
        (0, "test"): 2, (0, "train"): 3, (1, "test"): 2, (1, "train"): 3, (2, "test"): 1, (2, "train"): 4,
    }  # fmt: skip
    only = folds(cells, Params(test=("c",)), "leave_slide_out")
    assert only["0"].tolist() == ["train"] * 4 + ["test"]
    assert long(folds(cells, PARAMS, "leave_donor_out")).groupby("fold").size().tolist() == [5, 5]
    assert folds(cells, PARAMS, "dataset_split")["0"].tolist() == ["buffer", "train", "train", "train", "test"]
    with pytest.raises(ConfigError, match="no slide is called z"):
        folds(cells, Params(test=("z",)), "leave_slide_out")
    with pytest.raises(InputError, match="there is one donor"):
        folds(cells[:4], PARAMS, "leave_donor_out")


def test_logs_are_taken_as_they_are_and_draws_are_the_same_for_all(two):
    for item in two.files:
        store = anndata.read_h5ad(item.counts)
        store.uns["values"] = "log"
        store.write_h5ad(item.counts)
    (first, _) = gather(two.inputs(), 4, 100, 0)
    store = anndata.read_h5ad(two.files[1].counts)
    np.testing.assert_array_equal(first.known, store[first.train["cell_id"], list(first.genes)].X.toarray())
    drawn, again = (gather(two.inputs(), 4, 30, 0)[0] for _ in range(2))
    assert (len(drawn.train), len(drawn.test)) == (30, 30)
    assert drawn.train["cell_id"].tolist() == again.train["cell_id"].tolist()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_repeats_to_the_last_bit_and_is_json(two, protocol):
    one, other = (evaluate(two.inputs(protocol), PARAMS, protocol).to_json() for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(other, allow_nan=False)
    for estimate in one["metrics"].values():
        assert -1 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1


def test_colours_are_those_of_the_cells(two):
    inputs = two.inputs()
    cells = inputs.cells().sample(frac=1, random_state=0)
    found = inputs.colours(cells)
    table = pd.concat([pd.read_parquet(item.patches) for item in two.files]).set_index("cell_id")
    np.testing.assert_array_equal(found, table.loc[cells["cell_id"], ["red", "green", "blue"]].to_numpy())
    path = two.files[0].patches
    table = pd.read_parquet(path)
    write_parquet(path, table.assign(cell_id=table["cell_id"].to_numpy()[::-1]))
    with pytest.raises(InputError, match="its cells are not those of the slide"):
        inputs.colours(cells)
