"""What looks bad and is not: channels that name each other, a tenth of the intensity, odd paths, a read-only bundle."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from mistline.core.files import read_json
from mistline.store.reader import ShardReader
from tests.e2e.faults.runner import tree
from tests.e2e.faults.spoil import FOCUS, ZSTACK, planes, write_planes
from tests.e2e.faults.toy import Toy

SIDECARS = [f"{name}.meta.json" for name in ("cell", "cell.parquet", "niche", "niche.parquet")]  # they name paths
STAINS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")


def test_focus_channels_that_name_each_other_stay_apart(raw, row):
    (raw.bundle / ZSTACK).unlink()  # so that DAPI, too, comes from its in-focus image
    for number in range(4):
        path = raw.bundle / FOCUS.format(number)
        pixels, description = planes(path)
        assert description.count("FileName=") == 4, "the toy's OME-XML no longer names its siblings"
        write_planes(path, [_stripes(pixels[0].shape, number)], description)
    settings = '{"channels": ["18S", "DAPI", "AlphaSMA/Vimentin", "ATP1A1/CD45/E-Cadherin"], "window": "minmax"}'
    for stage in ("check-bundle", "project-image"):
        ended = raw.run(stage, settings)
        assert ended.code == 0, ended.output
    described = read_json(raw.folder / "image.json")
    assert set(described["source"].values()) == {"focus"}
    image = zarr.open_array(raw.folder / "image.ome.zarr", path="0", mode="r")
    for channel, name in enumerate(described["channels"]):
        number = STAINS.index(name)
        assert np.array_equal(image[channel] > 127, _stripes(image.shape[1:], number) > 0), name
    row("bad input", "focus channels whose OME-XML names each other", 0, "works: channel k holds pattern k, all four")


def _stripes(shape: tuple[int, int], number: int) -> np.ndarray:
    """Stripes of a width that is the channel's own."""
    return ((np.arange(shape[1]) // (3 + 5 * number)) % 2 * 900 * np.ones((shape[0], 1))).astype(np.uint16)


@pytest.mark.parametrize("window", ["percentile", "minmax"])
def test_a_tenth_of_the_intensity_gives_the_same_crops(window, toy, row):
    """Where every pixel is exactly a tenth, so are the window's ends, and each 8-bit value stays what it was."""
    dim = _with_intensity(toy, "dim", lambda pixels: pixels // 10)
    bright = _with_intensity(toy, "bright", lambda pixels: pixels // 10 * 10)
    settings = f'{{"window": "{window}"}}'
    dim_crops, bright_crops = _crops(dim, settings), _crops(bright, settings)
    low, high = read_json(dim.folder / "image.json")["window"]["DAPI"]
    assert read_json(bright.folder / "image.json")["window"]["DAPI"] == pytest.approx([10 * low, 10 * high], rel=1e-12)
    differing = sum(int((a != b).sum()) for a, b in zip(dim_crops, bright_crops, strict=True))
    assert differing == 0
    row("bad input", f"every intensity exactly a tenth (window {window})", 0, "works: every crop identical")


def test_a_tenth_rounded_to_whole_counts_stays_within_rounding(toy, row):
    """A pixel is rounded by half a count at most, and the window's ends move by no more: crops differ by no more."""
    dim = _with_intensity(toy, "dim", lambda pixels: np.rint(pixels / 10).astype(np.uint16))
    dim_crops, crops = _crops(dim, "{}"), _crops(toy, "{}")
    low, high = read_json(dim.folder / "image.json")["window"]["DAPI"]
    levels_a_count = 255 / (high - low)
    bound = int(np.ceil(levels_a_count)) + 1  # half a count of the pixel, half of the window's end; truncation
    differences = np.concatenate([np.abs(a.astype(int) - b).ravel() for a, b in zip(crops, dim_crops, strict=True)])
    assert 0 < differences.max() <= bound
    assert differences.mean() < levels_a_count / 2
    told = f"works: crops differ by at most {differences.max()} of 255 (mean {differences.mean():.2f}; bound {bound})"
    row("bad input", "intensities a tenth, rounded to whole counts", 0, told)


def _with_intensity(toy: Toy, name: str, change) -> Toy:
    other = Toy(toy.folder / name, toy.runner)
    shutil.copytree(toy.bundle, other.bundle)
    path = other.bundle / ZSTACK
    pixels, description = planes(path)
    write_planes(path, change(pixels), description)
    return other


def _crops(toy: Toy, settings: str) -> list[np.ndarray]:
    for stage in ("check-bundle", "project-image", "read-cells", "cut-crops"):
        ended = toy.run(stage, settings if stage == "project-image" else "{}")
        assert ended.code == 0, ended.output
    reader = ShardReader(toy.folder / "shards/cell")
    return [reader[key].image for key in range(len(reader))]


@pytest.mark.parametrize("name", ["größe & 細胞-🔬", "a'quote\" $HOME", "[a-z]*?\n"])
def test_any_name_of_a_folder(name, made, tmp_path, row):
    toy = Toy(tmp_path / name, made.runner)
    shutil.copytree(made.bundle, toy.bundle)
    for stage in toy.STAGES:
        ended = toy.run(stage)
        assert ended.code == 0, ended.output
    assert tree(toy.folder / "shards", without=SIDECARS) == tree(made.folder / "shards", without=SIDECARS)
    row("bad input", f"a folder named {name!r}", 0, "works: the shards are those of any other folder")


def test_a_bundle_that_may_only_be_read(raw, made, row):
    """Mode bits are obeyed here even by root."""
    paths = [raw.bundle, *raw.bundle.rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in paths}
    for path in reversed(paths):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        _runs_as_ever(raw, made, without_privileges=True)
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert {path: path.stat().st_mtime_ns for path in [raw.bundle, *raw.bundle.rglob("*")]} == before
    row("bad input", "a bundle without any right to write", 0, "works: the bundle is untouched, the shards the same")


def test_a_bundle_on_a_read_only_mount(raw, made, row):
    _runs_as_ever(raw, made, read_only=str(raw.bundle))
    row("bad input", "a bundle on a read-only mount", 0, "works: the shards are the same")


def _runs_as_ever(raw: Toy, made: Toy, **confined) -> None:
    for stage in raw.STAGES:
        ended = raw.run(stage, **confined)
        assert ended.code == 0, ended.output
    assert tree(raw.folder / "shards", without=SIDECARS) == tree(made.folder / "shards", without=SIDECARS)


def test_a_bundle_that_may_not_be_read(raw, told):
    before = tree(raw.folder)
    os.chmod(raw.bundle / "cells.parquet", 0)
    ended = raw.run("check-bundle", without_privileges=True)
    os.chmod(raw.bundle / "cells.parquet", 0o644)
    assert ended.code == 3
    assert told("a file without the right to read it", ended) == (
        "bundle/cells.parquet: no permission to read it; get read access to it and to its folders."
    )
    assert tree(raw.folder) == before


def test_a_folder_that_may_not_be_entered(raw, told):
    folder: Path = raw.bundle / "morphology_focus"
    folder.chmod(0)
    try:
        ended = raw.run("check-bundle", without_privileges=True)
    finally:
        folder.chmod(0o755)
    assert ended.code == 3
    assert told("a folder of the bundle that may not be entered", ended) == (
        "bundle/morphology_focus: no permission to read it; get read access to it and to its folders."
    )
