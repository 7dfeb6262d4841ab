from __future__ import annotations

from types import SimpleNamespace

import pytest

from mistline.core.errors import ResourceError
from mistline.models.contract import Context
from mistline.models.pca.params import Params
from mistline.train import run

CONTEXT = Context(0, "cpu", 1, None)


def test_metrics_come_back(memory_source):
    trained = run.train("mistline.models.pca", Params(n_components=4), memory_source(), memory_source(n=7), CONTEXT)
    (row,) = trained.metrics
    assert (row["n_train"], row["n_val"]) == (120, 7)
    assert 0 < row["explained_variance"] <= 1


def test_a_loss_that_is_not_finite_stops_the_training(monkeypatch, memory_source):
    model = SimpleNamespace(fit=lambda *_: iter([{"step": 1, "loss": 0.5}, {"step": 2, "loss": float("nan")}]))
    monkeypatch.setattr(run, "model_class", lambda _: SimpleNamespace(create=lambda *_: model))
    with pytest.raises(ResourceError, match="training step 2: loss is not finite"):
        run.train("any", Params(), memory_source(), memory_source(), CONTEXT)
