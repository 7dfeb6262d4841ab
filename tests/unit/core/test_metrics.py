from __future__ import annotations

import pytest

from mistline.core.metrics import direction, place


@pytest.mark.parametrize(
    ("metric", "sign"),
    [
        *(("ari", 1), ("recall_at_5", 1), ("linear_macro_f1", 1), ("ring_accuracy", 1), ("pcc_top50", 1)),
        *(("log_loss", -1), ("log_loss_calibrated", -1), ("mlp_log_loss", -1), ("rmse_z", -1)),
        *(("psnr", 1), ("readback_pearson", 1), ("area_r", 1), ("fid", -1), ("copies", -1), ("area_distance", -1)),
        *(("moran_difference", -1), ("rmse_log", -1), ("ssim_windowed", 1), ("sd_r", 1), ("coverage_90", 0)),
        *(("arid", 0), ("speed", 0), ("logloss", 0)),
    ],
)
def test_a_name_says_which_direction_is_better(metric, sign):
    assert direction(metric) == sign


def test_the_metric_to_quote_comes_first():
    metrics = ["knn_macro_f1", "accuracy", "ari", "zeta", "linear_macro_f1", "ring_accuracy"]
    found = sorted(metrics, key=place)
    assert found == ["ari", "accuracy", "ring_accuracy", "linear_macro_f1", "knn_macro_f1", "zeta"]
