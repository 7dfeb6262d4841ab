"""The line of imputed genes, stage by stage, from an h5ad of single cells to genes at cells."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.core.provenance import sidecar
from mistline.stages import evaluate, fold_genes, impute_folds, impute_slide, read_reference
from mistline.store.absent import write_absent
from mistline.store.embeddings import Origin
from mistline.store.imputed import KEYS, read_imputed
from mistline.store.manifest import read_manifest, write_manifest
from mistline.train.device import cpu_threads
from tests.unit.scrna.pairs import GENES, N_SHARED, counts_of, write_single, write_slide

SLIDES = ("s1", "s2")
DIVISION = {"n_folds": 2, "val_share": 0.2, "min_shared": 6, "seed": 0}


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    root = tmp_path_factory.mktemp("line")
    for number, name in enumerate(SLIDES):
        write_slide(root / name, n=40 - number, seed=number, skip=2 * number)
    read_reference.run(
        reference=write_single(root / "given.h5ad"), counts=root / "r/counts.h5ad", summary=root / "r/reference.json"
    )
    write_manifest(root / "manifest.json", {"slides": [{"slide": name} for name in SLIDES]})
    divide(root, root / "genes.parquet")
    return root


def files(root, name):
    return [root / slide / name for slide in SLIDES]


def divide(root, out, slides=SLIDES, **changes):
    fold_genes.run(
        reference=root / "r/counts.h5ad",
        slide=list(slides),
        counts=files(root, "counts.h5ad"),
        genes=out,
        summary=out.with_suffix(".json"),
        params=json.dumps({**DIVISION, **changes}),
    )


def impute(root, out, **changes):
    given = {
        "slide": list(SLIDES),
        "cells": files(root, "cells.parquet"),
        "counts": files(root, "counts.h5ad"),
        "reference": root / "r/counts.h5ad",
        "genes": root / "genes.parquet",
        "max_cells": 25,
        "params": '{"neighbours": 5}',
    }
    with cpu_threads(1):
        impute_folds.run(
            protocol="gene_folds",
            model="borrowed",
            registry_name="spage",
            seed=0,
            manifest=root / "manifest.json",
            imputed=out,
            **{**given, **changes},
        )
    return read_imputed(out)


def add(root, folder, **changes):
    given = {"slide": "s1", "cells": root / "s1/cells.parquet", "counts": root / "s1/counts.h5ad", "min_shared": 6}
    with cpu_threads(1):
        impute_slide.run(
            model="borrowed",
            registry_name="spage",
            seed=0,
            panel=files(root, "counts.h5ad"),
            reference=root / "r/counts.h5ad",
            manifest=root / "manifest.json",
            imputed=folder / "s.parquet",
            h5ad=folder / "s.h5ad",
            **{**given, **changes},
        )
    return read_imputed(folder / "s.parquet"), anndata.read_h5ad(folder / "s.h5ad")


def test_single_cells_are_stored_as_slides_are(line):
    told = json.loads((line / "r/reference.json").read_text())
    assert (told["n_cells"], told["n_genes"], told["values"]) == (90, 30, "counts")
    assert np.array_equal(anndata.read_h5ad(line / "r/counts.h5ad").X.toarray(), counts_of(90, 9).toarray())
    assert sidecar(line / "r/counts.h5ad").is_file()


def test_values_of_slides_change_no_byte_of_the_division(line, tmp_path):
    told = json.loads((line / "genes.json").read_text())
    assert (told["n_genes"], told["slides"]["s2"]["n_shared"]) == (N_SHARED, N_SHARED - 2)
    assert told["folds"]["0"] == {"train": 10, "val": 2, "test": 12}
    for number, name in enumerate(SLIDES):
        write_slide(tmp_path / name, n=40 - number, seed=50 + number, skip=2 * number)
    (tmp_path / "r").symlink_to(line / "r")
    divide(tmp_path, tmp_path / "genes.parquet")
    assert hash_file(tmp_path / "genes.parquet") == hash_file(line / "genes.parquet")


def test_what_cannot_be_divided_writes_nothing(line, tmp_path):
    with pytest.raises(InputError, match="slide s2: it shares 22 genes with the reference, and at least 23 are asked"):
        divide(line, tmp_path / "g.parquet", min_shared=23)
    with pytest.raises(ConfigError, match="not equally many"):
        divide(line, tmp_path / "g.parquet", slides=["s1"])
    assert not list(tmp_path.iterdir())


def test_closed_genes_are_imputed_and_measured_values_of_them_change_nothing(line, tmp_path):
    found = impute(line, tmp_path / "i.parquet")
    assert (found.mean.shape, found.sd) == ((50, N_SHARED), None)
    assert (found.origin.model, found.origin.seed) == ("borrowed", 0)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["i.parquet", "i.parquet.meta.json"]
    genes = pd.read_parquet(line / "genes.parquet")
    tested = genes[(genes["part"] == "test") & (genes["fold"] == 0)]["gene"].unique()
    changed = counts_of(40, 0).tolil()
    changed[:, [GENES.index(gene) for gene in tested]] = 99
    other = anndata.read_h5ad(line / "s1/counts.h5ad")
    other.X = changed.tocsr()[:, :N_SHARED]
    other.write_h5ad(tmp_path / "other.h5ad")
    again = impute(line, tmp_path / "j.parquet", counts=[tmp_path / "other.h5ad", line / "s2/counts.h5ad"])
    own = np.isin(found.genes, tested)
    assert np.array_equal(found.mean[:25, own], again.mean[:25, own])
    assert not np.array_equal(found.mean[:25, ~own], again.mean[:25, ~own])  # there they are read


def test_the_origin_tells_other_settings_and_genes_apart(line, tmp_path):
    first = impute(line, tmp_path / "i.parquet").origin
    assert impute(line, tmp_path / "i.parquet").origin == first
    assert impute(line, tmp_path / "i.parquet", max_cells=24).origin != first
    divide(line, tmp_path / "genes.parquet", seed=1)
    assert impute(line, tmp_path / "i.parquet", genes=tmp_path / "genes.parquet").origin != first


def test_added_genes_come_as_table_and_h5ad_and_hold_no_measured_gene(line, tmp_path):
    found, data = add(line, tmp_path, added='{"n_genes": 4}')
    assert data.shape == (40, 4)
    assert not set(data.var_names) & set(GENES[:N_SHARED])
    assert (data.obs_names.name, data.obs_names.tolist()) == ("cell_id", found.cell_id.tolist())
    assert np.array_equal(data.X, found.mean)
    assert data.var["symbol"].tolist() == list(found.symbols)
    reference = hash_file(line / "r/counts.h5ad")
    assert data.uns["imputed"] == {"model": "borrowed", "seed": 0, "reference": reference}
    assert (found.fold.tolist(), list(data.layers)) == ([-1] * 4, [])
    before = hash_file(tmp_path / "s.h5ad")
    add(line, tmp_path, added='{"n_genes": 4}')
    assert hash_file(tmp_path / "s.h5ad") == before
    assert not (tmp_path / "s.resume").exists()


def test_a_measured_gene_is_not_added(line, tmp_path):
    with pytest.raises(ConfigError, match="S5 is measured on a slide of this run"):
        add(line, tmp_path, added='{"genes": ["S27", "S5"]}')
    assert not list(tmp_path.iterdir())


def test_a_method_that_was_not_run_is_told_where_it_would_be_judged(line, tmp_path):
    for slide in SLIDES:
        ids = pd.read_parquet(line / slide / "cells.parquet")["cell_id"]
        pd.DataFrame({"cell_id": ids, "split": "test"}).to_parquet(tmp_path / f"{slide}.parquet")
    origin = Origin("far", 0, "code", read_manifest(line / "manifest.json").version)
    write_absent(tmp_path / "none.parquet", KEYS, origin, "cannot be installed: no such package")
    evaluate.run(
        task="imputation",
        protocol="gene_folds",
        model="far",
        seed=0,
        slide=list(SLIDES),
        donor=["d1", "d2"],
        cells=files(line, "cells.parquet"),
        counts=files(line, "counts.h5ad"),
        splits=[tmp_path / f"{slide}.parquet" for slide in SLIDES],
        manifest=line / "manifest.json",
        reference=line / "r/counts.h5ad",
        genes=line / "genes.parquet",
        imputed=tmp_path / "none.parquet",
        scores=tmp_path / "t.json",
    )
    told = json.loads((tmp_path / "t.json").read_text())
    assert (told["not_run"], told["metrics"]) == ("cannot be installed: no such package", {})
