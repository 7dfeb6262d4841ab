"""Fetching as a user asks for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mistline.config.base import validate
from mistline.config.load import load_config
from mistline.config.slides import Slide
from mistline.core.errors import ConfigError, ResourceError
from mistline.fetch.bundle import ORIGIN
from mistline.stages import fetch, fetch_bundle
from tests.unit.fetch.conftest import as_zip
from tests.unit.fetch.server import Served
from tests.unit.xenium.conftest import make

PARAMS = json.dumps({"attempts": 1, "pause_s": 0})
OF = {"donor": "d", "tissue": "t", "disease": "x"}


@pytest.fixture
def xenium(served: Served, tmp_path: Path) -> Served:
    root = make("4.0").write(tmp_path / "original")
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    served.data = as_zip({**files, "transcripts.parquet": b"t", "analysis.zarr.zip": b"a"})
    return served


def ask(what=None, out=None, sheet=None, only="", tiny=False, **known):
    fetch.run(what=what, out=out, sheet=sheet, only=only, tiny=tiny, params=PARAMS, **known)


def test_one_address(xenium, tmp_path, capsys):
    ask(xenium.url, tmp_path / "b")
    names = {path.relative_to(tmp_path / "b").as_posix() for path in (tmp_path / "b").rglob("*") if path.is_file()}
    assert names == {
        "experiment.xenium", "cells.parquet", "cell_boundaries.parquet", "nucleus_boundaries.parquet",
        "cell_feature_matrix.h5", "morphology.ome.tif", "morphology_focus/ch0000_dapi.ome.tif", "mistline-fetch.json",
    }  # fmt: skip
    assert "b: 7 files, 0.0" in capsys.readouterr().out
    ask(xenium.url, tmp_path / "b")
    assert "7 files" in capsys.readouterr().out
    ask(xenium.url, tmp_path / "original")
    assert "original: is on disk, and used as it is." in capsys.readouterr().out


def test_killed_at_any_moment_it_goes_on(xenium, tmp_path, nightly):
    if not nightly:
        pytest.skip("--nightly")
    ask(xenium.url, tmp_path / "undisturbed")
    n_undisturbed = xenium.n_requests
    xenium.forever = {"pause_s": 0.05}
    words = [sys.executable, "-m", "mistline", "fetch", xenium.url, "--out", str(tmp_path / "b")]
    random = np.random.default_rng(0)
    kills, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        last = xenium.n_requests + random.integers(1, n_undisturbed)
        run = subprocess.Popen(words)
        while run.poll() is None and xenium.n_requests < last:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.05))
        run.kill()
        code = run.wait()
        kills += code != 0
        assert kills < 200
    assert (code, kills > 0) == (0, True)
    print(f"{kills} kills, {xenium.n_requests} requests, {xenium.sent_twice()} bytes sent twice")
    for path in (tmp_path / "b").rglob("*.*"):
        same = tmp_path / "original" / path.relative_to(tmp_path / "b")
        assert path.name == ORIGIN or path.read_bytes() == same.read_bytes()


def test_the_slides_of_a_sheet(xenium, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slides = [
        {"slide": "s0", "bundle": "b0", "url": "http://127.0.0.1:9/z", **OF},  # nobody answers
        {"slide": "s1", "bundle": "b1", "url": xenium.url, **OF},
        {"slide": "s2", "bundle": "b2", **OF},
    ]
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"slides": slides}))
    with pytest.raises(ResourceError, match=r"1 of 2 could not be fetched \(s0\)"):
        ask(sheet=config)
    assert [(tmp_path / name).exists() for name in ("b0", "b1", "b2")] == [False, True, False]
    sheet = tmp_path / "sheet.tsv"
    rows = [list(slides[1]), list(slides[1].values())]
    sheet.write_text("\n".join("\t".join(row) for row in rows))
    ask(sheet=sheet, only="s1")
    with pytest.raises(ConfigError, match="none of its slides has a bundle and a url"):
        ask(sheet=config, only="s2")


def test_the_smallest_have_what_a_sheet_asks_for(tmp_path, monkeypatch):
    config = load_config({"slides": str(fetch.TINY), "fetch": True}, root=tmp_path)
    assert len(config.slides) == 8
    assert sum(bool(slide.sha256 or slide.md5) for slide in config.slides) == 7
    asked = []
    monkeypatch.setattr(fetch, "fetch_one", lambda source, *_: asked.append(source) or {})
    ask(out=tmp_path / "b", tiny=True)
    ask("Xenium_Prime_Mouse_Ileum_tiny", tmp_path / "b", tiny=True)
    assert [source.url.rpartition("/")[2] for source in asked] == [
        "Xenium_V1_Human_Ovary_tiny_outs.zip",
        "Xenium_Prime_Mouse_Ileum_tiny_outs.zip",
    ]
    with pytest.raises(ConfigError, match="unknown bundle 'big'; choose one of Xenium_V1_Human_Ovary_tiny, "):
        ask("big", tmp_path / "b", tiny=True)


@pytest.mark.parametrize(
    "asked", [{}, {"what": "http://h/z"}, {"out": "b"}, {"sheet": "s", "out": "b"}, {"sheet": "s", "tiny": True}]
)
def test_what_and_where_to_must_be_said(asked):
    with pytest.raises(ConfigError, match="what to fetch, and where to, is not said"):
        ask(**asked)


def test_the_receipt_of_a_slide(xenium, tmp_path):
    receipt = tmp_path / "results/fetched.json"
    for _ in range(2):  # the second finds it on disk, and says the same
        fetch_bundle.run(url=f"{xenium.url}?key=secret", bundle=tmp_path / "b", receipt=receipt, params=PARAMS)
        told = json.loads(receipt.read_text())
        assert (told["bundle"], told["url"]) == (str(tmp_path / "b"), xenium.url)
        assert told["files"]["cells.parquet"]["n_bytes"] == (tmp_path / "original/cells.parquet").stat().st_size
    assert json.loads(receipt.with_name("fetched.json.meta.json").read_text())["stage"] == "fetch_bundle"
    assert "secret" not in "".join(path.read_text() for path in receipt.parent.iterdir())


def test_a_checksum_has_its_length():
    for name, digest in (("sha256", "0" * 63), ("md5", "g" * 32)):
        with pytest.raises(ConfigError, match=name):
            validate(Slide, {"slide": "s", "bundle": "b", **OF, name: digest}, "slide")
