"""Edits of cells with a generator that was never trained, on files as the line writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mistline.cli import app
from mistline.core.errors import ConfigError, InputError
from mistline.core.seeds import ranked
from mistline.data import open_dataset
from mistline.stages import edit
from mistline.store.latents import LatentReader
from mistline.store.pictures import read_pictures
from tests.unit.infer.untrained import SIZE, Line

KINDS = {"original", "own", "edited", "dealt", "returned", "inverted"}
FEW = {"sampling": {"steps": 3, "guidance": 1.5}}


def _run(line: Line, out: Path, params: dict | None = None, **more) -> None:
    given = {**line.options, "condition": line.config("spatia"), "pictures": out / "edits.safetensors"} | more
    edit.run(**given, params=json.dumps({**FEW, **(params or {})}))


@pytest.fixture(scope="module")
def drawn(line, tmp_path_factory):
    out = tmp_path_factory.mktemp("edits")
    edits = [{"genes": ["GENE3"], "levels": ["0", "x1", "90"], "n_cells": 2}, {"genes": ["GENE4"], "levels": ["7"]}]
    _run(line, out, {"edits": edits})
    return read_pictures(out / "edits.safetensors")


def test_a_row_for_each_edit_cell_and_level(line, drawn):
    reader = LatentReader(line.latents("s1"))
    tested = reader.cells[reader.cells["split"] == "test"]["cell_id"].tolist()
    first = [tested[place] for place in ranked(tested, 0, "generation", "s1")[:4]]
    rows = drawn.about["rows"]
    assert [(row["edit"], row["cell_id"], row["level"]) for row in rows] == [
        (0, cell, level) for cell in first[:2] for level in ("0", "x1", "90")
    ] + [(1, cell, "7") for cell in first]
    assert drawn.cell_id.tolist() == [row["cell_id"] for row in rows]
    assert all(row["counts"][0][1] == {"0": 0, "90": 90, "7": 7}.get(row["level"], row["counts"][0][0]) for row in rows)
    assert set(drawn.images) == KINDS
    assert set(rows[0]["features"]) == KINDS
    assert set(rows[0]["features"]["edited"]) == {"area", "brightness", "eccentricity"}
    assert (drawn.about["protocol"], drawn.about["image_size"]) == ("gene2img", SIZE)


def test_originals_are_the_stored_images(line, drawn):
    stored = open_dataset(line.options["manifest"], slides=["s1"], image_size=SIZE, genes=None)
    place = {name: row for row, name in enumerate(LatentReader(line.latents("s1")).cells["cell_id"])}
    rows = LatentReader(line.latents("s1")).cells["row"].to_numpy()[[place[name] for name in drawn.cell_id]]
    np.testing.assert_array_equal(drawn.images["original"], stored.__getitems__(rows.tolist()).image.numpy())


def test_the_own_count_draws_the_own_picture_and_another_does_not(drawn):
    levels = np.array([row["level"] for row in drawn.about["rows"]])
    own, edited = (drawn.images[kind].astype(int) for kind in ("own", "edited"))
    returned, inverted = (drawn.images[kind].astype(int) for kind in ("returned", "inverted"))
    assert np.abs(edited - own)[levels == "x1"].max() <= 1
    assert np.abs(inverted - returned)[levels == "x1"].max() <= 1
    assert (np.abs(edited - own)[levels == "90"].max(axis=(1, 2, 3)) > 0).all()
    assert (np.abs(inverted - returned)[levels == "90"].max(axis=(1, 2, 3)) > 0).all()


def test_an_edit_by_hand(line, tmp_path):
    cell = LatentReader(line.latents("s1")).cells["cell_id"].iloc[0]
    words = ["edit", "--condition", line.config("spatia"), "--pictures", tmp_path / "e.safetensors"]
    for name, value in line.options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name}", one]
    words += ["--slide", "s1", "--cell", cell, "--set", "GENE3=0", "--set", "GENE4=x2", "--params", json.dumps(FEW)]
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (row,) = read_pictures(tmp_path / "e.safetensors").about["rows"]
    assert (row["genes"], row["level"], row["cell_id"]) == (["GENE3", "GENE4"], "0 / x2", cell)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"set_": ["GENE30=0"]}, ConfigError, "unknown gene 'GENE30'; did you mean GENE"),
        ({"set_": ["GENE0=0"], "slide": "s2"}, InputError, "slide s2 did not measure GENE0"),
        ({"set_": ["GENE3=0"], "slide": "s9"}, ConfigError, "'s9' has no latents here; choose one of s1, s2"),
        ({"set_": ["GENE3=0"], "slide": "s1", "cell": ["none"]}, ConfigError, "cell none is not in the dataset"),
        ({"slide": "s1"}, ConfigError, "no change; add --set"),
        ({}, ConfigError, "none is asked for"),
        ({"params": {"protocol": "context2img", "edits": [{"genes": ["GENE3"]}]}}, ConfigError, "changes nothing"),
        ({"params": {"sampling": {"guidance": 99}}}, ConfigError, "guidance"),
        ({"params": {"sampling": {"merge": {"ratio": 1.0}}}}, ConfigError, "ratio"),
    ],
)
def test_what_cannot_be_edited_is_told_in_a_sentence(line, tmp_path, changes, kind, said):
    with pytest.raises(kind, match=said):
        _run(line, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_a_cell_that_was_not_encoded_is_told(line, tmp_path):
    encoded = set(LatentReader(line.latents("s1")).cells["cell_id"])
    stored = open_dataset(line.options["manifest"], slides=["s1"], image_size=None, genes=None)
    left = next(name for name in stored.__getitems__(range(len(stored))).record_id if name not in encoded)
    with pytest.raises(InputError, match=f"cell {left} is not among its {len(encoded)} encoded cells"):
        _run(line, tmp_path, set_=["GENE3=0"], slide="s1", cell=[left])


def test_files_that_do_not_belong_together_are_told(line, tmp_path):
    other = tmp_path / "latents" / "s1"
    shutil.copytree(line.latents("s1"), other)
    origin = json.loads((other / "origin.json").read_text())
    (other / "origin.json").write_text(json.dumps({**origin, "autoencoder_sha256": "f" * 64}))
    with pytest.raises(InputError, match="latents of another autoencoder"):
        _run(line, tmp_path, set_=["GENE3=0"], latents=[other])
    with pytest.raises(InputError, match="than the one the generator's conditions are of"):
        _run(line, tmp_path, set_=["GENE3=0"], condition=line.config("vae"))
    with pytest.raises(InputError, match="no generator that draws cells from noise"):
        _run(line, tmp_path, set_=["GENE3=0"], generator=line.config("spatia"))
