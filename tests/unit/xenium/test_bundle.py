from __future__ import annotations

import json

import pytest

from mistline.core.errors import InputError
from mistline.xenium.bundle import check_pixel_size, read_experiment, version_hint


def _write(tmp_path, **changes):
    values = {"pixel_size": 0.2125, "num_cells": 5, "analysis_sw_version": "xenium-3.0.0.15"} | changes
    path = tmp_path / "experiment.xenium"
    path.write_text(json.dumps(values))
    return path


def test_reads_what_is_there(tmp_path):
    found = read_experiment(_write(tmp_path, panel_name="Panel é", slide_id="0001"))
    assert (found.pixel_size_um, found.n_cells, found.xoa) == (0.2125, 5, "xenium-3.0.0.15")
    assert (found.panel_name, found.slide_id, found.tissue) == ("Panel é", "0001", "")


def test_announced_cells_may_be_absent(tmp_path):
    assert read_experiment(_write(tmp_path, num_cells=None)).n_cells is None


@pytest.mark.parametrize("value", [0, -0.2, None, "0.2125", True, 10**400])
def test_pixel_size_must_be_above_zero(tmp_path, value):
    with pytest.raises(InputError, match=r"experiment.xenium: pixel_size must be a number above zero, not .*; restore"):
        read_experiment(_write(tmp_path, pixel_size=value))


def test_pixels_of_no_microscope(tmp_path):
    with pytest.raises(InputError, match=r"pixel_size is 1e\+09 um, which no microscope has"):
        read_experiment(_write(tmp_path, pixel_size=1e9))


@pytest.mark.parametrize("value", [-1, 1.5, "many", 10**400])
def test_number_of_cells_must_be_whole(tmp_path, value):
    with pytest.raises(InputError, match="num_cells must be a whole number"):
        read_experiment(_write(tmp_path, num_cells=value))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"pixel_size": 0.2', "truncated or not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 10**5, "truncated or not JSON"),
        ('{"a": NaN}', "truncated or not JSON"),
    ],
)
def test_damaged_file(tmp_path, text, what):
    path = tmp_path / "experiment.xenium"
    path.write_text(text)
    with pytest.raises(InputError, match=f"experiment.xenium: {what}.*; copy it again"):
        read_experiment(path)


@pytest.mark.parametrize(
    ("xoa", "expected"),
    [("xenium-3.0.0.15", (3, 0)), ("Xenium-1.0.1", (1, 0)), ("xenium-4.10.2", (4, 10)), ("R&D", None), ("", None)],
)
def test_version_hint(xoa, expected):
    assert version_hint(xoa) == expected


def test_pixel_size_may_differ_by_half_a_percent(tmp_path):
    check_pixel_size(0.2125, tmp_path, None)
    check_pixel_size(0.2125, tmp_path, 0.2125 * 1.0049)
    check_pixel_size(0.2125, tmp_path, 0.2125 / 1.0049)


@pytest.mark.parametrize("factor", [1.0051, 0.9949, 2, 0, float("nan")])
def test_pixel_size_contradiction(tmp_path, factor):
    with pytest.raises(InputError, match=r"a.tif: its OME-XML says .* um a pixel, experiment.xenium says 0.2125"):
        check_pixel_size(0.2125, tmp_path / "a.tif", 0.2125 * factor)


def test_real_tables(real):
    for sample in range(1, 5):
        found = read_experiment(real / "xoa_v3_tables" / f"sample{sample}" / "experiment.xenium")
        assert found.pixel_size_um == 0.2125
        assert version_hint(found.xoa) == (3, 0)
        assert found.n_cells > 10_000
