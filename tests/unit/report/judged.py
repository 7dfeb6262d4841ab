"""Evaluations of a domain task in the formats of the line: two models, the controls, their answers and trainings."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from mistline.core.files import write_json, write_parquet, write_text
from mistline.store.embeddings import EmbeddingWriter, Origin
from tests.unit.report.tree import N_CELLS, Tree

CLASSES = ("L1", "L2", "L3")
SHARES = {"few_label_1": 1, "few_label_10": 10, "random_spot": 60}
MODELS = {"gcn": 0.8, "mlp": 0.5}
CONTROLS = {"coordinates": 0.9, "majority": 0.1}


def write_domains(tree: Tree) -> None:
    """Write three protocols; the control coordinates wins, and on the slide's cells everything is right or wrong."""
    for entry in tree.entries:
        cells = tree.root / "slides" / entry["slide"] / "cells.parquet"
        table = pd.read_parquet(cells)
        write_parquet(cells, table.assign(label_layer=[CLASSES[i % 3] for i in range(len(table))]))
        _embedding(tree, entry["slide"])
    for protocol, share in SHARES.items():
        folder = tree.root / "evaluation/domains" / protocol
        for model, ari in MODELS.items():
            for seed in (0, 1):
                result = _result(tree, protocol, share, model, seed)
                result["metrics"] = metrics(ari * share / 60 + seed / 100)
                result["settings"]["model"] = details(ari)
                result["controls"] = {"shuffled": metrics(0.01)}
                _write(folder / f"{model}.seed-{seed}", result, tree, {"model": ari})
            course = tree.root / "predictions/domains" / protocol / f"{model}.seed-0.jsonl"
            write_text(course, "".join(json.dumps(row) + "\n" for row in _course()))
        controls = _result(tree, protocol, share, "controls", 0)
        controls["controls"] = {name: metrics(ari) for name, ari in CONTROLS.items()}
        controls["settings"]["controls"] = {name: details(ari) for name, ari in CONTROLS.items()}
        controls["settings"]["left_out"] = {"pca": "no gene is measured on every slide"}
        _write(folder / "controls.seed-0", controls, tree, CONTROLS)
        peer = _result(tree, protocol, share, "peer", 0) | {"n": 0, "unit": "none", "not_run": "its wheel is missing"}
        _write(folder / "peer.seed-0", peer, tree, {})
    write_json(tree.root / "evaluation/domains/random_spot.json", tests(tree.version))
    for path in tree.scores:  # a task that gives cells no class leaves a table without lines
        if not path.with_suffix(".parquet").exists():
            write_parquet(path.with_suffix(".parquet"), pd.DataFrame({"slide": [], "cell_id": [], "truth": []}))


def tests(version: str) -> dict[str, Any]:
    """Return a comparison in which gcn is worse than the best control, and mlp could not be tested."""
    against = {
        "gcn": {"n": 6, "difference": -0.1, "p": 0.015, "p_holm": 0.03},
        "mlp": {"n": 3, "difference": -0.4, "p": None, "p_holm": None},
    }
    metric = {"best": "coordinates", "best_control": "coordinates", "against_best_control": against}
    about = {"task": "domains", "protocol": "random_spot", "dataset_version": version, "unit": "slide"}
    return {**about, "metrics": {"ari": metric}}


def metrics(ari: float) -> dict[str, Any]:
    """Six metrics, more than are told of first."""
    names = ("ari", "macro_f1", "accuracy", "ring_accuracy", "log_loss", "ece")
    return {name: {"value": ari, "low": ari - 0.02, "high": ari + 0.02} for name in names}


def details(right: float) -> dict[str, Any]:
    """What the domain task tells beside the metrics."""
    confusion = (np.eye(3) * 10 * right + 2).astype(int).tolist()
    reliability = {"n": [0, 4, 6], "confidence": [0.0, 0.5, 0.9], "accuracy": [0.0, 0.4, right]}
    curve = [
        {"from_um": 0.0, "to_um": 50.0, "n": 4, "accuracy": right / 2},
        {"from_um": 50.0, "to_um": None, "n": 6, "accuracy": right},
    ]
    return {"what": "made for a test", "confusion": confusion, "reliability": reliability, "border_curve": curve}


def _result(tree: Tree, protocol: str, share: int, model: str, seed: int) -> dict[str, Any]:
    published = {"protocol": "random_spot", "metric": "ari", "value": 0.928, "method": "cross-attention", "row": None}
    return {
        **{"task": "domains", "protocol": protocol, "model": model, "seed": seed, "dataset_version": tree.version},
        **{"unit": "slide", "n": N_CELLS, "metrics": {}, "controls": {}, "seconds": 1.0, "peak_mb": 1.0},
        "settings": {
            "protocol": f"{share} % of the labelled cells are trained on",
            "classes": list(CLASSES),
            "published": [published, published | {"value": 0.9, "method": "GCN", "row": "gcn", "source": "a paper"}],
        },
    }


def _write(stem: Any, result: dict[str, Any], tree: Tree, rows: dict[str, float]) -> None:
    write_json(stem.with_name(f"{stem.name}.json"), result)
    truth = [CLASSES[i % 3] for i in range(N_CELLS)]
    table = pd.DataFrame({"slide": "s1", "cell_id": [f"aaaa{i:04d}-1" for i in range(N_CELLS)], "truth": truth})
    for name, share in rows.items():
        wrong = np.arange(N_CELLS) >= share * N_CELLS
        table[f"answer_{name}"] = np.where(wrong, CLASSES[0], truth)
    write_parquet(stem.with_name(f"{stem.name}.parquet"), table.iloc[::2].astype("category"))


def _course() -> list[dict[str, Any]]:
    return [
        {"fold": fold, "step": step, "loss": 1 / step, "lr": 0.1, "macro_f1": 0.5 + step / 20 + fold / 50}
        for fold in (0, 1)
        for step in range(1, 8)
    ]


def _embedding(tree: Tree, slide: str) -> None:
    path = tree.root / "embeddings/pca/seed-0" / f"{slide}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(len(slide)).normal(size=(N_CELLS, 5)).astype(np.float32)
    rows[::3, 0] += 5
    with EmbeddingWriter(path, Origin("pca", 0, "f" * 64, tree.version)) as writer:
        writer.put([f"aaaa{i:04d}-1" for i in range(N_CELLS)], rows)
