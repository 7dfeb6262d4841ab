"""A published method on the files of the line; what it is given, and what is left where it cannot be run."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.spots.toy import write_tables
from mistline.stages import assign_folds, compare, evaluate, peer_embed, peer_environment, peer_predict
from mistline.store.absent import read_absent, write_absent
from mistline.store.embeddings import Origin, read_embedding, read_origin
from mistline.store.imputed import KEYS
from mistline.store.manifest import read_manifest
from tests.unit.stages.tables import read, seal, split
from tests.unit.tasks.divided import long
from tests.unit.tasks.peers import fake

LABEL = json.dumps({"label": "layer", "bootstrap": 100})
KEEP = """
import shutil
from pathlib import Path
kept = Path(__file__).parent / "kept"
shutil.copytree(folder, kept / str(len(list(kept.glob("*")))))
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("a cöhort")
    rows = write_tables(root / "tables", side=12, n_genes=200)[::2]  # one slide of each donor
    donors = {row["slide"]: row["donor"] for row in rows}
    for row in rows:
        read(root, row["slide"], root / "tables" / row["table"], donor=row["donor"], um_per_unit=1.0)
    split(root, donors)
    seal(root, donors)
    assign_folds.run(
        task="domains",
        protocol="random_spot",
        **_slides(root, donors),
        **_dataset(root, donors),
        folds=root / "folds.parquet",
        summary=root / "folds.json",
        params=json.dumps({"label": "layer"}),
    )
    return root, donors


def _slides(root, donors):
    found = {"slide": list(donors), "donor": list(donors.values())}
    for name, file in (("cells", "cells.parquet"), ("counts", "counts.h5ad")):
        found[name] = [root / "slides" / slide / file for slide in donors]
    return found


def _dataset(root, donors):
    splits = [root / "dataset/splits" / f"{slide}.parquet" for slide in donors]
    return {"splits": splits, "manifest": root / "dataset/manifest.json"}


@pytest.fixture
def state(tmp_path):
    return {"environment": fake.environment(tmp_path), "status": fake.status(tmp_path / "status.json")}


def _embed(cohort, tmp_path, state, **changes):
    root, donors = cohort
    slide = next(iter(donors))
    out = tmp_path / "out"
    options = {
        "model": "banksy",
        "seed": 0,
        **state,
        "manifest": root / "dataset/manifest.json",
        "slide": slide,
        "cells": root / "slides" / slide / "cells.parquet",
        "counts": root / "slides" / slide / "counts.h5ad",
        "embedding": out / f"{slide}.parquet",
        "h5ad": out / f"{slide}.h5ad",
        "params": json.dumps({"method": "banksy"}),
        **changes,
    }
    peer_embed.run(**options)
    return options


def _predict(cohort, tmp_path, state, **changes):
    root, donors = cohort
    options = {
        "task": "domains",
        "protocol": "random_spot",
        "label": "layer",
        "model": "celltypist",
        "seed": 0,
        **state,
        **_slides(root, donors),
        "folds": root / "folds.parquet",
        "manifest": root / "dataset/manifest.json",
        "predictions": tmp_path / "out" / "celltypist.parquet",
        "metrics": tmp_path / "out" / "celltypist.jsonl",
        "params": json.dumps({"method": "celltypist"}),
        **changes,
    }
    peer_predict.run(**options)
    return options


def test_an_embedding_has_a_row_for_every_cell_in_order(cohort, tmp_path, state, monkeypatch):
    fake.method(monkeypatch, tmp_path, fake.EMBED)
    made = _embed(cohort, tmp_path, state)
    cells = pd.read_parquet(made["cells"])
    ids, rows = read_embedding(made["embedding"])
    assert ids.tolist() == cells["cell_id"].tolist()
    np.testing.assert_allclose(rows[:, :2], cells[["x_um", "y_um"]], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 2], cells["n_counts"], rtol=1e-6)
    origin = read_origin(made["embedding"])
    assert (origin.model, origin.seed) == ("banksy", 0)
    assert origin.dataset_version == read_manifest(made["manifest"]).version
    assert np.array_equal(anndata.read_h5ad(made["h5ad"]).X, rows)
    assert sorted(path.name for path in made["embedding"].parent.glob(".*")) == []


def test_a_method_that_comes_trained_is_given_its_files_and_no_others(cohort, tmp_path, state, monkeypatch):
    fake.method(monkeypatch, tmp_path, fake.TRAINED)
    files = {"weights": tmp_path / "w.ckpt", "config": tmp_path / "c.json"}
    given = {"method": "cellplm"}
    for key, path in files.items():
        path.write_text(key)
        given |= {key: str(path), f"{key}_sha256": hash_file(path)}
    made = _embed(cohort, tmp_path, state, params=json.dumps(given))
    _, rows = read_embedding(made["embedding"])
    assert (rows == [len("weights"), len("config"), 0]).all()
    with pytest.raises(InputError, match=r"c\.json: its sha256 is not config_sha256"):
        _embed(cohort, tmp_path, state, params=json.dumps(given | {"config_sha256": "0" * 64}))
    files["weights"].unlink()
    with pytest.raises(InputError, match=r"w\.ckpt: no such file; .*github\.com/OmicsML/CellPLM"):
        _embed(cohort, tmp_path, state, params=json.dumps(given))


