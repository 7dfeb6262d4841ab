"""The task as a whole, on cells whose nucleus is a known function of their genes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_parquet
from mistline.store.embeddings import Origin
from mistline.store.pictures import Pictures, write_pictures
from mistline.tasks import generation
from mistline.tasks.base import MODEL
from mistline.tasks.controls import fit_log_counts
from mistline.tasks.files import FileInputs, Subject
from mistline.tasks.generation_problem import Problem, drawn_cells, gather
from mistline.tasks.generation_rows import rows_of
from tests.unit.conftest import Cohort

SIDE = 24
PARAMS = generation.Params(size_px=SIDE, n_cells=60, n_train=60, n_genes=6, bootstrap=100)


def nuclei(genes: np.ndarray, seed: int) -> np.ndarray:
    """Draw a disc whose size follows the first column and whose light follows the second, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    share = genes / genes.max(axis=0)
    radius = (3 + 2.2 * share[:, 0] * rng.uniform(0.95, 1.05, len(genes)))[:, None, None]
    disc = 1 / (1 + np.exp(2 * (np.hypot(y, x) - radius)))
    light = disc * (60 + 150 * share[:, 1])[:, None, None] + rng.uniform(0, 12, (len(genes), SIDE, SIDE))
    return light.astype(np.uint8)[:, None]


class World:
    """A cohort with images, and what a generator drew of it."""

    def __init__(self, cohort, folder) -> None:
        self.cohort, self.path = cohort, folder / "gene2img.safetensors"
        for slide, donor in (("a", "d1"), ("b", "d2")):
            cohort.add(slide, donor, n=200)
        plain = cohort.inputs()
        cells = plain.cells()
        _, logs = fit_log_counts(plain, cells)
        self.genes = np.column_stack([logs.toarray()[:, [0, 4, 8]].mean(axis=1), logs.toarray()[:, [1, 5, 9]].mean(1)])
        self.cells = cells
        self.images = {}
        for number, slide in enumerate(("a", "b")):
            own = (cells["slide"] == slide).to_numpy()
            self.images[slide] = nuclei(self.genes[own], number)

    def open(self, slide: str):
        return lambda rows, size_px: self.images[slide][rows]

    def tested(self, n: int = PARAMS.n_cells) -> pd.DataFrame:
        return drawn_cells(self.cells[self.cells["split"] == "test"], 0, n)

    def rows(self, tested: pd.DataFrame) -> np.ndarray:
        place = pd.MultiIndex.from_frame(self.cells[["slide", "cell_id"]])
        return place.get_indexer(pd.MultiIndex.from_frame(tested[["slide", "cell_id"]]))

    def drawn(self) -> dict[str, np.ndarray]:
        tested = self.tested()
        real = np.concatenate([self.images[s][r][None] for s, r in zip(tested["slide"], tested["row"], strict=True)])
        genes = self.genes[self.rows(tested)]
        dealt = np.random.default_rng(9).permutation(len(genes))
        return {"generated": nuclei(genes, 77), "dealt": nuclei(genes[dealt], 77), "autoencoder": real}

    def inputs(
        self, images: dict | None = None, tested: pd.DataFrame | None = None, about: dict | None = None, **origin
    ) -> FileInputs:
        tested = self.tested() if tested is None else tested
        made = Origin(**{"model": "cells", "seed": 0, "model_sha256": "w", "dataset_version": "v1", **origin})
        ids = (tested[name].to_numpy(dtype=str) for name in ("slide", "cell_id"))
        write_pictures(self.path, Pictures(*ids, images or self.drawn(), made, about or {"steps": 4}))
        slides = [replace(item, embedding=None) for item in self.cohort.slides]
        return FileInputs(slides, Subject("cells", 0, "v1", pictures=self.path), self.open)

    def controls(self) -> FileInputs:
        slides = [replace(item, embedding=None) for item in self.cohort.slides]
        return FileInputs(slides, Subject(None, 0, "v1"), self.open)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(Cohort(folder / "slides", []), folder)


@pytest.fixture(scope="module")
def problem(world) -> Problem:
    return gather(world.controls(), PARAMS)


@pytest.fixture
def own_world(cohort, tmp_path) -> World:
    return World(cohort, tmp_path)


def values(row) -> dict[str, float]:
    return {name: estimate.value for name, estimate in row.metrics.items()}


def test_a_generator_that_follows_genes_and_one_whose_conditions_are_dealt(world):
    found = generation.evaluate(world.inputs(), PARAMS, "gene2img")
    assert (found.unit, found.n, set(found.rows)) == ("cell", 120, {MODEL, "shuffled", "autoencoder"})
    good, dealt, ceiling = (values(found.rows[name]) for name in (MODEL, "shuffled", "autoencoder"))
    for name in ("area_r", "brightness_r"):
        assert good[name] > 0.8
        assert abs(dealt[name]) < 0.3
    assert good["readback_pearson"] > 0.3 > 0.15 > dealt["readback_pearson"]
    assert good["psnr"] > dealt["psnr"] + 2
    assert good["ssim"] > dealt["ssim"]
    # The images dealt are good images: as a distribution nothing tells them from the real ones.
    assert dealt["fid"] < 2
    assert dealt["area_distance"] < 0.3
    for name, estimate in found.model.metrics.items():
        assert estimate.low <= estimate.value <= estimate.high, name
    assert (ceiling["psnr"], ceiling["ssim"]) == (100, pytest.approx(1))
    assert ceiling["fid"] == pytest.approx(0, abs=1e-6)
    assert ceiling["kid"] == pytest.approx(0, abs=1e-9)
    assert found.model.about == {"steps": 4, "cells": 120}


