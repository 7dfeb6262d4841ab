"""Running a method over slides and folds: what it is given, what is kept of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mistline.config.imputation import Imputation
from mistline.core.errors import ConfigError, InputError
from mistline.infer.impute import Method, impute_folds, impute_slide
from mistline.infer.unmeasured import unmeasured, whole_view
from mistline.mist.pair import open_pairs, read_names, read_reference
from mistline.scrna.folds import divide
from mistline.scrna.match import share
from mistline.scrna.view import Imputed
from mistline.store.embeddings import Origin
from tests.unit.scrna.pairs import GENES, N_SHARED, write_single, write_slide


class Mean:
    """Adds up the open genes of a cell, its seed and the number of the wanted gene."""

    def __init__(self, params):
        self.params = params

    @classmethod
    def create(cls, params, view, context):
        assert not context.resume.exists()
        return cls(params)

    def fit(self, view, context):
        context.resume.mkdir(parents=True)
        (context.resume / "state").write_text("half")
        yield {"step": 1}

    def impute(self, view, context):
        self.params["runs"].append((view.slide, view.wanted))
        if self.params.get("fail_at") == len(self.params["runs"]):
            raise KeyboardInterrupt
        base = view.spatial.mean(axis=1, keepdims=True) + context.seed % 1000
        mean = (base + np.arange(len(view.wanted))).astype(np.float32)
        return Imputed(mean, *self.params.get("sd", lambda values: (np.abs(values),))(mean))


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    root = tmp_path_factory.mktemp("line")
    reference = read_reference(write_single(root / "reference.h5ad"))
    tables, files = [], {}
    for number, name in enumerate(("s1", "s2")):
        folder = write_slide(root / name, n=20 + number, seed=number, skip=2 * number)
        files[name] = (folder / "cells.parquet", folder / "counts.h5ad")
        own = share(name, read_names(files[name][1]), reference.names(), frozenset(), 1)
        rows = {"slide": name, "gene": own.genes, "symbol": own.symbols, "reference_gene": own.reference_genes}
        tables.append(pd.DataFrame(rows))
    genes = divide(pd.concat(tables, ignore_index=True), reference.by_expression(), 3, 0.15, 0)
    genes.to_parquet(root / "genes.parquet")
    return root, files, genes, reference


def method(folder, **params):
    origin = Origin("mean", 3, "code", "v1")
    return Method(Mean, {"runs": [], **params}, origin, "cpu", 1, folder / "x.resume")


def folds(line, own, **options):
    root, files, genes, _ = line
    pairs = open_pairs(files, root / "reference.h5ad", root / "genes.parquet", None)
    return impute_folds(own, pairs, genes, "gene_folds", **options)


def test_every_tested_gene_is_imputed_in_its_fold_and_no_other(line, tmp_path):
    own = method(tmp_path)
    found = folds(line, own)
    tested = line[2][line[2]["part"] == "test"]
    assert found.genes == GENES[:N_SHARED]
    assert found.symbols == tuple(f"S{number}" for number in range(N_SHARED))
    assert found.fold.tolist() == tested.drop_duplicates("gene").sort_values("gene")["fold"].tolist()
    assert found.slide.tolist() == ["s1"] * 20 + ["s2"] * 21
    lacks = np.isnan(found.mean)
    assert not lacks[:20].any()
    assert (lacks[20:].all(axis=0) == [gene in GENES[:2] for gene in found.genes]).all()
    assert np.array_equal(np.isnan(found.sd), lacks)
    assert [(run["slide"], run["fold"]) for run in found.about["runs"]] == [
        (s, f) for s in ("s1", "s2") for f in range(3)
    ]
    assert all(run["seconds"] >= 0 and run["peak_mb"] > 10 for run in found.about["runs"])
    assert found.about["protocol"] == "gene_folds"
    for slide, wanted in own.params["runs"]:
        fold = tested[(tested["slide"] == slide) & (tested["gene"] == wanted[0])]["fold"].item()
        assert set(wanted) == set(tested[(tested["slide"] == slide) & (tested["fold"] == fold)]["gene"])
    values = {found.mean[0, place] for place in range(N_SHARED)}
    assert len(values) == N_SHARED  # the seed is another one in each fold


def test_a_canary_in_tested_genes_changes_no_byte_and_leaves_nothing_behind(line, tmp_path):
    plain, marked = folds(line, method(tmp_path / "a")), folds(line, method(tmp_path / "b"), canary=True)
    assert plain.mean.tobytes() == marked.mean.tobytes()
    assert plain.sd.tobytes() == marked.sd.tobytes()
    assert not list((tmp_path / "b").rglob("*.parquet"))


def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(line, tmp_path):
    whole = folds(line, method(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        folds(line, method(tmp_path, fail_at=3))
    left = sorted(path.name for path in (tmp_path / "x.resume").glob("*.parquet"))
    assert left == ["s1.fold-0.parquet", "s1.fold-1.parquet"]
    (tmp_path / "x.resume/s1.fold-2/state").unlink()
    (tmp_path / "x.resume/s1.fold-2").rmdir()  # the model's own state: it would go on with it
    again = method(tmp_path)
    found = folds(line, again)
    assert len(again.params["runs"]) == 4
    assert found.mean.tobytes() == whole.mean.tobytes()
    other = method(tmp_path)
    folds(line, replace(other, origin=replace(other.origin, model_sha256="other settings")))
    assert len(other.params["runs"]) == 6


@pytest.mark.parametrize(
    ("sd", "sentence"),
    [
        (lambda mean: (mean[:, :1],), r"mean, slide s1: sd is \[20, 1\], and \[20, 8\] cells and genes are wanted"),
        (lambda mean: (-np.abs(mean) - 1,), "sd of ENSG.* is -.* cells and genes"),
        (lambda mean: (np.full_like(mean, np.nan),), "sd of ENSG.* is nan in 160 cells and genes"),
        (
            lambda mean, told=[]: told.append(0) or ([None] if len(told) > 1 else [abs(mean)]),
            "in some folds how unsure",
        ),
    ],
)
def test_what_a_method_may_not_say(line, tmp_path, sd, sentence):
    with pytest.raises(InputError, match=sentence):
        folds(line, method(tmp_path, sd=sd))


def test_a_mean_that_is_not_finite_is_refused_and_not_kept(line, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Mean, "impute", lambda self, view, context: Imputed(np.full((len(view.cell_id), len(view.wanted)), np.nan))
    )
    with pytest.raises(InputError, match="mean, slide s1: mean of ENSG"):
        folds(line, method(tmp_path))
    assert not list(tmp_path.rglob("*.parquet"))


def panels(line):
    return [read_names(counts) for _, counts in line[1].values()]


def test_genes_that_no_slide_measures_are_the_most_variable_or_those_asked_for(line):
    reference = line[3]
    found = unmeasured(reference, panels(line), Imputation(n_genes=3))
    order = np.argsort(-reference.variances()[N_SHARED:])[:3] + N_SHARED
    assert found.ids == tuple(GENES[place] for place in order)
    asked = unmeasured(reference, panels(line), Imputation(genes=("S27", GENES[25])))
    assert (asked.ids, asked.symbols) == ((GENES[27], GENES[25]), ("S27", "S25"))
    assert len(unmeasured(reference, panels(line), Imputation(n_genes=500)).ids) == 6
    with pytest.raises(ConfigError, match="S1 is measured on a slide"):
        unmeasured(reference, panels(line), Imputation(genes=("S27", "S1")))
    with pytest.raises(ConfigError, match="measure every gene of the reference that varies"):
        unmeasured(reference, [reference.names()], Imputation())


def test_a_slide_is_given_whole_and_gets_wanted_genes_alone(line, tmp_path):
    _, files, _, reference = line
    wanted = unmeasured(reference, panels(line), Imputation(n_genes=4))
    view = whole_view("s2", *files["s2"], reference, wanted, 5)
    assert (len(view.cell_id), view.genes, view.wanted) == (21, GENES[2:N_SHARED], wanted.ids)
    assert view.is_val.sum() == round(0.15 * 22)
    assert np.array_equal(view.wanted_reference, reference.logs(wanted.ids))
    own = method(tmp_path)
    found = impute_slide(own, view, wanted.symbols)
    assert (found.genes, found.symbols, found.fold.tolist()) == (wanted.ids, wanted.symbols, [-1] * 4)
    assert found.cell_id.tolist() == view.cell_id.tolist()
    with pytest.raises(InputError, match="it shares 22 genes with the reference, and at least 23"):
        whole_view("s2", *files["s2"], reference, wanted, 23)
