from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mistline.core.errors import InputError
from mistline.scrna.folds import divide
from mistline.store.embeddings import Origin, read_embedding
from mistline.store.imputed import ImputedGenes, write_imputed
from mistline.tasks.files import FileInputs, SlideFiles, Subject
from tests.unit.scrna.pairs import GENES, write_single, write_slide


def _ids(item) -> list[str]:
    return list(pd.read_parquet(item.cells)["cell_id"])


def test_rows_belong_to_the_cells_asked_for_in_any_order(cohort):
    for name in "ab":
        cohort.add(name, name)
    inputs = cohort.inputs()
    cells = inputs.cells("test").sample(frac=0.5, random_state=0)
    rows = inputs.embedding(cells)
    counts = inputs.counts(cells, ["g03", "g01"])
    for i, (slide, row) in enumerate(zip(cells["slide"], cells["row"], strict=True)):
        item = inputs.slides[slide]
        np.testing.assert_array_equal(rows[i], read_embedding(item.embedding)[1][row])
        import anndata

        if i < 5:
            whole = anndata.read_h5ad(item.counts)
            np.testing.assert_array_equal(counts[i].toarray()[0], whole[row, ["g03", "g01"]].X.toarray()[0])


def test_embedding_is_joined_by_id(cohort):
    item = cohort.add("a", "d")
    ids, rows = read_embedding(item.embedding)
    before = cohort.inputs().embedding(cohort.inputs().cells("test"))
    cohort.embed(item, list(ids[::-1]), rows[::-1])
    np.testing.assert_array_equal(cohort.inputs().embedding(cohort.inputs().cells("test")), before)


def test_nan_is_refused_with_the_cell(cohort, monkeypatch):
    item = cohort.add("a", "d")
    table = pq.read_table(item.embedding)
    column = table.column("e1").to_numpy().copy()
    column[4] = np.nan
    import pyarrow as pa

    pq.write_table(table.set_column(2, "e1", pa.array(column)), item.embedding)
    inputs = cohort.inputs()
    with pytest.raises(InputError, match="cell a-4 is not finite"):
        inputs.embedding(inputs.cells("test"))


def test_another_dataset_version_is_refused(cohort):
    cohort.add("a", "d")
    with pytest.raises(InputError, match="another dataset version"):
        cohort.inputs(version="v2")


def test_missing_and_doubled_cells_are_refused(cohort):
    item = cohort.add("a", "d")
    ids, rows = read_embedding(item.embedding)
    cohort.embed(item, list(ids[:-1]), rows[:-1])
    inputs = cohort.inputs()
    with pytest.raises(InputError, match=f"cell {ids[-1]} has no embedding"):
        inputs.embedding(inputs.cells("test"))
    cohort.embed(item, [*ids, ids[0]], np.vstack([rows, rows[:1]]))
    with pytest.raises(InputError, match=f"cell {ids[0]} is embedded more than once"):
        inputs.embedding(inputs.cells("test"))


def test_rows_of_an_embedding_are_those_of_the_cells_in_whatever_order_and_blocks(cohort):
    item = cohort.add("a", "d")
    ids, rows = read_embedding(item.embedding)
    table = pq.read_table(item.embedding).take(np.random.default_rng(0).permutation(len(ids)))
    pq.write_table(table, item.embedding, row_group_size=7)
    inputs = cohort.inputs()
    cells = inputs.cells().sample(frac=0.3, random_state=1)
    place = dict(zip(ids, rows, strict=True))
    np.testing.assert_array_equal(inputs.embedding(cells), [place[name] for name in cells["cell_id"]])


def test_foreign_splits_are_refused(cohort):
    item = cohort.add("a", "d")
    table = pd.read_parquet(item.splits)
    table.iloc[::-1].to_parquet(item.splits)
    with pytest.raises(InputError, match="not those of cells"):
        cohort.inputs().cells("test")


