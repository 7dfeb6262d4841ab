from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mistline.tasks import decoders
from mistline.tasks.decoders import DECODERS, Pairs

SPLITS = {"train": 300, "val": 100, "test": 100}


def _pairs(n_val=100, noise=0.1, targets=2):
    rng = np.random.default_rng(0)
    points, values = {}, {}
    weights = rng.normal(size=(4, targets))
    for split, n in (SPLITS | {"val": n_val}).items():
        x = rng.normal(size=(n, 4)).astype(np.float32)
        points[split] = 10 * x + 3
        values[split] = (np.tanh(x) @ weights + 5 + noise * rng.normal(size=(n, targets))).astype(np.float32)
    return Pairs(points, {"train": values["train"], "val": values["val"]}), values["test"]


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("targets", [1, 2])
def test_what_is_planted_is_decoded(name, targets):
    pairs, truth = _pairs(targets=targets)
    predicted, chosen = DECODERS[name](pairs, 0)
    assert predicted.shape == truth.shape
    assert np.mean((predicted - truth) ** 2) < 0.2 * truth.var(axis=0).mean()
    assert chosen


@pytest.mark.parametrize("name", DECODERS)
def test_without_validation_the_usual_is_taken(name):
    pairs, truth = _pairs(n_val=0)
    predicted, chosen = DECODERS[name](pairs, 0)
    assert predicted.shape == truth.shape
    assert chosen in ({"penalty": 1.0}, {"epochs": 30, "hidden": 256})


@pytest.mark.parametrize("name", DECODERS)
def test_repeats_to_the_last_bit(name):
    first, second = (DECODERS[name](_pairs()[0], 1)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_ridge_is_that_of_the_library():
    pairs, _ = _pairs(n_val=0)
    predicted, _ = decoders.ridge(pairs)
    x = pairs.points["train"]
    mean, scale = x.mean(axis=0), x.std(axis=0)
    theirs = Ridge(alpha=len(x)).fit((x - mean) / scale, pairs.targets["train"])
    np.testing.assert_allclose(predicted, theirs.predict((pairs.points["test"] - mean) / scale), atol=1e-4)


def test_noise_asks_for_a_strong_penalty_and_an_early_stop():
    rng = np.random.default_rng(0)
    points = {split: rng.normal(size=(60, 50)).astype(np.float32) for split in SPLITS}
    targets = {split: rng.normal(size=(60, 3)).astype(np.float32) for split in ("train", "val")}
    pairs = Pairs(points, targets)
    assert decoders.ridge(pairs)[1]["penalty"] >= 10
    assert decoders.mlp(pairs, 0)[1]["epochs"] < 30


def test_a_feature_that_is_constant_in_training_does_no_harm():
    pairs, truth = _pairs()
    for split in pairs.points:
        pairs.points[split][:, 0] = 7
    for decode in DECODERS.values():
        assert np.isfinite(decode(pairs, 0)[0]).all()
        assert decode(pairs, 0)[0].shape == truth.shape
