from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mistline.core.errors import OutputError
from mistline.core.files import atomic_path, write_text
from mistline.core.parts import Part


def _left_by(process: str, final: Path) -> Path:
    folder = final.with_name(f".{final.name}.{process}-0.part")
    folder.mkdir(parents=True)
    (folder / "half").write_text("x")
    return folder


def _own(final: Path) -> str:
    part = Part(final)
    name = part.path.parent.name
    part.close()
    return re.fullmatch(rf"\.{re.escape(final.name)}\.(.+)-\d+\.part", name)[1]


def test_two_writers_of_one_folder_end_well(tmp_path: Path) -> None:
    final = tmp_path / "shards"
    with atomic_path(final) as first:
        first.mkdir()
        (first / "a").write_text("first")
        with atomic_path(final) as second:
            second.mkdir()
            (second / "a").write_text("second")
        assert (final / "a").read_text() == "second"
        assert (first / "a").read_text() == "first"
    assert (final / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["shards"]


def test_what_a_process_that_ended_left_is_cleared_at_once(tmp_path: Path) -> None:
    final = tmp_path / "cells.parquet"
    machine, pid, _ = _own(final).split("-")
    left = _left_by(f"{machine}-{pid}-1", final)  # the number is in use again, by a process that began later
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    ended = _left_by(f"{machine}-{child.pid}-1", final)
    with atomic_path(final) as part:
        assert not left.exists()
        assert not ended.exists()
        part.touch()
    assert os.listdir(tmp_path) == ["cells.parquet"]


def test_a_running_process_keeps_its_part(tmp_path: Path) -> None:
    final = tmp_path / "cells.parquet"
    running = _left_by(_own(final), final)
    write_text(final, "x")
    assert (running / "half").exists()


def test_the_part_of_another_output_is_left_alone(tmp_path: Path) -> None:
    other = _left_by("0-1-1", tmp_path / "cell.parquet")
    with atomic_path(tmp_path / "cell") as part:
        part.mkdir()
    assert other.is_dir()


def test_a_part_that_was_cleared_and_made_again_is_refused(tmp_path: Path) -> None:
    final = tmp_path / "image.zarr"
    with pytest.raises(OutputError, match="removed meanwhile"), atomic_path(final) as part:
        part.mkdir()
        (part / "first").touch()
        part.parent.rename(tmp_path / "cleared")
        part.mkdir(parents=True)  # as a writer does that makes its folders when they are missing
        (part / "second").touch()
    assert not final.exists()


def test_a_file_gives_way_to_a_folder_and_back(tmp_path: Path) -> None:
    final = tmp_path / "out"
    write_text(final, "x")
    with atomic_path(final) as part:
        part.mkdir()
    assert final.is_dir()
    write_text(final, "y")
    assert final.read_text() == "y"
    assert os.listdir(tmp_path) == ["out"]
