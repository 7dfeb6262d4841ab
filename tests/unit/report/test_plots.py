"""Figures of results: what is drawn is what was given."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.report.courses import _rank, _runs
from mistline.report.embeddings import _flat
from mistline.report.plots.confusion import Matrix, confusion
from mistline.report.plots.curves import Panel, Series, curves
from mistline.report.plots.dots import Dots, dots
from mistline.report.plots.theme import LIGHT, LIGHTBOX
from mistline.report.results_charts import _pooled_curve
from mistline.report.results_maps import _colours, _named, _read
from tests.conftest import REPOSITORY


def test_rows_of_a_confusion_are_shares():
    figure = confusion(LIGHT, [Matrix("m", np.array([[3.0, 1.0], [0.0, 0.0]]))], ["a", "b"])
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in figure.axes[0].texts] == [".75", ".25"]


def test_many_classes_have_no_numbers():
    figure = confusion(LIGHT, [Matrix("m", np.eye(20))], [f"c{i}" for i in range(20)])
    assert not figure.axes[0].texts


def test_controls_are_dashed_and_each_name_stands_once_in_the_legend():
    lines = [Series("m", False, [0, 1], [0, 1], faint=True), Series("m", False, [0, 1], [1, 0]),
             Series("a", True, [0, 1], [0, 0]), Series("b", True, [0, 1], [1, 1])]  # fmt: skip
    figure = curves(LIGHT, [Panel("t", "x", "y", lines)], {"m": "#ff0000"})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["m", "control: a", "control: b"]
    styles = [line.get_linestyle() for line in figure.axes[0].lines]
    assert styles[0] == styles[1] == styles[2] == "-"
    assert styles[3] == "--"


def test_cells_without_a_group_are_drawn_below():
    group = np.array(["a", None, "b"], dtype=object)
    figure = dots(LIGHTBOX, np.array([[0.0, 0], [1, 1], [2, 0]]), [Dots("t", group)], {"a": "#fff", "b": "#000"}, True)
    rest, known = figure.axes[0].collections
    np.testing.assert_allclose(rest.get_offsets(), [[1, 1]])
    np.testing.assert_allclose(known.get_offsets(), [[0, 0], [2, 0]])
    low, high = figure.axes[0].get_ylim()
    assert low > high  # y downwards, as on the slide


def test_curves_over_seeds_are_pooled_by_their_cells():
    one = [
        {"from_um": 0.0, "to_um": 50.0, "n": 1, "accuracy": 1.0},
        {"from_um": 50.0, "to_um": None, "n": 2, "accuracy": 0.5},
    ]
    two = [{"from_um": 0.0, "to_um": 50.0, "n": 3, "accuracy": 0.0}]
    x, accuracy, names = _pooled_curve([one, two])
    assert x.tolist() == pytest.approx([25.0, 57.5])
    assert (accuracy.tolist(), names) == ([0.25, 0.5], ["0–50", "50 and more"])


def test_a_cluster_has_the_colour_of_its_class():
    truth = pd.Series(["a", "a", "b", "b", "b"])
    clusters = pd.Series(["cluster 2", "cluster 2", "cluster 1", "cluster 1", "cluster 2"])
    assert _named(clusters, truth, {"a": "#1", "b": "#2"}) == ["a", "a", "b", "b", "a"]


def test_rare_classes_share_a_colour_where_there_are_too_many():
    truth = pd.Series([f"c{i:02d}" for i in range(20) for _ in range(20 - i)])
    found = _colours(truth)
    assert list(found) == [*(f"c{i:02d}" for i in range(14)), "other classes"]
    assert _named(pd.Series(["c00", "c19"]), truth, found) == ["c00", "other classes"]


def test_two_components_are_those_of_a_plain_svd():
    points = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) * [4, 2, 1, 0.5]
    places, share = _flat(points.astype(np.float32), "pca", 0)
    centred = points - points.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(left[:, :2] * values[:2]), rtol=1e-3, atol=1e-3)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), rel=1e-4)


def drawn_twice(way, n):
    points = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    first, second = (_flat(points, way, 3)[0] for _ in range(2))
    assert first.shape == (n, 2)
    np.testing.assert_array_equal(first, second)


def test_tsne_is_the_same_twice():
    drawn_twice("tsne", 60)


def test_umap_is_the_same_twice():
    """By itself, and interpreted: UMAP compiles itself for half a minute, to draw these points in a second."""
    code = "from tests.unit.report.test_plots import drawn_twice; drawn_twice('umap', 12)"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, check=True)


def test_a_training_without_steps_has_no_curve(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "explained": 0.2}\n')
    assert _runs(path) == []


def test_curves_begin_with_what_is_minimised():
    found = ["grad_norm", "image_cell", "val_loss", "genes_query", "loss"]
    assert sorted(found, key=_rank) == ["loss", "val_loss", "image_cell", "genes_query", "grad_norm"]


def test_a_damaged_course_is_one_sentence(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"step": 1}\n{"step"')
    with pytest.raises(InputError, match=r"c.jsonl.*is no JSON; run train or predict again"):
        _runs(path)


def test_answers_of_two_files_are_put_beside_the_same_cells(tmp_path):
    """In another order, with ids that two slides share; texts stay categories."""
    cells = pd.DataFrame({"slide": list("aabb"), "cell_id": list("1213"), "truth": list("xyxy")})
    one = cells.assign(answer_model=list("xxyy"))
    other = cells.assign(answer_places=list("yxyx")).iloc[[2, 0, 3, 1]]
    columns = [("m", tmp_path / "m.parquet", "answer_model"), ("c", tmp_path / "c.parquet", "answer_places")]
    one.astype("category").to_parquet(columns[0][1], index=False)
    other.astype("category").to_parquet(columns[1][1], index=False)
    found = _read(columns)
    assert found.astype(str).to_dict("list") == {
        **cells.to_dict("list"), "m": list("xxyy"), "c": list("yxyx"),
    }  # fmt: skip
    assert {str(kind) for kind in found.dtypes} == {"category"}
    for wrong in (other.iloc[:3], other.assign(cell_id="1"), other.assign(slide="z"), other.iloc[[0, 0, 1, 2]]):
        wrong.to_parquet(columns[1][1], index=False)
        with pytest.raises(InputError, match="tells of other cells"):
            _read(columns)
