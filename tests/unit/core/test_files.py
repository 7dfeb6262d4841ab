from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mistline.core.errors import InputError, OutputError
from mistline.core.files import atomic_path, read_json, write_json


def test_a_failure_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic_path(final) as part:
        part.write_text("new")
        raise ValueError("stop")
    assert final.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    final = tmp_path / "shards"
    final.mkdir()
    (final / "stale").touch()
    with atomic_path(final) as part:
        part.mkdir()
        (part / "fresh").write_text("x")
    assert os.listdir(final) == ["fresh"]


def test_what_a_kill_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.json.part").write_text("half")
    write_json(tmp_path / "a.json", {"b": 1})
    assert os.listdir(tmp_path) == ["a.json"]


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.bin: the disk is full; free space"),
        atomic_path(tmp_path / "a.bin") as part,
    ):
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, "ä"]})
    write_json(tmp_path / "b.json", {"a": [1.5, "ä"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": [1.5, "ä"], "b": 1}


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))


@pytest.mark.parametrize(("text", "what"), [(None, "no such file"), ("{", "not valid JSON")])
def test_unreadable_json(tmp_path: Path, text: str | None, what: str) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=what):
        read_json(path)
