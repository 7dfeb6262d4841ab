from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_json
from mistline.store.embeddings import Origin, read_origin
from mistline.store.perturbed import Perturbed, read_perturbed, write_perturbed

ORIGIN = Origin("cells", 1, "w" * 64, "v1")


def perturbed(n: int = 6, k: int = 5) -> Perturbed:
    rng = np.random.default_rng(0)
    return Perturbed(
        slide=np.array(["s ä"] * n),
        roi=np.arange(n, dtype=np.int16) % 2,
        variant=np.array(["control", "perturbed"] * (n // 2)),
        sigma=np.array([0, 0.5] * (n // 2), dtype=np.float32),
        cell_id=np.array([f"c{i}" for i in range(n)]),
        distance_um=rng.uniform(60, 180, n).astype(np.float32),
        round=np.ones(n, dtype=np.int16),
        way=np.array(["generated"] * (n - 1) + ["section_mean"]),
        told=rng.dirichlet(np.ones(k), n).astype(np.float32),
        is_quantised=True,
        genes=("a", "b", "c"),
        symbols=("A", "B", "C"),
        expression=rng.normal(size=(k, 3)).astype(np.float32),
        origin=ORIGIN,
        about={"settings": {"activated": ["A"]}},
    )


def test_what_is_written_is_read(tmp_path):
    path, written = tmp_path / "p.parquet", perturbed()
    write_perturbed(path, written)
    found = read_perturbed(path)
    for name in ("slide", "roi", "variant", "sigma", "cell_id", "distance_um", "round", "way", "expression"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    np.testing.assert_allclose(found.told, written.told, atol=1e-3)
    assert (found.genes, found.symbols, found.about) == (written.genes, written.symbols, written.about)
    assert read_origin(path) == ORIGIN
    write_perturbed(tmp_path / "again.parquet", written)
    assert path.read_bytes() == (tmp_path / "again.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"told": np.full((6, 5), 0.3, np.float32)}, "the probabilities of a cell do not sum to 1"),
        ({"told": np.full((6, 5), np.nan, np.float32)}, "is not finite"),
        ({"variant": np.array(["guessed"] * 6)}, "variant that is none of control, perturbed"),
        ({"symbols": ("A", "B")}, "not of the 3 genes"),
        ({"sigma": np.zeros(2, np.float32)}, "6 cells and 2 values of sigma"),
    ],
)
def test_what_does_not_fit_together_is_not_written(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_perturbed(tmp_path / "p.parquet", replace(perturbed(), **change))
    assert not list(tmp_path.iterdir())


def test_a_missing_and_a_foreign_file_are_one_sentence(tmp_path):
    path = tmp_path / "p.parquet"
    with pytest.raises(InputError, match="no such file; run perturb"):
        read_perturbed(path)
    write_json(path, {})
    with pytest.raises(InputError, match="not readable as perturbed cells"):
        read_perturbed(path)
