from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.export.imputed import imputed_tables
from mistline.store.embeddings import Origin
from mistline.store.imputed import ImputedGenes, write_imputed

IDS = np.array(["b", "a", "c"])
OWN = ImputedGenes(
    slide=np.full(3, "s1"),
    cell_id=IDS,
    genes=("x0", "x1"),
    symbols=("X0", "X1"),
    fold=np.full(2, -1),
    mean=np.arange(6, dtype=np.float32).reshape(3, 2),
    sd=np.ones((3, 2), dtype=np.float32),
    origin=Origin("my model", 0, "ab", "v"),
    about={},
)


@pytest.fixture
def measured() -> anndata.AnnData:
    obs = pd.DataFrame({"cell_id": IDS, "instance_id": [1, 2, 3], "label_kind": "A"}, index=IDS)
    found = anndata.AnnData(np.zeros((3, 1), np.float32), obs, pd.DataFrame(index=["g0"]))
    found.obsm["spatial"] = np.arange(6.0).reshape(3, 2)
    return found


def tables(folder, measured, *items):
    for number, item in enumerate(items):
        write_imputed(folder / f"{number}.parquet", item)
    return imputed_tables([folder / f"{number}.parquet" for number in range(len(items))], "s1", measured, "v")


def test_each_model_has_a_table_of_its_own(measured, tmp_path):
    again = replace(OWN, sd=None, origin=Origin("other", 0, "ab", "v"))
    seeds = [replace(again, origin=Origin("two", seed, "ab", "v")) for seed in (0, 1)]
    found = tables(tmp_path, measured, OWN, again, *seeds)
    assert list(found) == ["imputed_my_model", "imputed_other", "imputed_two.seed-0", "imputed_two.seed-1"]
    table = found["imputed_my_model"]
    np.testing.assert_array_equal(table.X, OWN.mean)
    np.testing.assert_array_equal(table.layers["sd"], OWN.sd)
    assert table.var["symbol"].tolist() == ["X0", "X1"]
    assert table.obs["instance_id"].tolist() == [1, 2, 3]
    assert set(table.obs["region"]) == {"cells"}
    assert table.uns["imputed"]["model"] == "my model"
    assert not found["imputed_other"].layers
    assert measured.var_names.tolist() == ["g0"]


def test_what_could_be_taken_for_measured_or_is_of_other_cells_is_refused(measured, tmp_path):
    wrong = {
        "another version of the dataset": replace(OWN, origin=Origin("m", 0, "ab", "w")),
        "the slide measures g0": replace(OWN, genes=("x0", "g0")),
        "or tested genes": replace(OWN, fold=np.array([-1, 0])),
        "another slide than s1": replace(OWN, slide=np.full(3, "s2")),
        "other cells": replace(OWN, cell_id=IDS[::-1].copy()),
    }
    for match, item in wrong.items():
        with pytest.raises(InputError, match=match):
            tables(tmp_path, measured, item)
