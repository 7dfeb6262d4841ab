from __future__ import annotations

from pathlib import Path

import pytest

from mistline.config.load import load_config
from mistline.config.root import Config
from mistline.core.errors import InputError
from mistline.workflow.jobs import Job
from mistline.workflow.memory import ASSUMED_CELLS
from mistline.workflow.plan import make_plan
from mistline.workflow.rates import Point, Rates, measured_points, read_rates, variant

SLIDE = {"bundle": "b", "donor": "d", "tissue": "t", "disease": "h"}


def job(rule: str, threads: int = 4, runtime_min: int = 0, gpu: int = 0, **wildcards: str) -> Job:
    name = ".".join([rule, *wildcards.values()])
    return Job(rule, wildcards, (), (f"out/{name}",), (), f"bench/{name}.tsv", threads, 900, gpu, runtime_min, "")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    slides = [SLIDE | {"slide": "a", "cells": 1000}, SLIDE | {"slide": "b", "cells": 4000}, SLIDE | {"slide": "c"}]
    models = {"mine": {"model": "encoder", "params": {"name": "resnet18"}}, "pca": {"model": "pca"}}
    return load_config({"slides": slides, "models": models}, root=tmp_path)


def point(cells: int, cpu_s: float, wall_s: float | None = None, stage: str = "cut") -> Point:
    return Point(stage, "", cells, cpu_s, wall_s, cells / 1000, 100)


def test_cost_lies_between_the_line_and_proportion() -> None:
    rates = Rates([point(1000, 3), point(3000, 7), point(2000, 5)])  # 1 s to begin, 2 s a thousand
    within, beyond = (rates.cost("cut", "", cells, threads=4) for cells in (2500, 30_000))
    assert within is not None
    assert beyond is not None
    assert within.cpu_s == pytest.approx((6, 6))
    assert beyond.cpu_s == pytest.approx((61, 70))
    assert beyond.wall_s == pytest.approx((61 / 4, 70))  # how busy threads are was not measured
    assert (beyond.disk_mb, beyond.beyond) == pytest.approx((30, 10))


@pytest.mark.parametrize(
    ("points", "cpu_s"),
    [
        ([point(1000, 3)], (30, 30)),  # one size: in proportion
        ([point(1000, 3), point(2000, 2)], (2.5, 12.5)),  # falling: noise, not a promise of nothing
        ([point(1000, 1), point(2000, 4)], (30, 30)),  # a start below nothing is nothing
    ],
)
def test_a_line_that_makes_no_sense_is_not_followed(points: list[Point], cpu_s: tuple[float, float]) -> None:
    cost = Rates(points).cost("cut", "", 10_000, threads=1)
    assert cost is not None
    assert cost.cpu_s == pytest.approx(cpu_s)


def test_wall_time_is_used_where_it_was_measured_and_one_measurement_replaces_another() -> None:
    rates = Rates([point(1000, 9), point(1000, 9, stage="read")]).updated([point(1000, 4, wall_s=2)])
    cost, other = rates.cost("cut", "", 2000, 4), rates.cost("read", "", 2000, 1)
    assert cost is not None
    assert other is not None
    assert (cost.cpu_s, cost.wall_s, other.cpu_s) == ((8, 8), (4, 4), (18, 18))
    assert rates.cost("cut", "pca", 2000, 1) is None


def test_a_model_is_told_by_its_settings_and_a_tile_by_its_side(config: Config) -> None:
    assert variant(job("embed", model="mine", seed="1", slide="a"), config) == 'encoder {"name": "resnet18"}'
    assert variant(job("embed", model="pca", slide="a"), config) == "pca"
    assert variant(job("cut_tiles", scale="region", slide="a"), config) == "1024 px"


def test_what_comes_with_mistline_is_dated_and_measured() -> None:
    rates, origin = read_rates()
    assert "20" in origin
    assert "cores" in origin
    for stage in ("check_bundle", "project_image", "read_cells", "cut_crops", "fit_metacells", "seal_dataset"):
        cost = rates.cost(stage, "", 100_000, 1)
        assert cost is not None
        assert 0 < cost.cpu_s[0] <= cost.cpu_s[1]


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rates.tsv"
    path.write_text("stage\tvariant\tcells\ncut\t\tmany\n")
    with pytest.raises(InputError, match="no table of rates"):
        read_rates(path)


def test_a_finished_run_brings_its_own_rates(tmp_path: Path, config: Config) -> None:
    jobs = [job("read", slide=name) for name in "abc"] + [job("fit")]
    for folder, files in {"bench": ("read.b", "fit"), "out": ("read.b",)}.items():
        (tmp_path / folder).mkdir()
        for name in files:
            text = "s\tmax_rss\tcpu_time\n8.0\t100\t4.0\n" if folder == "bench" else "x" * 2_000_000
            (tmp_path / folder / f"{name}{'.tsv' if folder == 'bench' else ''}").write_text(text)
    points = measured_points(tmp_path, jobs, config)
    assert [(item.stage, item.cells, item.cpu_s, item.wall_s, item.disk_mb) for item in points] == [
        ("read", 4000, 4.0, 8.0, 2.0),
        ("fit", 4000, 4.0, 8.0, 0.0),  # of the slide that was run, not of the cohort
    ]
    with pytest.raises(InputError, match="holds no benchmarks"):
        measured_points(tmp_path / "nowhere", jobs, config)
    (tmp_path / "bench/fit.tsv").write_text("s\n")
    with pytest.raises(InputError, match="no benchmark file"):
        measured_points(tmp_path, jobs, config)


def test_a_plan_says_what_it_assumes_and_what_nobody_measured(config: Config) -> None:
    jobs = [job("read", slide=name, runtime_min=60) for name in "abc"] + [job("train", gpu=1, model="pca", seed="0")]
    plan = make_plan(jobs, config, Rates([point(1000, 36, stage="read")]), cores=2)
    assert (plan.cells, plan.assumed, plan.not_measured) == (5000 + ASSUMED_CELLS, 1, ("train (pca)",))
    read, train = plan.stages
    assert read.cpu_hours == pytest.approx([(5000 + ASSUMED_CELLS) / 1000 / 100] * 2)
    assert read.longest_hours == pytest.approx((ASSUMED_CELLS / 2e5, ASSUMED_CELLS / 1e5))
    assert (read.over_limit, read.beyond, read.memory_mb) == (1, ASSUMED_CELLS / 1000, 900)
    assert (train.jobs, train.gpu_jobs, train.not_measured, train.cpu_hours) == (1, 1, 1, (0, 0))
    assert plan.least_s[-1] == plan.most_s[-1] == 0
