from __future__ import annotations

import numpy as np
import pytest

from mistline.tasks.imputation_maps import maps_of
from mistline.tasks.imputation_metrics import NOMINAL, measure, measure_sd

# Three genes of four cells: one that is nearly right, a constant prediction, and negative values.
TRUTH = np.array([[0, 0, 2, 4], [0, 1, 0, 1], [1, 2, 3, 4]], dtype=np.float32).T
PREDICTED = np.array([[0, 2, 2, 4], [2, 2, 2, 2], [-1, -2, -3, -4]], dtype=np.float32).T
BY_HAND = {
    "pcc": [2 / 5.5**0.5, 0, -1],
    "spearman": [3.75 / 4.5, 0, -1],
    "rmse": [(2 - 4 / 5.5**0.5) ** 0.5, 2**0.5, 2],
    "rmse_log": [1, 2.5**0.5, 30**0.5],
    "js": [0.0956026, 0.2157616, 0.0278656],
    "auc": [0.875, 0.5, np.nan],
    # Each of the last three: light, contrast, structure.
    "ssim": [
        0.3751 / 0.390725 * (2 * 0.1465754 + 9e-4) / 0.297775 * 0.12545 / 0.1470254,
        1.0001 / 1.2501 * 9e-4 / 0.2509,
        -3.1249 / 6.640725 * 0.6259 / 1.329025 * -0.31205 / 0.31295,
    ],
}


@pytest.mark.parametrize("metric", BY_HAND)
def test_metrics_are_those_made_by_hand(metric):
    found = measure(TRUTH, PREDICTED, None)
    assert set(found) == set(BY_HAND)
    np.testing.assert_allclose(found[metric], BY_HAND[metric], rtol=1e-5, atol=1e-7)


def test_a_constant_truth_and_more_genes_than_a_block_are_no_error():
    truth = np.tile(np.float32([[1], [1], [1]]), (1, 300))
    found = measure(truth, truth, maps_of(np.array([[0.0, 0], [1, 0], [0, 1]])))
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(found, (300,))
    assert (found["pcc"].max(), found["ssim"].min(), found["js"].max()) == (0, pytest.approx(1), pytest.approx(0))
    assert found["ssim_windowed"] == pytest.approx(1)


def test_morans_i_where_all_others_are_neighbours():
    maps = maps_of(np.array([[0.0, 0], [1, 0], [3, 0], [4, 0]]))
    assert maps.moran(np.array([[0.0, 1], [5, 1], [2, 1], [7, 1]])) == pytest.approx([-1 / 3, 0])


def test_noise_has_no_moran_s_i_though_two_cells_lie_at_every_place():
    rng = np.random.default_rng(0)
    maps = maps_of(rng.uniform(0, 1000, (250, 2)).repeat(2, axis=0))
    assert not (maps.near == np.arange(500)[:, None]).any()
    assert maps.moran(rng.normal(size=(500, 200))).mean() == pytest.approx(0, abs=0.01)


def test_maps_tell_patterns_from_their_scatter():
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    half = (grid[:, :1] < 10).astype(np.float64)
    dealt = np.random.default_rng(0).permutation(half)
    maps = maps_of(grid)
    assert maps.shape == (10, 10)
    assert maps.moran(half)[0] > 0.8
    assert abs(maps.moran(dealt)[0]) < 0.1
    found = measure(np.hstack([half, half, half]), np.hstack([half, dealt, 0.9 * half + 0.1 * dealt]), maps)
    assert found["ssim_windowed"][0] == pytest.approx(1)
    assert found["ssim_windowed"][1] < 0.3 < 0.7 < found["ssim_windowed"][2]
    assert found["moran_difference"][0] == pytest.approx(0)
    assert found["moran_difference"][1] > 0.7


def test_where_places_are_not_known_there_is_no_map():
    assert maps_of(np.full((5, 2), np.nan)) is None
    assert maps_of(np.zeros((5, 2))) is None
    thin = np.column_stack([np.arange(4000.0), np.random.default_rng(0).uniform(0, 1e-6, 4000)])
    assert np.prod(maps_of(thin).shape) < 20_000


def test_intervals_of_a_right_sd_hold_what_they_should_and_those_of_half_do_not():
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.2, 2, (4000, 2))
    truth = rng.normal(0, sd)
    right, covered = measure_sd(truth, np.zeros_like(truth), sd)
    assert covered.mean(axis=1) == pytest.approx(NOMINAL, abs=0.02)
    assert right["coverage_90"] == pytest.approx([0.9, 0.9], abs=0.02)
    assert (right["sd_r"] > 0.4).all()
    narrow, _ = measure_sd(truth, np.zeros_like(truth), sd / 2)
    assert (narrow["coverage_90"] < 0.65).all()
    assert measure_sd(truth, np.zeros_like(truth), np.ones_like(sd))[0]["sd_r"] == pytest.approx([0, 0])
