"""A gest that learnt the squares of a tissue, and classes that follow them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from mistline.core.errors import InputError
from mistline.models.contract import Context
from mistline.models.gest import model as gest
from mistline.models.gest.embedding import Niche, embedded
from mistline.models.gest.params import Params as GestParams
from mistline.models.gest.windows import Cells
from mistline.models.niche.cells import cells_of
from mistline.models.niche.model import Model
from mistline.models.niche.network import Network, fit_head
from mistline.models.niche.params import Params
from mistline.models.predictor import Problem, SlideCells
from mistline.train.device import cpu_threads
from tests.unit.models.gest import synthetic
from tests.unit.models.gest.synthetic import K, T, Tissue

CLASSES = ("a", "b", "c", "never")
NICHE = Niche(90.0, 1024, 1)


@pytest.fixture(autouse=True)
def _one_thread():
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    with cpu_threads(1):
        return synthetic.trained(tmp_path_factory.mktemp("start"), steps=25, embed_corners=2)[0]


def _slide(tissue: Tissue, name: str, seed: int) -> SlideCells:
    """Classes are the kind of a cell's square; the cell itself is of another kind once in ten times."""
    square = (tissue.xy_um // synthetic.SQUARE_UM).astype(int)
    kinds = np.random.default_rng(1).integers(0, K, (4, 4))
    part = np.random.default_rng(seed).choice(["train", "val", "test"], len(tissue.ids), p=[0.6, 0.2, 0.2])
    label = np.where(part == "test", -1, kinds[square[:, 0], square[:, 1]] // 2)
    counts = sparse.csr_matrix(tissue.expression)
    places = tissue.xy_um.astype(np.float64)
    metacell = tissue.metacell.astype(np.int64)
    return SlideCells(name, "d", tissue.ids, counts, places, None, label, part.astype(object), {}, None, metacell)


def _truth(slide: SlideCells) -> np.ndarray:
    square = (slide.xy_um // synthetic.SQUARE_UM).astype(int)
    return np.random.default_rng(1).integers(0, K, (4, 4))[square[:, 0], square[:, 1]] // 2


@pytest.fixture
def problem(start):
    slides = [_slide(Tissue(n=150, seed=seed), f"s{seed}", seed) for seed in (5, 6)]
    return Problem(slides, synthetic.vocabulary().genes, "log", CLASSES, start)


def _fitted(problem: Problem, folder, **settings):
    context = Context(3, "cpu", 1, folder)
    model = Model.create(Params(start="g", **settings), problem, context)
    return model, list(model.fit(problem, context)), list(model.predict(problem, context))


def test_the_state_at_the_cells_own_place_is_its_embedding(start, problem):
    cells, rows = cells_of(start, problem)[0], np.array([0, 7, 120])
    for pooling, of in (("mean", lambda part: part.mean(dim=0)), ("max", lambda part: part.amax(dim=0))):
        network = Network(start.net, NICHE, pooling, 3).eval()
        parts = []
        network._pooled = lambda part, parts=parts: parts.append(part) or part[-1]
        with torch.no_grad():
            np.testing.assert_allclose(network(cells, rows), embedded(start.net, cells, rows, NICHE), atol=1e-5)
            del network._pooled
            np.testing.assert_allclose(network(cells, rows), torch.stack(list(map(of, parts))), atol=1e-6)
            alone = torch.cat([network(cells, rows[i : i + 1]) for i in range(3)])
            np.testing.assert_allclose(network(cells, rows), alone, atol=1e-5)
        assert [len(part) for part in parts] == [_n_around(cells, row) for row in rows]


def _n_around(cells: Cells, row: int) -> int:
    return int((np.abs(cells.xy_um - cells.xy_um[row]).max(axis=1) <= NICHE.side_um / 2).sum())


def test_the_probe_is_a_logistic_regression_and_gives_no_class_that_nobody_has():
    rng = np.random.default_rng(0)
    label = rng.choice([0, 1, 3], 300)
    states = 5 + 3 * np.eye(4)[label] + rng.normal(size=(300, 4))
    head = torch.nn.Linear(4, 4)
    fit_head(head, *map(torch.from_numpy, (states.astype(np.float32), label)), torch.tensor([1.0, 1, 0, 1]))
    from sklearn.linear_model import LogisticRegression

    standard = (states - states.mean(axis=0)) / states.std(axis=0)
    known = LogisticRegression(max_iter=1000).fit(standard, label).predict_proba(standard)
    found = head(torch.from_numpy(states.astype(np.float32))).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(found[:, [0, 1, 3]], known, atol=0.02)
    assert found[:, 2].max() < 1e-6


def test_training_goes_on_from_the_run_and_leaves_it_as_it_is(start, problem, tmp_path):
    before = {name: value.clone() for name, value in start.net.state_dict().items()}
    probe, rows, told = _fitted(problem, tmp_path, frozen=True)
    assert [row["step"] for row in rows] == [0]
    tuned, course, found = _fitted(problem, tmp_path, learning_rate=3e-4, epochs=2)
    assert [row["step"] for row in course] == [0, 1, 2]
    assert course[0] == rows[0]  # it begins with the probe
    assert course[-1]["train_loss"] < course[1]["train_loss"]
    moved = tuned.network.encoder.state_dict()
    assert not torch.equal(moved["blocks.0.qkv.weight"], probe.network.encoder.state_dict()["blocks.0.qkv.weight"])
    assert all(torch.equal(value, before[name]) for name, value in start.net.state_dict().items())
    best = max(row["val_macro_f1"] for row in course)
    assert tuned._judged(tuned._labelled(problem, "val", 3), 4)["val_macro_f1"] == pytest.approx(best)
    for answers in (told, found):
        right = []
        for slide, own in zip(problem.slides, answers, strict=True):
            is_asked = slide.part != "train"
            np.testing.assert_allclose(own[is_asked].sum(axis=1), 1, atol=1e-5)
            assert not own[~is_asked].any()
            right.append((own.argmax(axis=1) == _truth(slide))[slide.part == "test"])
        assert np.concatenate(right).mean() > 0.7
    again = _fitted(problem, tmp_path, learning_rate=3e-4, epochs=2)
    assert again[1] == course
    assert all(np.array_equal(a, b) for a, b in zip(again[2], found, strict=True))


def test_draws_are_of_all_classes_alike_and_of_training_cells_alone(problem, tmp_path, monkeypatch):
    slide = problem.slides[0]
    common, rare = np.flatnonzero((slide.part == "train") & (slide.label == slide.label.max()))[:3], slide.label == 0
    label = np.where(rare, 0, 1)
    label[common], label[slide.part != "train"] = 2, -1
    one = replace(problem, slides=[replace(slide, label=label)])
    model, seen = Model.create(Params(start="g"), one, Context(3, "cpu", 1, tmp_path)), []
    monkeypatch.setattr(
        model, "_loss", lambda pairs, label: seen.append((pairs, label)) or model.network.head.bias.sum()
    )
    train = model._labelled(one, "train", 3)
    model._epoch(train, torch.optim.SGD(model.network.parameters(), lr=0.0), 5)
    pairs, drawn = (np.concatenate(part) for part in zip(*seen, strict=True))
    assert (slide.part[pairs[:, 1]] == "train").all()
    np.testing.assert_array_equal(label[pairs[:, 1]], drawn)
    assert len(drawn) == len(train.label)
    assert np.bincount(drawn).min() > 0.2 * len(drawn)  # three cells of a hundred are a third of the draws
    model.params = Params(start="g", max_cells=20)
    assert len(model._labelled(one, "train", 3).label) == 20


@pytest.mark.parametrize("quantised", [True, False])
def test_of_tables_content_is_what_the_run_itself_reads(tmp_path, quantised):
    table = Tissue(n=200, own=False)
    settings = {**synthetic.SETTINGS, "n_metacells": 6, "min_cells_metacell": 2, "levels": [], "quantised": quantised}
    start = gest.Model.create(GestParams(**settings), table, Context(1, "cpu", 1, tmp_path))
    order = np.random.default_rng(0).permutation(T)  # genes come in another order, and with one more
    counts = sparse.csr_matrix(np.column_stack([np.full(200, 7.0), table.expression[:, order]]))
    slide = replace(_slide(table, "s", 0), counts=counts, metacell=None)
    genes = ("other", *np.array(table.genes)[order].tolist())
    found = cells_of(start, Problem([slide], genes, "log", CLASSES))
    np.testing.assert_array_equal(found[0].content, start.cells_of(table).cells.content)
    with pytest.raises(InputError, match="holds counts, the run was trained on log"):
        cells_of(start, Problem([slide], genes, "counts", CLASSES))
    with pytest.raises(InputError, match="share 42% of the run's genes, fewer than 50%"):
        cells_of(start, Problem([replace(slide, counts=counts[:, :6])], genes[:6], "log", CLASSES))


def test_what_the_run_cannot_read_is_refused(start, problem, tmp_path):
    slide = problem.slides[0]
    away = slide.xy_um.copy()
    away[3] = np.nan
    for change, said in (
        ({"metacell": None}, "its cells have no meta-cells"),
        ({"metacell": np.full(150, K)}, "a meta-cell of it is none of the run's 6"),
        ({"xy_um": away}, "some of its cells have no place"),
    ):
        with pytest.raises(InputError, match=said):
            cells_of(start, replace(problem, slides=[replace(slide, **change)]))
    with pytest.raises(InputError, match="start g: the trained run was not given"):
        Model.create(Params(start="g"), replace(problem, start=None), Context(0, "cpu", 1, tmp_path))


def test_a_probe_has_no_settings_of_a_training():
    with pytest.raises(ValueError, match="leave out epochs, learning_rate"):
        Params(start="g", frozen=True, epochs=3, learning_rate=0.1)
