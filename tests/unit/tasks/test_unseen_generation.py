"""The task as a whole, on tissue of square domains in which each gene belongs to a domain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import Origin
from mistline.store.filled import Filled, write_filled
from mistline.tasks import unseen_generation
from mistline.tasks.base import MODEL
from mistline.tasks.files import FileInputs, SlideFiles, Subject
from mistline.tasks.unseen_generation_controls import CONTROLS
from mistline.tasks.unseen_generation_problem import Visible, hidden_slides, most_spatial, prepare
from mistline.tasks.unseen_generation_scores import Measured, Place, about_depth, estimates, measure, unit_of

KINDS, GENES, SIDE, DOMAIN = 4, 12, 600.0, 60.0
PARAMS = unseen_generation.Params(
    holes={"n": 3, "least_cells": 40, "scale": 0.5},
    n_spatial=4,
    gp_cells=150,
    gp_fit_cells=40,
    mlp_cells=200,
    bootstrap=100,
)
PROTOCOL = "holes_300"


class World:
    """Two test slides and a training slide; genes of a cell follow its kind, the last two are noise alone."""

    def __init__(self, root: Path) -> None:
        self.root, self.slides, self.kind = root, [], {}
        for number, (name, split) in enumerate((("t", "train"), ("a", "test"), ("b", "test"))):
            self._add(name, split, np.random.default_rng(number))

    def _add(self, name: str, split: str, rng: np.random.Generator, n: int = 1200) -> None:
        xy = rng.uniform(0, SIDE, (n, 2))
        kind = ((xy // DOMAIN).sum(axis=1) % KINDS).astype(int)
        rate = 2 + 30 * (np.arange(GENES) % KINDS == np.arange(KINDS)[:, None])
        rate[:, -2:] = 5
        folder = self.root / name
        files = (folder / part for part in ("cells.parquet", "counts.h5ad", "splits.parquet"))
        item = SlideFiles(name, f"donor {name}", *files)
        ids = [f"{name}{i}" for i in range(n)]
        write_parquet(item.cells, pd.DataFrame({"cell_id": ids, "x_um": xy[:, 0], "y_um": xy[:, 1]}))
        write_parquet(item.splits, pd.DataFrame({"cell_id": ids, "split": split}))
        write_counts(item, ids, rng.poisson(rate[kind]))
        self.slides.append(item)
        self.kind[name] = dict(zip(ids, kind.tolist(), strict=True))

    def controls(self) -> FileInputs:
        return FileInputs(self.slides, Subject(None, 0, "v1"))

    def inputs(self, filled: Filled) -> FileInputs:
        path = self.root / "filled.parquet"
        write_filled(path, filled)
        return FileInputs(self.slides, Subject("gest", 0, "v1", filled=path))


def write_counts(item: SlideFiles, ids: list[str], counts: np.ndarray) -> None:
    genes = pd.DataFrame({"symbol": [f"G{i}" for i in range(GENES)]}, index=[f"g{i:02d}" for i in range(GENES)])
    table = sparse.csr_matrix(counts.astype(np.int32))
    anndata.AnnData(table, obs=pd.DataFrame(index=ids), var=genes).write_h5ad(item.counts)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def oracle(world) -> Filled:
    """What a model would say that knows the domain of every hidden place."""
    problem = prepare(world.controls(), PARAMS, PROTOCOL)
    columns = {name: [] for name in ("slide", "hole", "cell_id", "kind")}
    train = world.slides[0]
    kind = np.array(list(world.kind["t"].values()))
    logs = problem.fitted.of(anndata.read_h5ad(train.counts).X.tocsr()).toarray()
    for slide in hidden_slides(world.controls(), problem):
        for hole in slide.holes:
            columns["slide"] += [slide.visible.slide] * len(hole.cell_id)
            columns["hole"] += [hole.number] * len(hole.cell_id)
            columns["cell_id"] += hole.cell_id.tolist()
            columns["kind"] += [world.kind[slide.visible.slide][cell] for cell in hole.cell_id]
    own = np.array(columns["kind"])
    return Filled(
        slide=np.array(columns["slide"]),
        hole=np.array(columns["hole"], dtype=np.int16),
        cell_id=np.array(columns["cell_id"]),
        round=(1 + np.arange(len(own)) % 2).astype(np.int16),
        way=np.array(["generated"] * len(own)),
        metacell=own.astype(np.int32),
        told=np.eye(KINDS, dtype=np.float32)[own],
        is_quantised=True,
        genes=problem.fitted.genes[::-1],
        expression=np.array([logs[kind == k].mean(axis=0)[::-1] for k in range(KINDS)], dtype=np.float32),
        origin=Origin("gest", 0, "w", "v1"),
        about={"protocol": PROTOCOL, "windows": 7},
    )


@pytest.fixture(scope="module")
def controls(world):
    return unseen_generation.evaluate(world.controls(), PARAMS, PROTOCOL)


def test_a_model_that_knows_the_domains_beats_what_places_tell(world, oracle, controls):
    found = unseen_generation.evaluate(world.inputs(oracle), PARAMS, PROTOCOL)
    assert (found.unit, set(found.rows)) == ("gene", {MODEL, "picked", "shuffled", "quantised"})
    assert set(found.ceilings) == {"quantised"}
    value = {
        name: {metric: estimate.value for metric, estimate in row.metrics.items()}
        for name, row in {**found.rows, **controls.rows}.items()
    }
    for metric, better in (("pcc", 1), ("rmse", -1), ("mae", -1), ("z_rmse", -1), ("spearman_cell", 1)):
        for other in ("section_mean", "knn_mean", "nearest_cell", "gp", "mlp", "shuffled"):
            assert better * value[MODEL][metric] > better * value[other][metric], (metric, other)
    assert value[MODEL]["pcc"] > 0.5
    assert value[MODEL]["pcc_spatial"] > value[MODEL]["pcc"]
    assert abs(value["shuffled"]["pcc"]) < 0.15
    assert value["picked"] == value["quantised"] == value[MODEL]
    for row in found.rows.values():
        assert all(own.low <= own.value <= own.high for own in row.metrics.values())
        assert set(row.per_unit["pcc"]) <= {f"g{i:02d}" for i in range(GENES)}
    about = found.model.about
    assert (about["windows"], about["genes_generated"], about["ways"]) == (7, 1.0, {"generated": found.n})
    assert [row["round"] for row in about["by_round"]] == [1, 2]
    assert (
        sum(row["cells"] for row in about["by_round"]) == found.n == sum(h["cells"] for h in found.settings["hidden"])
    )
    assert found.to_json()["unit"] == "gene"


def test_controls_read_no_hidden_cell_and_constants_count_as_no_correlation(controls, world):
    value = {name: {metric: own.value for metric, own in row.metrics.items()} for name, row in controls.rows.items()}
    assert set(value) == set(CONTROLS)
    assert value["section_mean"]["pcc"] == value["section_mean"]["pcc_spatial"] == 0
    assert value["section_mean"]["z_rmse"] == pytest.approx(np.sqrt(2))
    for name in ("knn_mean", "nearest_cell", "gp"):
        assert value[name]["pcc"] > 0.05, name
    assert value["knn_mean"]["rmse"] < value["nearest_cell"]["rmse"]
    assert set(controls.settings["fewer_holes"]) <= {"a", "b"}
    assert controls.settings["side_um"] == 150


def test_what_is_hidden_changes_no_control(world, tmp_path):
    def told() -> list[np.ndarray]:
        problem = prepare(changed.controls(), PARAMS, PROTOCOL)
        slide = next(hidden_slides(changed.controls(), problem))
        places = [hole.xy_um for hole in slide.holes]
        hidden.extend(cell for hole in slide.holes for cell in hole.cell_id)
        return [values for way in CONTROLS.values() for values in way(slide.visible, places, PARAMS, problem.side_um)]

    changed, hidden = World(tmp_path), []
    before = told()
    item = changed.slides[1]
    data = anndata.read_h5ad(item.counts)
    counts, rows = data.X.toarray(), data.obs_names.get_indexer(hidden)
    counts[rows] = np.random.default_rng(0).integers(0, 500, (len(rows), GENES))
    moved = replace(item, counts=item.counts.with_name("changed.h5ad"))
    write_counts(moved, data.obs_names.tolist(), counts)
    changed.slides[1] = moved
    for one, two in zip(before, told(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: {"about": {"protocol": "holes_900"}}, "generated for holes_900, this is holes_300"),
        (
            lambda own: {"cell_id": np.array(["x", *own.cell_id[1:]])},
            "is hidden, and not generated; run generate-cells",
        ),
        (lambda own: {"hole": np.where(own.hole == 0, 9, own.hole).astype(np.int16)}, "is hidden, and not generated"),
        (lambda own: {"genes": tuple(f"other {name}" for name in own.genes)}, "none of the task's genes is generated"),
        (lambda own: {"origin": replace(own.origin, dataset_version="v2")}, "made from another dataset version"),
    ],
)
def test_cells_that_do_not_belong_here_are_one_sentence(world, oracle, change, message):
    with pytest.raises(InputError, match=message):
        unseen_generation.evaluate(world.inputs(replace(oracle, **change(oracle))), PARAMS, PROTOCOL)


def test_more_cells_than_are_hidden_are_refused(world, oracle):
    twice = {name: getattr(oracle, name) for name in ("slide", "hole", "cell_id", "round", "way", "metacell")}
    more = {name: np.concatenate([values, values[:1]]) for name, values in twice.items()}
    more["cell_id"] = np.array([*oracle.cell_id, "another"])
    rows = np.concatenate([oracle.told, oracle.told[:1]])
    with pytest.raises(InputError, match="cells of slide a are generated, and"):
        unseen_generation.evaluate(world.inputs(replace(oracle, **more, told=rows)), PARAMS, PROTOCOL)


def test_genes_that_the_model_lacks_are_constants_and_told_of(world, oracle):
    fewer = replace(
        oracle, genes=oracle.genes[:-3], expression=oracle.expression[:, :-3], metacell=oracle.metacell * 0 - 1
    )
    found = unseen_generation.evaluate(world.inputs(fewer), PARAMS, PROTOCOL)
    assert found.model.about["genes_generated"] == pytest.approx(0.75)
    assert [found.model.per_unit["pcc"][f"g{i:02d}"] for i in range(3)] == [0, 0, 0]
    assert found.model.per_unit["pcc"]["g04"] > 0.5
    assert "quantised" not in found.rows


def test_a_gene_of_one_cell_is_not_spatial_though_another_cell_lies_at_its_place():
    """Gene 0 is noise that leans a little along x; were a cell its own neighbour, one cell's gene would beat it."""
    rng = np.random.default_rng(0)
    xy = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2).repeat(2, axis=0)
    first, second = np.eye(len(xy))[[420, 421]]  # whichever of the two comes first of the list of both
    logs = np.column_stack([xy[:, 0] + rng.normal(0, 20, len(xy)), first, second]).astype(np.float32)
    visible = Visible("s", np.array([f"c{i}" for i in range(len(xy))]), xy, sparse.csr_matrix(logs))
    assert most_spatial(visible, 1).tolist() == [True, False, False]