def test_a_generator_of_some_of_the_cells_is_judged_on_these_beside_the_same_mean_image(world):
    rows = np.arange(0, 120, 3)
    images = {name: shown[rows] for name, shown in world.drawn().items()}
    images["start"] = images["dealt"]
    inputs = world.inputs(images, world.tested().iloc[rows], about={"subset": "those with a pair"})
    found = generation.evaluate(inputs, PARAMS, "gene2img")
    assert set(found.controls) == {"shuffled", "start_cell", "mean_image_here"}
    assert found.model.about == {"subset": "those with a pair", "cells": 40}
    assert found.controls["start_cell"].metrics == found.controls["shuffled"].metrics
    assert found.controls["mean_image_here"].metrics["area_r"].value == pytest.approx(0, abs=1e-9)
    assert not any(row.per_unit for row in found.rows.values())
    with pytest.raises(InputError, match="they show 40 cells, and not the 120 that are tested"):
        generation.evaluate(world.inputs(images, world.tested().iloc[rows]), PARAMS, "gene2img")


def test_controls_and_the_ceiling_of_real_images(world):
    found = generation.evaluate(world.controls(), PARAMS.model_copy(update={"n_cells": 100}), "gene2img")
    assert set(found.controls) == {"mean_image", "nearest_cell", "random_cell"}
    assert set(found.ceilings) == {"real"}
    rows = {name: values(row) for name, row in found.rows.items()}
    assert rows["mean_image"]["readback_pearson"] == rows["mean_image"]["area_r"] == 0
    assert rows["nearest_cell"]["area_r"] > 0.5
    assert abs(rows["random_cell"]["area_r"]) < 0.3
    assert rows["random_cell"]["copies"] == rows["nearest_cell"]["copies"] == 1
    assert rows["mean_image"]["psnr"] > rows["random_cell"]["psnr"]
    assert rows["real"]["readback_pearson"] > rows["nearest_cell"]["readback_pearson"] - 0.1
    assert "fid" not in rows["real"]  # each slide has fewer further test cells than half of the tested
    assert found.settings["left_out"] == {}
    told = found.to_json()
    assert set(told["ceilings"]) == set(told["settings"]["ceilings"]) == {"real"}
    assert "real" not in told["controls"] | told["controls_per_unit"]


def test_what_the_protocol_hides_is_no_control(world):
    found = generation.evaluate(world.controls(), PARAMS.model_copy(update={"n_cells": 30}), "context2img")
    assert set(found.settings["left_out"]) == {"nearest_cell"}
    assert "nearest_cell" not in found.rows
    assert {"fid", "kid", "area_distance"} <= set(found.rows["real"].metrics)
    assert "psnr" not in found.rows["real"].metrics


def test_images_of_tested_cells_change_nothing_that_is_fitted(own_world, problem):
    before = problem
    for slide, images in own_world.images.items():
        test = (own_world.cells.loc[own_world.cells["slide"] == slide, "split"] == "test").to_numpy()
        images[test] = 255 - images[test][::-1]
    after = gather(own_world.controls(), PARAMS)
    assert not np.array_equal(before.real.images, after.real.images)
    for name in ("mean", "scales", "basis"):
        assert np.array_equal(getattr(before.net, name), getattr(after.net, name))
    assert np.array_equal(before.probe.weights, after.probe.weights)
    assert np.array_equal(before.neighbour, after.neighbour)


def test_slides_are_resampled_where_there_are_enough(own_world):
    for number in range(3):
        item = own_world.cohort.add(f"c{number}", f"e{number}", n=60)
        part = own_world.cohort.inputs().cells().query("slide == @item.slide")
        own_world.images[item.slide] = own_world.images["a"][: len(part)]
    own_world.cells = own_world.cohort.inputs().cells()
    own_world.genes = np.tile(own_world.genes, (2, 1))[: len(own_world.cells)]
    params = PARAMS.model_copy(update={"n_cells": 20, "n_train": 50})
    tested = own_world.tested(20)
    drawn = {"generated": np.zeros((len(tested), 1, SIDE, SIDE), np.uint8)}
    drawn["dealt"] = drawn["generated"]
    found = generation.evaluate(own_world.inputs(drawn, tested), params, "gene2img")
    assert (found.unit, found.n) == ("donor", 100)
    assert set(found.model.per_unit["psnr"]) == {"d1", "d2", "e0", "e1", "e2"}
    assert {"kid", "area_r", "readback_pearson"} <= set(found.model.per_unit)
    assert "fid" not in found.model.per_unit
    assert found.model.metrics["psnr"].value == pytest.approx(np.mean(list(found.model.per_unit["psnr"].values())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tested": 59}, r"they show 118 cells, and not the 120 that are tested; run generate with the task's n_cells"),
        ({"without": "dealt"}, "there is no set 'dealt' among them"),
        ({"channels": 2}, "has 2 channels, the real images have 1"),
        ({"dataset_version": "v0"}, "made from another dataset version"),
    ],
)
def test_images_of_something_else_are_refused(world, problem, change, message):
    images = world.drawn()
    tested = world.tested(change.get("tested", PARAMS.n_cells))
    images = {name: rows[: len(tested)] for name, rows in images.items() if name != change.get("without")}
    images = {name: np.repeat(rows, change.get("channels", 1), axis=1) for name, rows in images.items()}
    origin = {"dataset_version": change.get("dataset_version", "v1")}
    with pytest.raises(InputError, match=message):
        rows_of(world.inputs(images, tested, **origin), problem, PARAMS, "gene2img")


def test_too_few_cells_are_told(own_world):
    for item in own_world.cohort.slides:
        split = pd.read_parquet(item.splits)
        write_parquet(item.splits, split.assign(split="train"))
    with pytest.raises(InputError, match="0 test cells, and 5 are the least; look at splits"):
        generation.evaluate(own_world.controls(), PARAMS, "recon")
