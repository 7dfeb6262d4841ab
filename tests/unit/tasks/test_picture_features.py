from __future__ import annotations

import numpy as np
import pytest

from mistline.tasks.picture_features import FEATURES, morphology, nuclei, resized

SIDE, FINER = 40, 4


def ellipses(a, b, angle=0.0, light=200, ground=10, centre=(0.0, 0.0)) -> np.ndarray:
    """Return [n, 1, S, S]: ellipses of these half axes in pixels, drawn on a finer grid."""
    a, b, angle, light = (
        np.asarray(value, dtype=float).reshape(-1, 1, 1) for value in np.broadcast_arrays(a, b, angle, light)
    )
    y, x = (np.mgrid[: SIDE * FINER, : SIDE * FINER] + 0.5) / FINER - SIDE / 2
    y, x = y - centre[0], x - centre[1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = ((u / a) ** 2 + (v / b) ** 2 < 1).reshape(len(a), SIDE, FINER, SIDE, FINER).mean(axis=(2, 4))
    return np.round(ground + inside * (light - ground)).astype(np.uint8)[:, None]


def test_ellipses_of_known_size_shape_and_light():
    rng = np.random.default_rng(0)
    a, ratio, angle, light = (rng.uniform(low, high, 60) for low, high in ((8, 12), (0.5, 1), (0, 3), (80, 240)))
    found = morphology(ellipses(a, a * ratio, angle, light))
    assert list(found.columns) == list(FEATURES)
    assert found["area"].to_numpy() * SIDE**2 == pytest.approx(np.pi * a**2 * ratio, rel=0.08)
    assert found["brightness"].to_numpy() == pytest.approx(light / 255, rel=0.08)  # the rim is part of it
    assert np.corrcoef(found["eccentricity"], np.sqrt(1 - ratio**2))[0, 1] > 0.97
    assert found["compactness"].to_numpy() == pytest.approx(1, abs=0.03)


def test_one_feature_moves_alone():
    plain, large, long, bright = morphology(
        np.concatenate([ellipses(8, 8), ellipses(10, 10), ellipses(10, 6.4), ellipses(8, 8, light=120)])
    ).to_dict("records")
    assert large["area"] > 1.4 * plain["area"]
    assert large["brightness"] == pytest.approx(plain["brightness"], rel=0.03)
    assert long["eccentricity"] > 0.7 > 0.2 > plain["eccentricity"]
    assert long["area"] == pytest.approx(plain["area"], rel=0.05)
    assert bright["brightness"] < 0.65 * plain["brightness"]
    assert bright["area"] == pytest.approx(plain["area"], rel=0.05)


def test_grain_is_texture_and_a_ragged_outline_is_not_compact():
    disc = ellipses(9, 9)[0, 0]
    rng = np.random.default_rng(1)
    grain = np.where(disc > 100, np.clip(disc + rng.normal(0, 30, disc.shape), 0, 255), disc)
    star = disc.copy()
    star[18:22, 18:] = 10  # a notch from the centre outwards
    plain, rough, notched = morphology(np.array([disc, grain, star]).astype(np.uint8)[:, None]).to_dict("records")
    assert rough["texture"] > plain["texture"] + 0.05
    assert notched["compactness"] < plain["compactness"] - 0.04


def test_the_nucleus_in_the_middle_is_taken_and_not_a_larger_one_at_the_rim():
    own, other = ellipses(6, 6), ellipses(14, 14, centre=(-22, -22))
    both = np.maximum(own, other)
    assert not nuclei(both)[0, :8, :8].any()
    assert morphology(both)["area"][0] == pytest.approx(morphology(own)["area"][0], rel=0.1)


def test_images_without_a_nucleus_and_coloured_ones():
    flat = np.full((2, 1, SIDE, SIDE), 51, dtype=np.uint8)
    flat[1] = 0
    found = morphology(flat)
    assert (found.drop(columns="brightness") == 0).all(axis=None)
    assert found["brightness"].tolist() == pytest.approx([0.2, 0])
    stain = ellipses(9, 7)
    colour = np.repeat(255 - stain, 3, axis=1)  # dark on bright
    assert morphology(colour).to_numpy() == pytest.approx(morphology(stain).to_numpy(), abs=1e-4)
    assert morphology(stain[:0]).shape == (0, len(FEATURES))


def test_another_size_keeps_shares():
    small, large = (resized(ellipses(9, 7), side) for side in (SIDE // 2, SIDE * 2))
    assert (small.shape, large.shape) == ((1, 1, SIDE // 2, SIDE // 2), (1, 1, SIDE * 2, SIDE * 2))
    found = morphology(large)
    assert found["area"][0] == pytest.approx(morphology(ellipses(9, 7))["area"][0], rel=0.05)
    assert np.array_equal(resized(large, SIDE * 2), large)