def test_places_on_an_array_are_given_where_there_are_any(cohort):
    item, other = cohort.add("a", "d"), cohort.add("b", "d")
    assert "array_row" not in cohort.inputs().cells()
    table = pd.read_parquet(item.cells)
    n = len(table)
    grid = {"array_row": pd.array(range(n), "Int32"), "array_col": pd.array(range(1, n + 1), "Int32")}
    table.assign(**grid).to_parquet(item.cells)
    found = cohort.inputs().cells()
    own = found["slide"] == "a"
    assert found.loc[own, "array_col"].tolist() == list(range(1, n + 1))
    assert found.loc[~own, "array_row"].isna().all()
    assert other.slide == "b"


def test_missing_file_names_itself(cohort):
    item = cohort.add("a", "d")
    item.embedding.unlink()
    with pytest.raises(InputError, match="no such file"):
        cohort.inputs()


def test_a_draw_is_seeded_over_all_slides_and_keeps_order(cohort):
    for name in "abc":
        cohort.add(name, name)
    inputs = cohort.inputs()
    one, two, other = (inputs.cells("test", at_most=60, seed=seed) for seed in (0, 0, 1))
    assert inputs.count("test") == len(inputs.cells("test")) > 60
    pd.testing.assert_frame_equal(one, two)
    assert len(one) == len(other) == 60
    assert list(one["cell_id"]) != list(other["cell_id"])
    assert list(one["slide"]) == sorted(one["slide"])
    assert set(one["slide"]) == set("abc")
    assert all(part["row"].is_monotonic_increasing for _, part in one.groupby("slide"))
    assert set(one["split"]) == {"test"}
    pd.testing.assert_frame_equal(inputs.cells("test", at_most=10**6), inputs.cells("test"))


def test_several_splits_at_once(cohort):
    cohort.add("a", "a")
    inputs = cohort.inputs()
    assert len(inputs.cells("train", "test")) == inputs.count("train") + inputs.count("test") == 150


def test_imputed_genes_and_pairs_are_read_of_divided_slides(tmp_path):
    files = {name: write_slide(tmp_path / name, seed=number) for number, name in enumerate(("s1", "s2"))}
    slides = [SlideFiles(name, "d", at / "cells.parquet", at / "counts.h5ad", at) for name, at in files.items()]
    shared = pd.DataFrame({"slide": "s2", "gene": GENES[:24], "symbol": "", "reference_gene": GENES[:24]})
    divide(shared, GENES, 2, 0.15, 0).to_parquet(tmp_path / "genes.parquet")
    given = {"reference": write_single(tmp_path / "r.h5ad"), "genes": tmp_path / "genes.parquet", "at_most": 7}
    (pair,) = FileInputs(slides, Subject(None, 0, "v1", **given)).pairs()
    assert (pair.slide, len(pair.cell_id), len(pair.tested(0))) == ("s2", 7, 12)
    with pytest.raises(InputError, match="asks for single cells and none were given; run read-reference"):
        next(FileInputs(slides, Subject(None, 0, "v1")).pairs())
    mean = np.zeros((7, 24), dtype=np.float32)
    fold = np.zeros(24, dtype=np.int64)
    own = ImputedGenes(
        slide=np.full(7, "s2"),
        cell_id=pair.cell_id,
        genes=GENES[:24],
        symbols=GENES[:24],
        fold=fold,
        mean=mean,
        sd=None,
        origin=Origin("near", 0, "code", "v1"),
        about={},
    )
    write_imputed(tmp_path / "i.parquet", own)
    subject = Subject("near", 0, "v1", imputed=tmp_path / "i.parquet")
    assert FileInputs(slides, subject).imputed().cell_id.tolist() == pair.cell_id.tolist()
    with pytest.raises(InputError, match=r"made from another model .*run impute-folds again"):
        FileInputs(slides, Subject("far", 0, "v1", imputed=tmp_path / "i.parquet"))
