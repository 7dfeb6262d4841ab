from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from mistline.core.errors import InputError, OutputError
from mistline.core.files import atomic_path, read_json, read_parquet, write_json, write_parquet


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


def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    """Whoever wrote it: safetensors leaves 0600, which a group on a cluster cannot read."""
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "weights") as part:
        save_file({"w": np.zeros(2)}, part)
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.bin: the disk is full; free space"),
        atomic_path(tmp_path / "a.bin") as part,
    ):
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_that_safetensors_tells_of_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="weights: the disk is full"), atomic_path(tmp_path / "weights"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert not list(tmp_path.iterdir())


def test_no_permission_to_make_the_folders_of_an_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no permission to write here"), atomic_path(tmp_path / "a/b/c"):
        raise PermissionError(errno.EACCES, "no", str(tmp_path / "a"))


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


@pytest.mark.parametrize("text", ["[" * 10**5, "9" * 5000, "NaN", "[1e999]", "\udcff"])
def test_what_only_python_takes_for_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=r"a\.json: not valid JSON \(.+\); remove it"):
        read_json(path)


def test_a_missing_key_names_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": {"b": 1}})
    with pytest.raises(InputError, match=r"a\.json: it holds no 'c'; remove it and run its stage again\."):
        read_json(tmp_path / "a.json")["a"]["c"]
    with pytest.raises(KeyError):
        read_json(tmp_path / "a.json")["c"]


def test_lengths_of_a_table_are_numbers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pd.DataFrame({"x_um": ["1"], "cell_id": ["a"]}))
    with pytest.raises(InputError, match=r"x_um holds no numbers"):
        read_parquet(tmp_path / "a.parquet")
    assert read_parquet(tmp_path / "a.parquet", ["cell_id"])["cell_id"].tolist() == ["a"]