def test_a_slide_in_which_no_hole_fits_names_the_largest_side(world):
    large = PARAMS.model_copy(update={"holes": PARAMS.holes.model_copy(update={"scale": 3.0})})
    with pytest.raises(InputError, match=r"slide a: no square of 900 um .* the largest that does has \d+ um"):
        unseen_generation.evaluate(world.controls(), large, PROTOCOL)


def test_z_rmse_is_that_of_z_scored_genes():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 5)).astype(np.float32)
    predicted = (truth + rng.normal(size=(60, 5)) * [0.1, 0.5, 1, 2, 4]).astype(np.float32)
    scored = [(own - own.mean(axis=0)) / own.std(axis=0) for own in (truth, predicted)]
    place = Place("s", "d", np.arange(5) < 2)
    told, per_unit = estimates([measure(truth, predicted)], [place], tuple("abcde"), PARAMS)
    gap = (scored[0] - scored[1]) ** 2
    assert told["z_rmse"].value == pytest.approx(np.sqrt(gap.mean()), rel=1e-5)
    assert told["z_rmse_spatial"].value == pytest.approx(np.sqrt(gap[:, :2].mean()), rel=1e-5)
    assert told["rmse"].value == pytest.approx(np.sqrt(((truth - predicted) ** 2).mean()), rel=1e-5)
    assert set(per_unit["pcc_spatial"]) == {"a", "b"}
    constant = measure(truth, np.ones_like(truth))
    assert estimates([constant], [place], tuple("abcde"), PARAMS)[0]["z_rmse"].value == pytest.approx(np.sqrt(2))


