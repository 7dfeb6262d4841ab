"""Gene vectors and genomic places from parquet."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mistline.core.errors import InputError
from mistline.models.spatia.gene_table import read_positions, read_vectors

_IDS = ["ENSG00000000003.15", "ENSG00000000005", "ENSG00000000007"]
_GENES = ["ENSG00000000003", "ENSG00000000004", "ENSG00000000005.2", "ENSG00000000007"]
_VECTORS = np.array([[1, 3, 5, 7], [2, 2, 8, 8], [0, 10, 0, 2]], dtype=np.float32)


def _write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def _wide(path: Path) -> Path:
    return _write(path, gene_id=_IDS, **{f"v{number}": _VECTORS[:, number] for number in range(4)})


def _want() -> torch.Tensor:
    pooled = torch.tensor([[2.0, 6], [2, 8], [5, 1]])  # means of neighbours
    pooled = pooled - pooled.mean(0)
    pooled = pooled * 0.5 / pooled.std(correction=0)
    return torch.stack([pooled[0], torch.zeros(2), pooled[1], pooled[2]])


def test_a_column_a_number(tmp_path: Path) -> None:
    torch.testing.assert_close(read_vectors(_wide(tmp_path / "v.parquet"), _GENES, 2, 0.5), _want())


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 4)])
def test_a_column_of_lists(tmp_path: Path, kind: pa.DataType) -> None:
    path = _write(tmp_path / "v.parquet", gene_id=_IDS, vector=pa.array(_VECTORS.tolist(), kind))
    torch.testing.assert_close(read_vectors(path, _GENES, 2, 0.5), _want())


def test_vectors_as_wide_as_the_encoder_are_not_pooled(tmp_path: Path) -> None:
    found = read_vectors(_wide(tmp_path / "v.parquet"), _GENES, 4, 0.5)[[0, 2, 3]]
    centred = torch.from_numpy(_VECTORS) - torch.from_numpy(_VECTORS).mean(0)
    torch.testing.assert_close(found / found.std(), centred / centred.std())


def test_the_mapping_rate_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mistline.models"):
        read_vectors(_wide(tmp_path / "v.parquet"), _GENES, 2, 0.75)
    assert "3 of 4 genes of the vocabulary have a vector (75.0%)" in caplog.text


def test_too_few_genes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 of 4 genes .* fewer than 80.0%"):
        read_vectors(_wide(tmp_path / "v.parquet"), _GENES, 2, 0.8)


def test_none_of_the_genes_even_where_none_is_asked_for(tmp_path: Path) -> None:
    found = read_vectors(_wide(tmp_path / "v.parquet"), ["x", "y"], 2, 0)
    assert torch.equal(found, torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"name": _IDS, "v": [1.0, 2.0, 3.0]}, "no column gene_id"),
        ({"gene_id": _IDS, "symbol": _IDS}, "no column of numbers"),
        ({"gene_id": ["a", "b", "a"], "v": [1.0, 2.0, 3.0], "w": [1.0, 2.0, 3.0]}, "gene a is there twice"),
        ({"gene_id": _IDS, "v": [[1.0, 2.0], [1.0], [1.0, 2.0]]}, "differ in length"),
        ({"gene_id": _IDS, "v": [[1.0, 2.0], None, [1.0, 2.0]]}, "differ in length"),
        ({"gene_id": _IDS, "v": [1.0, None, 3.0], "w": [1.0, 2.0, 3.0]}, "missing or infinite"),
        ({"gene_id": _IDS, "v": [1.0, 2.0, 3.0]}, "1 numbers, the gene encoder is 2 wide"),
        ({"gene_id": pa.array([], pa.string()), "v": pa.array([], pa.float32())}, "no rows"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, columns: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_vectors(_write(tmp_path / "v.parquet", **columns), _GENES, 2, 0)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "v.parquet").write_text("gene_id,1,2")
    for path in (tmp_path / "v.parquet", tmp_path / "none.parquet"):
        with pytest.raises(InputError, match="cannot be read as parquet"):
            read_vectors(path, _GENES, 2, 0)


def test_symbols_that_end_like_versions_stay_apart(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.parquet", gene_id=["AC1.1", "AC1.2"], v=[1.0, 2.0], w=[2.0, 1.0])
    found = read_vectors(path, ["AC1.2", "AC1.1", "AC1"], 2, 0)
    assert (found[2] == 0).all()
    torch.testing.assert_close(found[0], -found[1])


def test_places_along_the_genome(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "p.parquet",
        gene_id=["m", "j", "a", "b", "c", "d", "x"],
        chromosome=["MT", "10", "2", "2", "2", "2", "X"],
        start=[5, 7, 30_001, 10_000, 20_000, 30_002, 1],
    )
    # 2: 10,000 and 20,000 are together; 30,001 lies 10,001 further; 30,002 with it. Then 10, MT, X.
    genes = ["a", "b", "c", "d", "j", "m", "x", "unknown"]
    assert read_positions(path, genes).tolist() == [1, 0, 0, 1, 2, 3, 4, -1]


def test_places_need_a_gene_of_the_vocabulary(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.parquet", gene_id=["a"], chromosome=["chr1"], start=[5])
    assert read_positions(path, ["a"]).tolist() == [0]
    with pytest.raises(InputError, match="none of the 1 genes"):
        read_positions(path, ["b"])


def test_places_need_numbers(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.parquet", gene_id=["a", "b"], chromosome=["1", "1"], start=[5, None])
    with pytest.raises(InputError, match="not full"):
        read_positions(path, ["a"])
