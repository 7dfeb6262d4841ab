"""The section of filled holes: what is compared with what, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import anndata
import jinja2
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.files import write_parquet
from mistline.core.hdf5 import write_h5ad
from mistline.report import page, unseen
from mistline.report.pictures import Album
from mistline.report.results import Results
from mistline.report.sources import SlideSource
from mistline.report.unseen import view_unseen
from mistline.report.unseen_cells import FilledSlide, training_depth
from mistline.store.embeddings import Origin
from mistline.store.filled import Filled, write_filled
from tests.unit.report.test_page import Outline

SIDE, VERSION, HOSTILE = 15, "a" * 64, "<script>x"
GENES = ("loud", "gradient", "noise", "unsold")
IDS = np.array([f"c{number:04d}" for number in range(SIDE**2)])
XY = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2) * 10.0
HOLE = (np.abs(XY - 70) < 25).all(axis=1)  # 5 x 5 cells


def counts(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.poisson([40, 8, 8, 8], (SIDE**2, len(GENES))) + 1
    found[:, 1] = 1 + XY[:, 0] // 5
    return found


def logged(seed: int, depth: float) -> np.ndarray:
    """Return [N, 3] of the genes that models generate, as they are to be compared."""
    own = counts(seed)[:, :3].astype(float)
    return np.log1p(own / own.sum(axis=1, keepdims=True) * depth)


@pytest.fixture
def slides(tmp_path):
    found = []
    for seed, (name, side) in enumerate({"learnt": "train", "tested": "test"}.items()):
        folder = tmp_path / name
        cells = pd.DataFrame({"cell_id": IDS, "x_um": XY[:, 0], "y_um": XY[:, 1]})
        write_parquet(folder / "cells.parquet", cells)
        write_parquet(folder / "split.parquet", pd.DataFrame({"cell_id": IDS, "split": side}))
        var = pd.DataFrame({"symbol": [f"{gene}!" for gene in GENES]}, index=list(GENES))
        matrix = sparse.csr_matrix(counts(seed).astype(np.int32))
        write_h5ad(folder / "counts.h5ad", anndata.AnnData(matrix, pd.DataFrame(index=IDS), var))
        bundle = {"panel": {"n_genes": len(GENES)}}
        found.append(SlideSource(name, "d", "t", "h", folder, folder / "split.parquet", bundle, {}, {}, {}))
    return found


def filled(told: np.ndarray, model: str, rows: np.ndarray | None = None) -> Filled:
    rows = np.flatnonzero(HOLE) if rows is None else rows
    n = len(rows)
    return Filled(
        slide=np.full(n, "tested"),
        hole=np.zeros(n, np.int16),
        cell_id=IDS[rows],
        round=(1 + (np.arange(n) % 2)).astype(np.int16),
        way=np.array(["widened", *["generated"] * (n - 1)]),
        metacell=np.full(n, -1, np.int32),
        told=told.astype(np.float32),
        is_quantised=False,
        genes=GENES[:3],
        expression=np.eye(3, dtype=np.float32),
        origin=Origin(model, 0, "0" * 64, VERSION),
        about={"protocol": "holes_300"},
    )


@pytest.fixture
def models(slides):
    """What is measured, and what the control itself says, as models."""
    depth = float(np.median(counts(0)[:, :3].sum(axis=1)))
    truth = logged(1, depth)
    gap = np.linalg.norm(XY[HOLE][:, None] - XY[~HOLE][None], axis=2)
    near = np.sort(gap, axis=1)
    untied = near[:, 9] < near[:, 10] - 1e-9  # where it is known which cells are the ten nearest
    mean = truth[~HOLE][np.argsort(gap, axis=1, kind="stable")[:, :10]].mean(axis=1)
    return {"truth": truth[HOLE], "mean": mean, "untied": untied, "depth": depth}


def written(folder, *items: Filled) -> list:
    paths = [folder / f"{number}.parquet" for number in range(len(items))]
    for path, item in zip(paths, items, strict=True):
        write_filled(path, item)
    return paths


def test_the_control_is_the_mean_of_ten_visible_cells_at_the_training_depth(slides, models):
    assert training_depth(slides, GENES[:3]) == models["depth"]
    slide = FilledSlide(slides[1], GENES[:3], IDS[HOLE].tolist(), models["depth"])
    rows = np.flatnonzero(HOLE)
    np.testing.assert_allclose(slide.measured(rows).toarray(), models["truth"], rtol=1e-5)
    untied = models["untied"]
    assert untied.any()
    np.testing.assert_allclose(slide.around(rows)[untied], models["mean"][untied], rtol=1e-5)
    assert slide.symbols[slide.most_spatial(np.array([70.0, 70.0]))] == "gradient!"


def test_errors_are_those_of_the_model_and_of_the_control_on_the_same_cells(slides, models, tmp_path, monkeypatch):
    drawn = []
    real = unseen.Maps
    monkeypatch.setattr(unseen, "Maps", lambda *given: drawn.append(given) or real(*given))
    constant = np.tile(models["truth"].mean(axis=0), (HOLE.sum(), 1))
    paths = written(tmp_path, filled(models["truth"], HOSTILE), filled(constant, "constant"))
    (tmp_path / "figures").mkdir()
    (view,) = view_unseen(paths, slides, VERSION, Album(tmp_path / "figures", 10**6, 0))
    values = [[field.value for field in line.cells] for line in view.table.rows]
    assert [line[:3] for line in values] == [
        [HOSTILE, 1, 13],
        [HOSTILE, 2, 12],
        ["constant", 1, 13],
        ["constant", 2, 12],
    ]
    around = FilledSlide(slides[1], GENES[:3], IDS[HOLE].tolist(), models["depth"]).around(np.flatnonzero(HOLE))
    for number, line in enumerate(values):
        own = slice(number % 2, None, 2)
        told = models["truth"] if number < 2 else constant
        expected = [np.sqrt(np.square(one[own] - models["truth"][own]).mean()) for one in (told, around)]
        np.testing.assert_allclose(line[3:5], expected, atol=2e-3)
        assert line[5] == pytest.approx(line[3] / line[4])
    marks = [[field.mark for field in line.cells[3:5]] for line in view.table.rows]
    assert marks[:2] == [["best", ""]] * 2
    assert all(
        mark == (["best", ""] if line[3] < line[4] else ["", "best"]) for mark, line in zip(marks, values, strict=True)
    )
    assert "filled 1 from wider windows" in view.sentence
    shown, panels, box = drawn[0][:3]
    inside = (np.abs(shown - 70) < 25).all(axis=1)
    assert list(panels) == ["measured", f"model: {HOSTILE}", "model: constant", "control: mean of ten nearest"]
    for name, panel in panels.items():
        np.testing.assert_array_equal(panel[~inside], panels["measured"][~inside], err_msg=name)
    np.testing.assert_allclose(panels[f"model: {HOSTILE}"], panels["measured"], atol=2e-3)
    np.testing.assert_allclose(panels["model: constant"][inside], constant[0, 1], atol=2e-3)
    assert box == (50.0, 50.0, 90.0, 90.0)
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 2
    loader = jinja2.PackageLoader("mistline.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.get_template("sections/unseen.html.j2").render(unseen=[view])
    assert HOSTILE not in text
    assert sorted(item["class"] for item in Outline(text).all("img")) == ["light", "lightbox"]


def test_what_does_not_fit_together_is_refused(slides, models, tmp_path):
    album = Album(tmp_path, 10**6, 0)
    good, rows = filled(models["truth"], "good"), np.flatnonzero(HOLE)
    (path,) = written(tmp_path, good)
    with pytest.raises(InputError, match="was made from dataset aaaaaaaaaaaa, not from bbb"):
        view_unseen([path], slides, "b" * 64, album)
    with pytest.raises(InputError, match="slide tested was filled and is not shown"):
        view_unseen([path], slides[:1], VERSION, album)
    fewer = written(tmp_path, good, filled(models["truth"][1:], "fewer", rows[1:]))
    with pytest.raises(InputError, match="other cells were filled"):
        view_unseen(fewer, slides, VERSION, album)
    names = replace(good, cell_id=np.array(["nobody", *good.cell_id[1:]]))
    with pytest.raises(InputError, match="cell nobody was filled and is not stored"):
        view_unseen(written(tmp_path, names), slides, VERSION, album)


def test_without_filled_cells_there_is_no_section(slides, tmp_path):
    assert view_unseen([], slides, VERSION, Album(tmp_path, 0, 0)) == ()
    for files, is_left_out in (((), True), ((tmp_path,), False)):
        gathered = SimpleNamespace(quality={}, generated=True, filled=files, results=Results())
        assert ("unseen" in page._omitted(gathered)) == is_left_out
