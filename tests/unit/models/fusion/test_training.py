from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from mistline.models.contract import Context
from mistline.models.fusion.dropout import Dropout
from mistline.models.fusion.model import gather
from mistline.models.fusion.network import Network
from mistline.models.fusion.objectives import Labels, class_weights, macro_f1
from mistline.models.fusion.params import Params
from mistline.models.fusion.training import Part, train

CONTEXT = Context(0, "cpu", 1, None)


def test_class_weights_sum_to_the_number_of_classes():
    weight = class_weights(np.array([0] * 6 + [1] * 3 + [2]), 3)
    np.testing.assert_allclose(weight, np.array([1, 2, 6]) / 9 * 3)
    missing = class_weights(np.array([0, 0, 2]), 4)
    assert missing.sum() == pytest.approx(4)
    assert missing[[1, 3]].tolist() == [0, 0]


def test_macro_f1_is_that_of_the_classes_that_occur():
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    expected = f1_score(label, predicted, labels=[0, 1, 2, 3], average="macro")
    assert macro_f1(label, predicted, 6) == pytest.approx(expected)


class _Scripted(Labels):
    """Says what a list says, whatever the network does."""

    def __init__(self, script, *rest):
        super().__init__(*rest)
        self.script = iter(script)

    def summary(self, rows):
        return {"val_loss": 0.0, "val_macro_f1": next(self.script)}


def test_training_stops_and_restores_the_best_state(problem):
    given = problem()
    params = Params(preset="expr_only", width=16, hidden=16, epochs=40, min_epochs=6, patience=3, plateau=1, n_genes=40)
    cells, sizes = gather(params, given)
    slide = given.slides[0]
    parts = tuple(Part(cells, np.flatnonzero(slide.part == name)) for name in ("train", "val"))
    network = Network(params, sizes)
    script = [0.1, 0.9, 0.2, 0.3, 0.1, 0.1, 0.1]  # the best is the second; six at least; then the patience is over
    course = train(network, parts, _Scripted(script, slide.label, np.ones(7), "macro_f1", "cpu"), params, CONTEXT)
    assert len(course) == 6
    assert course[-1]["lr"] < course[0]["lr"]
    short = params.model_copy(update={"epochs": 2})
    torch.manual_seed(0)
    first, second = Network(params, sizes), Network(params, sizes)
    second.load_state_dict(first.state_dict())
    train(first, parts, _Scripted(script, slide.label, np.ones(7), "macro_f1", "cpu"), params, CONTEXT)
    train(second, parts, _Scripted(script, slide.label, np.ones(7), "macro_f1", "cpu"), short, CONTEXT)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], rtol=0, atol=0)


def test_without_validation_cells_it_trains_to_the_end(problem, changed):
    given = problem()
    part = np.where(given.slides[0].part == "val", "train", given.slides[0].part)
    params = Params(preset="gcn_only", width=16, epochs=4, min_epochs=1, patience=1, n_genes=40)
    from mistline.models.fusion.model import Model

    course = list(Model.create(params, given, CONTEXT).fit(changed(given, part=part), CONTEXT))
    assert len(course) == 4
    assert set(course[0]) == {"step", "loss", "lr"}


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    ones = torch.ones(333, 301, requires_grad=True)
    layer = Dropout(0.1)
    found = layer(ones)
    assert (found == 0).float().mean().item() == pytest.approx(0.1, abs=0.005)
    assert found.mean().item() == pytest.approx(1, abs=0.005)
    found.sum().backward()
    torch.testing.assert_close(ones.grad, found.detach())
    assert layer.eval()(ones) is ones
