"""The stage that trains on the folds of a task; labels of tested cells never reach a model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.spots.toy import write_tables
from mistline.stages import assign_folds, predict, train
from mistline.store.embeddings import EmbeddingWriter, Origin, read_origin
from mistline.store.manifest import read_manifest
from mistline.train.device import cpu_threads
from tests.unit.stages.tables import read, seal, split
from tests.unit.tasks.divided import long

SMALL = {"width": 16, "hidden": 16, "epochs": 4, "min_epochs": 1, "n_genes": 40}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    rows = write_tables(root / "tables", side=12, n_genes=200)
    donors = {row["slide"]: row["donor"] for row in rows}
    for row in rows:
        read(root, row["slide"], root / "tables" / row["table"], donor=row["donor"], um_per_unit=1.0)
    split(root, donors)
    seal(root, donors)
    for protocol in ("random_spot", "leave_donor_out"):
        assign_folds.run(
            task="domains",
            protocol=protocol,
            **_slides(root, donors),
            splits=[root / "dataset/splits" / f"{slide}.parquet" for slide in donors],
            manifest=root / "dataset/manifest.json",
            folds=root / f"{protocol}.parquet",
            summary=root / f"{protocol}.json",
            params=json.dumps({"label": "layer"}),
        )
    return root, donors


def _slides(root, donors):
    files = {name: [root / "slides" / slide / file for slide in donors] for name, file in FILES.items()}
    return {"slide": list(donors), "donor": list(donors.values()), **files}


FILES = {"cells": "cells.parquet", "counts": "counts.h5ad"}


def _predicted(cohort, out, protocol="random_spot", preset="cross_attention", embedding=None, **changes):
    root, donors = cohort
    given = {**_slides(root, donors), **changes}
    extra = {"frozen": "other"} if preset.startswith("frozen") else {}
    fusion = {"registry_name": "fusion", "params": json.dumps({**SMALL, "preset": preset, **extra})}
    with cpu_threads(1):
        predict.run(
            task="domains",
            protocol=protocol,
            label="layer",
            model="m",
            seed=0,
            folds=root / f"{protocol}.parquet",
            manifest=root / "dataset/manifest.json",
            predictions=out / "p.parquet",
            metrics=out / "p.jsonl",
            embedding=embedding,
            **{**fusion, **given},
        )
    return pd.read_parquet(out / "p.parquet"), (out / "p.jsonl").read_text()


@pytest.fixture(scope="module")
def gest(cohort, tmp_path_factory):
    """Return config.json of a run that learnt nothing: five steps."""
    folder = tmp_path_factory.mktemp("gest")
    files = {"config": "config.json", "weights": "weights.safetensors", "genes": "genes.txt", "card": "card.md"}
    settings = {"size": "tiny", "window_um": 300, "n_metacells": 8, "min_cells_metacell": 2, "levels": [4], "steps": 5}
    with cpu_threads(1):
        train.run(
            dataset=cohort[0] / "dataset/manifest.json",
            model="cells",
            registry_name="gest",
            metrics=folder / "metrics.jsonl",
            seed=0,
            params=json.dumps({**settings, "embed_corners": 1, "validate_every": 5}),
            **{option: folder / name for option, name in files.items()},
        )
    return folder / "config.json"


def _niches(cohort, out, start, named="cells", **changes):
    given = {"registry_name": "niche", "start": start, "params": json.dumps({"start": named, "epochs": 1})}
    return _predicted(cohort, out, **{**given, **changes})


def _embeddings(cohort, out, version=None, bad=None):
    root, donors = cohort
    version = version or read_manifest(root / "dataset/manifest.json").version
    paths = []
    for number, slide in enumerate(donors):
        ids = pd.read_parquet(root / "slides" / slide / "cells.parquet")["cell_id"].tolist()
        rows = np.random.default_rng(number).normal(size=(len(ids), 6)).astype(np.float32)
        paths.append(out / f"{slide}.parquet")
        with EmbeddingWriter(paths[-1], Origin("other", 0, "0" * 64, version)) as writer:
            writer.put(ids, rows)
    return paths


def test_every_validation_and_test_cell_of_every_fold_is_predicted(cohort, tmp_path):
    found, course = _predicted(cohort, tmp_path, protocol="leave_donor_out", preset="expr_only")
    folds = long(pd.read_parquet(cohort[0] / "leave_donor_out.parquet"))
    asked = folds[folds["part"].isin(["val", "test"])]
    keys = ["slide", "cell_id", "fold", "part"]
    assert set(map(tuple, found[keys].astype(str).to_numpy())) == set(map(tuple, asked[keys].astype(str).to_numpy()))
    assert {json.loads(row)["fold"] for row in course.splitlines()} == {0, 1}


@pytest.mark.parametrize(("protocol", "preset"), [("random_spot", "cross_attention"), ("leave_donor_out", "gcn_only")])
def test_labels_of_tested_cells_change_no_bit(cohort, tmp_path, protocol, preset):
    changed = _relabelled(cohort, tmp_path, protocol)
    before, course = _predicted(cohort, tmp_path, protocol, preset)
    after, course_after = _predicted(cohort, tmp_path, protocol, preset, cells=changed)
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    assert course == course_after


def _relabelled(cohort, out, protocol):
    """Return cells.parquet of each slide with the labels dealt anew of the cells that no fold shows."""
    root, donors = cohort
    folds = long(pd.read_parquet(root / f"{protocol}.parquet"))
    seen = folds[folds["part"].isin(["train", "val"])]
    changed, n_moved = [], 0
    for slide in donors:
        cells = pd.read_parquet(root / "slides" / slide / "cells.parquet")
        never = ~cells["cell_id"].isin(seen.loc[(seen["slide"] == slide), "cell_id"]) & cells["label_layer"].notna()
        labels = cells["label_layer"].to_numpy(dtype=object, copy=True)
        labels[never] = np.random.default_rng(0).permutation(labels[never])
        n_moved += int((labels[never] != cells.loc[never, "label_layer"]).sum())
        cells["label_layer"] = labels
        changed.append(out / f"{slide}.cells.parquet")
        cells.to_parquet(changed[-1])
    if protocol == "random_spot":
        assert n_moved > 50
    return changed


def test_a_trained_run_is_begun_with(cohort, gest, tmp_path):
    before, course = _niches(cohort, tmp_path, gest)
    assert [json.loads(row)["step"] for row in course.splitlines()] == [0, 1] * 4  # one fold a slide
    assert before.filter(like="p_").to_numpy().sum(axis=1) == pytest.approx(1, abs=1e-5)
    told = read_origin(tmp_path / "p.parquet")
    assert json.loads(gest.read_text())["weights_sha256"] in told.model_sha256
    after, course_after = _niches(cohort, tmp_path, gest, cells=_relabelled(cohort, tmp_path, "random_spot"))
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    assert course == course_after


def test_another_run_than_the_settings_name_is_refused(cohort, gest, tmp_path):
    for start, named, said in (
        (gest, "other", "the run cells of gest, and the settings name other of gest"),
        (None, "cells", "--start and the model's setting start belong together"),
    ):
        with pytest.raises(ConfigError, match=said):
            _niches(cohort, tmp_path, start, named)
    changed = json.loads(gest.read_text()) | {"dataset_version": "1" * 64}
    shutil.copytree(gest.parent, tmp_path / "old")
    (tmp_path / "old/config.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="trained on dataset version 111111111111"):
        _niches(cohort, tmp_path, tmp_path / "old/config.json")
    assert not list(tmp_path.glob("p.*"))


def test_a_frozen_run_is_built_on(cohort, tmp_path):
    found, _ = _predicted(cohort, tmp_path, preset="frozen_full", embedding=_embeddings(cohort, tmp_path))
    assert found.filter(like="p_").to_numpy().sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_an_embedding_of_another_dataset_or_too_few_are_refused(cohort, tmp_path):
    with pytest.raises(InputError, match="another version of the dataset"):
        _predicted(cohort, tmp_path, preset="frozen_only", embedding=_embeddings(cohort, tmp_path, version="1" * 64))
    with pytest.raises(ConfigError, match="not equally many"):
        _predicted(cohort, tmp_path, preset="frozen_only", embedding=_embeddings(cohort, tmp_path)[:3])
    assert not list(tmp_path.glob("p.*"))


def test_a_label_that_no_slide_has_is_refused(cohort, tmp_path):
    bare = []
    for slide in cohort[1]:
        cells = pd.read_parquet(cohort[0] / "slides" / slide / "cells.parquet").drop(columns="label_layer")
        bare.append(tmp_path / f"{slide}.bare.parquet")
        cells.to_parquet(bare[-1])
    with pytest.raises(ConfigError, match="no slide has this label column"):
        _predicted(cohort, tmp_path, cells=bare)
