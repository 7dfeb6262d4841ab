"""The table of speed and quality, of a generator that was never trained."""

from __future__ import annotations

import json

import pytest

from mistline.core.errors import ConfigError
from mistline.stages import sweep

PARAMS = {"sampling": {"steps": 2}, "sweep": {"n_cells": 8, "steps": [2, 1], "ratios": [0, 0.5], "ways": ["tomesd"]}}


@pytest.fixture(scope="module")
def table(line, tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "cells.json"
    sweep.run(**line.options, table=path, params=json.dumps(PARAMS))
    assert path.with_name("cells.json.meta.json").is_file()
    return json.loads(path.read_text())


def test_a_row_a_variant_with_speed_and_quality(table):
    rows = {(row["way"], row["ratio"], row["steps"]): row for row in table["rows"]}
    assert list(rows) == [("none", 0.0, 2), ("tomesd", 0.5, 2), ("none", 0.0, 1), ("tomesd", 0.5, 1)]
    whole = rows["none", 0.0, 2]
    assert whole["speedup"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "psnr_unmerged" not in whole
    for key, row in rows.items():
        assert row["seconds_per_image"] > 0
        assert len(row["seconds"]) == 4
        for metric in ("psnr", "ssim", "fid"):
            assert row[metric]["low"] <= row[metric]["value"] <= row[metric]["high"]
            assert (f"{metric}_difference" in row) == (key[0] != "none")
    merged = rows["tomesd", 0.5, 2]
    gap = merged["psnr"]["value"] - whole["psnr"]["value"]
    assert merged["psnr_difference"]["value"] == pytest.approx(gap)
    assert merged["psnr_unmerged"]["value"] > rows["none", 0.0, 1]["psnr_unmerged"]["value"]  # steps change more


def test_the_table_says_where_it_is_from(table):
    assert table["latent_shape"] == [4, 4, 4]
    assert (table["tokens"], table["image_size"], table["n_cells"], table["batch_size"]) == (16, 16, 8, 2)
    assert (table["device"], table["threads"], table["model"]) == ("CPU", 1, "cells")
    assert "no layer has the 256 tokens" in table["notes"][0]
    shares = table["share_of_sampling"]
    assert 0 < shares["self_attention"] < shares["transformer_blocks"] < 1


def test_no_sweep_is_told(line, tmp_path):
    with pytest.raises(ConfigError, match="none is asked for"):
        sweep.run(**line.options, table=tmp_path / "t.json")