def test_intervals_resample_donors_where_there_are_enough_of_them():
    rng = np.random.default_rng(1)
    places = [Place(f"s{i // 2}", f"d{i // 4}", np.ones(6, bool)) for i in range(20)]
    assert (unit_of(places).name, unit_of(places[:12]).name, unit_of(places[:8]).name) == ("donor", "slide", "gene")
    found = [Measured(np.full(6, i / 20), np.full(6, 4.0), np.full(6, 1.0), rng.uniform(size=9)) for i in range(20)]
    told, per_unit = estimates(found, places, tuple("abcdef"), PARAMS)
    assert told["pcc"].value == pytest.approx(np.mean(np.arange(20) / 20))
    assert told["pcc"].low < told["pcc"].value < told["pcc"].high
    assert (told["rmse"].value, told["mae"].value) == (2, 1)
    assert per_unit["pcc"] == {f"d{k}": pytest.approx((4 * k + 1.5) / 20) for k in range(5)}
    assert set(per_unit["spearman_cell"]) == {f"d{k}" for k in range(5)}


def test_depth_is_told_by_round():
    rounds = [np.array([1, 1, 2], np.int16), np.array([2], np.int16)]
    told = about_depth(rounds, [np.array([1.0, 1.0, 4.0]), np.array([16.0])])
    assert told == [{"round": 1, "cells": 2, "rmse": 1.0}, {"round": 2, "cells": 2, "rmse": pytest.approx(np.sqrt(10))}]
