from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.store.absent import write_absent
from mistline.store.embeddings import Origin, read_origin
from mistline.store.imputed import KEYS, ImputedGenes, read_imputed, write_imputed


def own(**changes):
    mean = np.arange(6, dtype=np.float32).reshape(3, 2)
    mean[2, 1] = np.nan
    made = ImputedGenes(
        slide=np.array(["s1", "s1", "s2"]),
        cell_id=np.array(["a", "b", "a"]),
        genes=("g1", "g2"),
        symbols=("A", "B"),
        fold=np.array([1, 0]),
        mean=mean,
        sd=mean / 2,
        origin=Origin("m", 3, "code", "v1"),
        about={"protocol": "gene_folds", "runs": [{"slide": "s1", "fold": 0, "seconds": 1.5, "peak_mb": 10.0}]},
    )
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("sd", [own().sd, None])
def test_what_is_written_is_read(tmp_path, sd):
    written = own(sd=sd)
    write_imputed(tmp_path / "i.parquet", written)
    found = read_imputed(tmp_path / "i.parquet")
    for field in dataclasses.fields(ImputedGenes):
        one, two = getattr(written, field.name), getattr(found, field.name)
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, two, equal_nan=one.dtype.kind == "f"), field.name
        else:
            assert one == two, field.name
    assert found.mean.dtype == np.float32
    assert read_origin(tmp_path / "i.parquet") == written.origin
    write_imputed(tmp_path / "again.parquet", found)
    assert hash_file(tmp_path / "again.parquet") == hash_file(tmp_path / "i.parquet")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mean": np.full((3, 2), np.inf, dtype=np.float32)}, "mean, .3, 2., is infinite somewhere"),
        ({"sd": np.zeros((3, 1), dtype=np.float32)}, "sd, .3, 1., is infinite somewhere, or not of 3 cells and 2"),
        ({"symbols": ("A",)}, "are not equally many"),
        ({"genes": (), "symbols": (), "fold": np.array([]), "mean": np.zeros((3, 0)), "sd": None}, "no cell or no ge"),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        write_imputed(tmp_path / "i.parquet", own(**changes))
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "i.parquet"
    with pytest.raises(InputError, match="no such file; run impute-folds or impute-slide"):
        read_imputed(path)
    write_absent(path, KEYS, own().origin, "cannot be installed")
    with pytest.raises(InputError, match="not readable as imputed genes"):
        read_imputed(path)
    write_imputed(path, own())
    pq.write_table(pq.read_table(path).drop_columns(["mean"]), path)
    with pytest.raises(InputError, match="not readable as imputed genes"):
        read_imputed(path)
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match="not readable as imputed genes"):
        read_imputed(path)
