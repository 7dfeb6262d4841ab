"""`mistline why`: the story of a file, and whether it still holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistline.core.errors import InputError
from mistline.core.provenance import record
from mistline.models import REGISTRY
from mistline.stages.why import run
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import folder_modules


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A run folder in which `out.json` was made from `in put.csv`, a folder and `model.json`, all by relative paths."""
    (tmp_path / "run" / "raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    for name in ("in put.csv", "raw/a", "raw/b", "out.json"):
        Path(name).write_text(name)
    inputs = {"cells": Path("in put.csv"), "bundle": Path("raw")}
    code = code_digest("read_cells")
    record("read_cells", outputs=[Path("out.json")], inputs=inputs, params={"min_counts": 1}, code=code, seed=7)
    return tmp_path / "run"


def told(path, capsys) -> str:
    run(path)
    return capsys.readouterr().out


def test_all_is_as_it_was(made, capsys):
    text = told(made / "out.json", capsys)
    assert "was made by read-cells (mistline 0.1.0, Python 3." in text
    assert "from cells (in put.csv), unchanged since; bundle (raw: still 2 files, not compared byte by byte)." in text
    assert "Settings: min_counts=1; seed 7." in text
    assert "It is as it was written." in text
    assert "The code has not changed since" in text


def test_from_another_folder_the_inputs_are_found(made, capsys, monkeypatch):
    monkeypatch.chdir("/")
    assert "cells (in put.csv), unchanged since" in told(made / "out.json", capsys)


def test_what_changed_is_said(made, capsys):
    (made / "in put.csv").write_text("other")
    (made / "raw" / "c").write_text("c")
    (made / "out.json").write_text("edited")
    text = told(made / "out.json", capsys)
    assert "cells (in put.csv: changed since)" in text
    assert "bundle (raw: 2 files then, 3 now)" in text
    assert "IT HAS CHANGED SINCE IT WAS WRITTEN" in text


def test_an_input_that_is_gone_is_said(made, capsys):
    (made / "in put.csv").unlink()
    assert "cells (in put.csv: no longer there)" in told(made / "out.json", capsys)


def test_other_code_is_said(tmp_path, capsys):
    for stage, code, words in (
        ("read_cells", "0" * 16, "The code has changed since (digest 0000000000000000 then)"),
        ("no_such_stage", "0" * 16, "Its stage is not part of this version of mistline"),
    ):
        path = tmp_path / stage
        path.write_text(stage)
        record(stage, outputs=[path], inputs={}, params={}, code=code)
        assert words in (text := told(path, capsys))
        assert "from no file." in text
        assert "Settings: none; no seed." in text


@pytest.mark.parametrize("model", sorted(REGISTRY))
def test_code_chosen_by_name_is_known(tmp_path, capsys, model):
    path = tmp_path / "config.json"
    path.write_text("{}")
    code = code_digest("train", *folder_modules(REGISTRY[model]))
    record("train", outputs=[path], inputs={}, params={}, code=code)
    assert "The code has not changed since" in told(path, capsys)


def test_code_of_a_script_that_is_started_is_known(tmp_path, capsys):
    path = tmp_path / "a.parquet"
    path.write_text("{}")
    code = code_digest("peer_embed", "mistline.tasks.peers.run_banksy")
    record("peer_embed", outputs=[path], inputs={}, params={}, code=code)
    assert "The code has not changed since" in told(path, capsys)


def test_a_file_inside_a_folder_that_was_made_as_one(tmp_path, capsys):
    shards = tmp_path / "cell"
    shards.mkdir()
    (shards / "0000.lmdb").write_text("x")
    record("cut_crops", outputs=[shards], inputs={}, params={}, code="c")
    (shards / ".snakemake_timestamp").touch()
    text = told(shards / "0000.lmdb", capsys)
    assert "0000.lmdb, as part of cell, was made by cut-crops" in text
    assert "It is as it was written." in text


def test_files_without_a_story_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        run(tmp_path / "none")
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"no provenance is recorded \(mine.txt.meta.json is missing\)"):
        run(tmp_path / "mine.txt")
