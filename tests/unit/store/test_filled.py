from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_json
from mistline.store.embeddings import Origin, read_origin
from mistline.store.filled import Filled, read_filled, write_filled

ORIGIN = Origin("cells", 1, "w" * 64, "v1")


def filled(n: int = 7, k: int = 5) -> Filled:
    rng = np.random.default_rng(0)
    return Filled(
        slide=np.array(["s ä"] * n),
        hole=np.arange(n, dtype=np.int16) % 2,
        cell_id=np.array([f"c{i}" for i in range(n)]),
        round=np.ones(n, dtype=np.int16),
        way=np.array(["generated"] * (n - 1) + ["section_mean"]),
        metacell=np.arange(n, dtype=np.int32) % k - 1,
        told=rng.dirichlet(np.ones(k), n).astype(np.float32),
        is_quantised=True,
        genes=("a", "b", "c"),
        expression=rng.normal(size=(k, 3)).astype(np.float32),
        origin=ORIGIN,
        about={"protocol": "holes_300", "windows": 3},
    )


def test_what_is_written_is_read(tmp_path):
    path, written = tmp_path / "f.parquet", filled()
    write_filled(path, written)
    found = read_filled(path)
    for name in ("slide", "hole", "cell_id", "round", "way", "metacell", "expression"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    np.testing.assert_allclose(found.told, written.told, atol=1e-3)
    np.testing.assert_allclose(found.told.sum(axis=1), 1, atol=1e-6)
    assert (found.genes, found.about, found.origin) == (written.genes, written.about, ORIGIN)
    assert read_origin(path) == ORIGIN
    write_filled(tmp_path / "again.parquet", written)
    assert path.read_bytes() == (tmp_path / "again.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"told": np.full((7, 5), 0.3, np.float32)}, "the probabilities of a cell do not sum to 1"),
        ({"told": np.full((7, 5), np.nan, np.float32)}, "is not finite"),
        ({"told": np.full((7, 4), 0.25, np.float32)}, "of 7 cells over 5 columns"),
        ({"way": np.array(["guessed"] * 7)}, "generated in a way that is none of generated"),
        ({"metacell": np.full(7, 5, np.int32)}, "own meta-cell is 5, and there are 5"),
        ({"genes": ("a", "b")}, "not of the 2 genes"),
        ({"round": np.ones(3, np.int16)}, "7 cells and 3 values of round"),
    ],
)
def test_what_does_not_fit_together_is_not_written(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_filled(tmp_path / "f.parquet", replace(filled(), **change))
    assert not list(tmp_path.iterdir())


def test_a_missing_a_damaged_and_a_foreign_file_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file; run generate-cells"):
        read_filled(tmp_path / "none.parquet")
    path = tmp_path / "f.parquet"
    write_filled(path, filled(n=200))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not readable as filled cells"):
        read_filled(path)
    write_json(path, {})
    with pytest.raises(InputError, match="not readable as filled cells"):
        read_filled(path)