def test_other_settings_or_seeds_are_other_weights(cohort, tmp_path, state, monkeypatch):
    fake.method(monkeypatch, tmp_path, fake.EMBED)
    options = ({}, {"seed": 1}, {"params": json.dumps({"method": "banksy", "options": {"lambda": 0.2}})})
    found = {read_origin(_embed(cohort, tmp_path, state, **change)["embedding"]).model_sha256 for change in options}
    assert len(found) == 3


def test_predictions_are_of_the_validation_and_test_cells(cohort, tmp_path, state, monkeypatch):
    fake.method(monkeypatch, tmp_path, fake.PREDICT)
    made = _predict(cohort, tmp_path, state)
    table = pd.read_parquet(made["predictions"])
    folds = long(pd.read_parquet(made["folds"]))
    asked = folds[folds["part"].isin(["val", "test"])]
    keys = ["slide", "cell_id", "fold", "part"]
    pd.testing.assert_frame_equal(
        table[keys].sort_values(keys, ignore_index=True).astype(str),
        asked[keys].sort_values(keys, ignore_index=True).astype(str),
    )
    shares = table.filter(like="p_").to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    # The shares of the classes among the training cells of the first fold, counted by hand.
    paths = zip(cohort[1], made["cells"], strict=True)
    labels = pd.concat([pd.read_parquet(path).assign(slide=name) for name, path in paths])
    first = folds[(folds["fold"] == 0) & (folds["part"] == "train")]
    known = first.merge(labels, on=["slide", "cell_id"])["label_layer"].dropna().value_counts(normalize=True)
    row = table[table["fold"] == 0].iloc[0]
    assert {name: row[f"p_{name}"] for name in known.index} == pytest.approx(known.to_dict(), rel=1e-5)


def test_no_file_that_a_method_is_given_depends_on_labels_of_tested_cells(cohort, tmp_path, state, monkeypatch):
    given = []
    for number, shuffled in enumerate((False, True)):
        root = tmp_path / str(number)
        (root / "kept").mkdir(parents=True)
        fake.method(monkeypatch, root, fake.PREDICT + KEEP)
        cells = [_shuffle_tested(cohort, path, root) for path in _slides(*cohort)["cells"]] if shuffled else None
        _predict(cohort, root, state, **({"cells": cells} if cells else {}))
        files = sorted((root / "kept").rglob("*.h5ad"))
        assert {path.name for path in files} == {"train.h5ad", "query.h5ad"}
        given.append([_content(path) for path in files])
        assert sorted(path.name for path in (root / "kept" / "0").iterdir()) == [
            *("job.json", "output.txt", "query.h5ad", "result.npz", "train.h5ad"),
        ]
    assert given[0] == given[1]


