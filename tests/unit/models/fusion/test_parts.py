"""Every choice of encoder, graph, fusion and image either trains and predicts, or is refused before anything runs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mistline.config.base import validate
from mistline.core.errors import ConfigError
from mistline.models.contract import Context
from mistline.models.fusion.model import Model
from mistline.models.fusion.params import Params

CONTEXT = Context(0, "cpu", 1, None)
SMALL = {"width": 8, "hidden": 8, "epochs": 1, "min_epochs": 0, "n_genes": 20, "image_size": 16}
CHOICES = list(
    product(
        ("none", "mlp", "frozen"),
        ("none", "gcn", "gat"),
        ("none", "concat", "gated", "cross_attention"),
        ("none", "frozen", "trainable"),
    )
)


def makes_sense(encoder: str, graph: str, fusion: str, image: str) -> bool:
    """Say so from the meaning of the parts: what is fused, and whether anything is left over."""
    has = [part != "none" for part in (encoder, graph, image)]
    if fusion == "none":  # a graph takes the encoder's output by itself; an image has nowhere to go
        return sum(has) == 1 or has == [True, True, False]
    if fusion == "cross_attention":
        return has[0] and has[1]
    return sum(has) >= 2


def named(encoder: str, graph: str, fusion: str, image: str) -> dict[str, object]:
    given = {"encoder": encoder, "graph": graph, "fusion": fusion, "image": image}
    given |= {"frozen": "a"} if encoder == "frozen" else {}
    return given | ({"frozen_image": "b"} if image == "frozen" else {})


class Crops:
    """Crops of one grey each."""

    channels = ("DAPI",)

    def __call__(self, rows, size_px):
        light = (np.asarray(rows) % 200).astype(np.uint8)
        return np.broadcast_to(light[:, None, None, None], (len(rows), 1, size_px, size_px)).copy()


@pytest.fixture(scope="module")
def embeddings() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(100, width)).astype(np.float32) for name, width in (("a", 5), ("b", 4))}


def test_choices_that_make_sense_are_those_one_counts_by_hand():
    assert (len(CHOICES), sum(makes_sense(*choice) for choice in CHOICES)) == (108, 10 + 2 * 20 + 12)


@pytest.mark.parametrize("choice", [c for c in CHOICES if makes_sense(*c)], ids="-".join)
def test_every_choice_that_makes_sense_trains_and_predicts(choice, problem, changed, embeddings):
    given = changed(problem(side=10), embeddings=embeddings, images=Crops())
    model = Model.create(Params(**named(*choice), **SMALL), given, CONTEXT)
    (row,) = model.fit(given, CONTEXT)
    assert np.isfinite(row["loss"])
    assert all(weight.grad is not None for weight in model.network.parameters()), "a part takes no part in training"
    (found,) = model.predict(given, CONTEXT)
    assert found.shape == (100, 7)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("choice", [c for c in CHOICES if not makes_sense(*c)], ids="-".join)
def test_every_other_choice_is_refused(choice):
    with pytest.raises(ConfigError, match=r"models\.m"):
        validate(Params, named(*choice), "models.m")


@pytest.mark.parametrize(
    "neighbours",
    [
        {"kind": "hexagonal"},
        {"kind": "nearest", "k": [4]},
        {"kind": "nearest", "k": [4, 9]},
        {"kind": "radius", "radius_um": 110.0},
        {"kind": "delaunay"},
    ],
    ids=str,
)
@pytest.mark.parametrize("full_batch_below", [100_000, 1], ids=["whole", "sampled"])
def test_every_graph_serves_every_fusion_whole_or_sampled(neighbours, full_batch_below, problem):
    given = problem(side=10)
    params = Params(
        preset="cross_attention",
        official=False,
        neighbours=neighbours,
        full_batch_below=full_batch_below,
        batch_cells=16,
        **SMALL,
    )
    model = Model.create(params, given, CONTEXT)
    list(model.fit(given, CONTEXT))
    assert np.isfinite(next(iter(model.predict(given, CONTEXT)))).all()
