from __future__ import annotations

import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.store.absent import read_absent, write_absent
from mistline.store.embeddings import EmbeddingWriter, Origin, read_embedding, read_origin

ORIGIN = Origin("celltypist", 3, "hash", "version")


def test_the_reason_and_the_origin_come_back(tmp_path):
    path = tmp_path / "a.parquet"
    write_absent(path, ["slide", "cell_id"], ORIGIN, "keine Umgebung: größer")
    assert read_absent(path) == "keine Umgebung: größer"
    assert read_origin(path) == ORIGIN
    table = pd.read_parquet(path)
    assert list(table) == ["slide", "cell_id"]
    assert len(table) == 0


def test_a_result_that_is_there_is_not_absent(tmp_path):
    path = tmp_path / "a.parquet"
    with EmbeddingWriter(path, ORIGIN) as writer:
        writer.put(["c"], pd.DataFrame({"e0": [1.0]}).to_numpy(dtype="float32"))
    assert read_absent(path) is None


def test_missing_and_damaged_files_are_errors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_absent(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable parquet file"):
        read_absent(tmp_path / "b.parquet")


def test_what_was_not_run_cannot_be_built_upon(tmp_path):
    path = tmp_path / "a.parquet"
    write_absent(path, ["cell_id"], ORIGIN, "no coordinates")
    with pytest.raises(InputError, match="no coordinates"):
        read_embedding(path)