def _shuffle_tested(cohort, path, root):
    """Give every tested cell the label of another one; the file's labels change, those of training cells do not."""
    folds = long(pd.read_parquet(cohort[0] / "folds.parquet"))
    table = pd.read_parquet(path)
    slide = path.parent.name
    tested = table["cell_id"].isin(folds[(folds["slide"] == slide) & (folds["part"] == "test")]["cell_id"]).to_numpy()
    before = table.loc[tested, "label_layer"].to_numpy()
    table.loc[tested, "label_layer"] = np.roll(np.sort(before.astype(str)), len(before) // 2)
    assert (table.loc[tested, "label_layer"].to_numpy() != before).any()
    out = root / slide / "cells.parquet"
    out.parent.mkdir()
    table.to_parquet(out)
    return out


def _content(path):
    cells = anndata.read_h5ad(path)
    label = cells.obs["label"].tolist() if "label" in cells.obs else None
    return (path.name, cells.obs_names.tolist(), cells.X.toarray().tolist(), label, list(cells.obs), dict(cells.uns))


def test_a_method_that_cannot_be_installed_is_not_run(cohort, tmp_path, state):
    reason = "cannot be installed: no such package"
    fake.status(state["status"], reason)
    embedded, predicted = _embed(cohort, tmp_path, state), _predict(cohort, tmp_path, state)
    assert read_absent(embedded["embedding"]) == read_absent(predicted["predictions"]) == reason
    assert anndata.read_h5ad(embedded["h5ad"]).uns["not_run"] == reason
    assert predicted["metrics"].read_text() == ""


@pytest.mark.parametrize("text", ["raise MemoryError('too large')", "pass"])
def test_a_method_that_fails_is_not_run_and_the_line_goes_on(cohort, tmp_path, state, monkeypatch, text):
    fake.method(monkeypatch, tmp_path, text)
    reason = {"pass": "it left no result"}.get(text, "MemoryError: too large")
    assert read_absent(_embed(cohort, tmp_path, state)["embedding"]) == reason
    assert read_absent(_predict(cohort, tmp_path, state)["predictions"]) == reason


def test_what_a_method_cannot_read_is_not_given_to_it(cohort, tmp_path, state, monkeypatch):
    fake.method(monkeypatch, tmp_path, fake.EMBED)
    root, donors = cohort
    table = pd.read_parquet(root / "slides" / next(iter(donors)) / "cells.parquet")
    table.assign(x_um=np.nan, y_um=np.nan).to_parquet(tmp_path / "cells.parquet")
    made = _embed(cohort, tmp_path, state, cells=tmp_path / "cells.parquet")
    assert read_absent(made["embedding"]) == "the slide has no coordinates"
    monkeypatch.setitem(peer_embed.METHODS, "banksy", _limited(peer_embed.METHODS["banksy"]))
    assert read_absent(_embed(cohort, tmp_path, state)["embedding"]) == (
        f"it holds all pairs, and the slide has {len(table)} (at most 10)"
    )


def _limited(method):
    return type(method)(method.serves, method.reads, method.options, 10, "it holds all pairs")


def test_other_cells_and_unequal_options_are_errors(cohort, tmp_path, state):
    root, donors = cohort
    counts = anndata.read_h5ad(root / "slides" / next(iter(donors)) / "counts.h5ad")[::-1].copy()
    counts.write_h5ad(other := tmp_path / "counts.h5ad")
    with pytest.raises(InputError, match=r"its cells are not those of cells\.parquet"):
        _embed(cohort, tmp_path, state, counts=other)
    with pytest.raises(ConfigError, match="not equally many"):
        _predict(cohort, tmp_path, state, donor=["d"])


def test_a_row_that_was_not_run_is_told_and_not_compared(cohort, tmp_path, state):
    fake.status(state["status"], "cannot be installed: no such package")
    predicted = _predict(cohort, tmp_path, state)
    root, donors = cohort
    options = {
        "task": "domains", "protocol": "random_spot", "seed": 0, **_slides(root, donors), **_dataset(root, donors),
        "folds": root / "folds.parquet", "params": LABEL,
    }  # fmt: skip
    scores = {name: tmp_path / f"{name}.json" for name in ("celltypist", "controls")}
    answers = tmp_path / "answers.parquet"
    evaluate.run(
        **options,
        model="celltypist",
        predictions=predicted["predictions"],
        scores=scores["celltypist"],
        answers=answers,
    )
    evaluate.run(**options, model="controls", scores=scores["controls"])
    found = json.loads(scores["celltypist"].read_text())
    assert found["not_run"] == "cannot be installed: no such package"
    assert (found["metrics"], found["controls"], found["n"]) == ({}, {}, 0)
    assert len(pd.read_parquet(answers)) == 0
    compare.run(scores=list(scores.values()), comparison=tmp_path / "comparison.json")
    compared = json.loads((tmp_path / "comparison.json").read_text())
    assert compared["not_run"] == {"celltypist": "cannot be installed: no such package"}
    assert "celltypist" not in compared["metrics"]["ari"]["rows"]
    with pytest.raises(InputError, match="no row of this table was run"):
        compare.run(scores=[scores["celltypist"]], comparison=tmp_path / "none.json")


def test_genes_that_were_not_imputed_are_a_row_that_was_not_run(cohort, tmp_path):
    root, donors = cohort
    dataset = _dataset(root, donors)
    origin = Origin("map", 0, "hash", read_manifest(dataset["manifest"]).version)
    write_absent(tmp_path / "map.parquet", KEYS, origin, "slide s has no coordinates")
    evaluate.run(
        task="imputation",
        protocol="gene_folds",
        model="map",
        seed=0,
        **_slides(root, donors),
        **dataset,
        imputed=tmp_path / "map.parquet",
        reference=dataset["manifest"],
        genes=dataset["manifest"],
        scores=tmp_path / "map.json",
    )
    found = json.loads((tmp_path / "map.json").read_text())
    assert (found["not_run"], found["metrics"]) == ("slide s has no coordinates", {})


def test_the_state_of_an_environment_is_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    lock = tmp_path / "m.lock"
    lock.write_text("no-such-package-of-mistline==1.0 --hash=sha256:" + "0" * 64 + "\n")
    peer_environment.run(method="m", lock=lock, environment=tmp_path / "m", status=tmp_path / "m.json")
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["method"] == "m"
    assert found["reason"].startswith("cannot be installed")
    assert (tmp_path / "m.json.meta.json").is_file()
