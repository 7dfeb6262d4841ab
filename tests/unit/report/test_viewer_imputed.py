"""Imputed genes in the viewer: apart from measured ones, with their sd, joined by cell id, and named as imputed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mistline.config.report import Report
from mistline.core.errors import InputError
from mistline.store.embeddings import Origin
from mistline.store.imputed import ImputedGenes, write_imputed
from tests.unit.report.test_viewer import SETTINGS, about, build, codes, column
from tests.unit.report.tree import HOSTILE, N_CELLS, write_tree

GENES = ("x0", "x1", "x2", "x3")
SPREAD = (0.1, 3.0, 0.2, 2.0)  # x1 and x3 vary most


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("imputed") / "results")


def imputed(tree, model=HOSTILE) -> ImputedGenes:
    """Genes of slide s1, its cells in another order."""
    rng = np.random.default_rng(1)
    ids = pd.read_parquet(tree.root / "slides/s1/cells.parquet")["cell_id"].to_numpy(dtype=str)
    return ImputedGenes(
        slide=np.full(N_CELLS, "s1"),
        cell_id=ids[::-1],
        genes=GENES,
        symbols=tuple(f"{gene}</script>" for gene in GENES),
        fold=np.full(len(GENES), -1),
        mean=rng.uniform(0, SPREAD, (N_CELLS, 4)).astype(np.float32),
        sd=rng.uniform(0, 1, (N_CELLS, 4)).astype(np.float32),
        origin=Origin(model, 0, "ab", tree.version),
        about={},
    )


def write(folder, *items):
    for number, item in enumerate(items):
        write_imputed(folder / f"{number}.parquet", item)
    return [folder / f"{number}.parquet" for number in range(len(items))]


def test_means_and_sds_come_back_for_their_cells_under_a_heading_of_their_own(tree, tmp_path):
    own, plain = imputed(tree), replace(imputed(tree, "plain"), sd=None)
    found = build(tree, added=write(tmp_path, own, plain))
    title = f"x1</script> (imputed by {HOSTILE})"
    entry, values = column(found, 0, title)
    assert (entry["group"], entry["imputed"]) == (f"Imputed by {HOSTILE}, not measured", HOSTILE)
    sd = codes(found, entry["sd"]["block"], entry["sd"]["bytes"])
    for told, truth, number in ((entry, own.mean, values), (entry["sd"], own.sd, sd)):
        decoded = told["low"] + (number - 1.0) * told["step"]
        assert np.abs(decoded - truth[::-1, 1]).max() <= told["step"] / 2 * 1.001  # the file's cells are in reverse
        assert told["bytes"] == 1
    assert "sd" not in column(found, 0, "x1</script> (imputed by plain)")[0]
    by_group: dict[str, list[str]] = {}
    for item in about(found)[0]["columns"]:
        by_group.setdefault(item["group"], []).append(item["title"])
    assert by_group[f"Imputed by {HOSTILE}, not measured"] == [f"x{i}</script> (imputed by {HOSTILE})" for i in (1, 3)]
    measured = [item for item in about(build(tree))[0]["columns"] if item["group"] == "Genes"]
    assert by_group["Genes"] == [item["title"] for item in measured]
    assert not any("imputed" in item for item in about(found)[1]["columns"])  # nothing was added to the other slide
    assert not any(char in str(found.about) for char in "<>&'")


def test_a_marker_may_be_imputed(tree, tmp_path):
    paths = write(tmp_path, imputed(tree, "net"))
    found = build(tree, Report(viewer_genes=0, viewer_markers=("x2", "g00")), added=paths)
    groups = {item["group"]: item["title"] for item in about(found)[0]["columns"] if "enes" in item["group"]}
    titles = [item["title"] for item in about(found)[0]["columns"] if item.get("imputed")]
    assert titles == ["x2</script> (imputed by net)"]
    assert list(groups) == ["Genes"]
    with pytest.raises(InputError, match="names gene 'x2', which no slide has"):
        build(tree, Report(viewer_markers=("x2",)))


def test_what_is_not_of_unmeasured_genes_of_all_cells_is_refused(tree, tmp_path):
    own = imputed(tree, "net")
    wrong = {
        "was made from dataset ffffffffffff": replace(own, origin=Origin("net", 0, "ab", "f" * 64)),
        "it holds tested genes": replace(own, fold=np.array([-1, -1, -1, 2])),
        "slide s1 measures g00": replace(own, genes=("x0", "g00", "x2", "x3")),
        "it lists other cells": replace(own, cell_id=np.array(["nobody", *own.cell_id[1:]])),
    }
    for match, item in wrong.items():
        with pytest.raises(InputError, match=match):
            build(tree, SETTINGS, added=write(tmp_path, item))
