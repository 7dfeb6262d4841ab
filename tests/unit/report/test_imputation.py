"""The section of imputed genes: what is shown beside what, which genes are shown, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import anndata
import jinja2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import sparse

from mistline.core.errors import InputError
from mistline.core.files import write_json, write_parquet
from mistline.core.hdf5 import write_h5ad
from mistline.mist.pair import open_pair, read_reference
from mistline.report import imputation_maps
from mistline.report.imputation import view_imputation
from mistline.report.imputation_maps import ImputationFiles, chosen_genes, pcc
from mistline.report.pictures import Album
from mistline.report.plots import imputed as plots
from mistline.report.plots.theme import LIGHTBOX
from mistline.report.results import Results
from mistline.report.scores import read_comparisons
from mistline.report.significance import read_tests
from mistline.report.sources import SlideSource
from mistline.store.absent import write_absent
from mistline.store.embeddings import Origin
from mistline.store.imputed import ImputedGenes, write_imputed
from tests.unit.report.test_page import Outline

VERSION, HOSTILE, FOLDS = "a" * 64, "<script>x", 2
GENES = tuple(f"g{number}" for number in range(8))
IDS = np.array([f"c{number:03d}" for number in range(64)])
XY = np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) * 10.0
DETECTED = (0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.5)  # of the reference's cells, gene by gene
MODELS = {HOSTILE: 0.9, "dull": 0.4, "fine": 0.6, "worst": 0.1}


def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(1 + XY[:, :1] / 10, (len(IDS), len(GENES))) + 1


def of_counts(path, matrix: np.ndarray, ids: list[str]) -> None:
    var = pd.DataFrame({"symbol": [f"{gene}!" for gene in GENES]}, index=list(GENES))
    write_h5ad(path, anndata.AnnData(sparse.csr_matrix(matrix.astype(np.int32)), pd.DataFrame(index=ids), var))


def origin(model: str) -> Origin:
    return Origin(model, 0, "0" * 64, VERSION)


def imputed(model: str) -> ImputedGenes:
    noise = np.random.default_rng(len(model)).normal(size=(len(IDS), len(GENES)))
    return ImputedGenes(
        slide=np.full(len(IDS), "s1"),
        cell_id=IDS,
        genes=GENES,
        symbols=GENES,
        fold=np.arange(len(GENES)) % FOLDS,
        mean=noise.astype(np.float32),
        sd=None,
        origin=origin(model),
        about={"protocol": "gene_folds"},
    )


def evaluation(model: str, metrics: dict, about: dict, controls: dict | None = None) -> dict:
    told = {"task": "imputation", "protocol": "gene_folds", "model": model, "seed": 0, "dataset_version": VERSION}
    rows = {name: {"pcc": estimate(value)} for name, value in (controls or {}).items()}
    return {**told, "unit": "gene", "n": 64, "metrics": metrics, "controls": rows, "settings": {"model": about, "k": 7}}


def estimate(value: float) -> dict:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def written(folder, *items: ImputedGenes) -> list:
    paths = [folder / f"{number}.parquet" for number in range(len(items))]
    for path, item in zip(paths, items, strict=True):
        write_imputed(path, item)
    return paths


@pytest.fixture
def slides(tmp_path):
    folder = tmp_path / "s1"
    write_parquet(folder / "cells.parquet", pd.DataFrame({"cell_id": IDS, "x_um": XY[:, 0], "y_um": XY[:, 1]}))
    of_counts(folder / "counts.h5ad", counts(), IDS.tolist())
    return [SlideSource("s1", "d", "t", "h", folder, folder / "split.parquet", {}, {}, {}, {})]


@pytest.fixture
def files(tmp_path):
    """Genes in two folds, and a reference in which detection rises from gene to gene in no order."""
    lines = [
        {"slide": "s1", "gene": gene, "symbol": f"{gene}!", "reference_gene": gene, "fold": fold,
         "part": "test" if number % FOLDS == fold else "val" if number < FOLDS else "train"}
        for number, gene in enumerate(GENES)
        for fold in range(FOLDS)
    ]  # fmt: skip
    write_parquet(tmp_path / "genes.parquet", pd.DataFrame(lines))
    found = np.arange(10)[:, None] < np.array(DETECTED) * 10 - 1e-9
    of_counts(tmp_path / "reference.h5ad", found, [f"r{number}" for number in range(10)])
    write_absent(tmp_path / "peer.parquet", ["slide"], origin("peer"), "no wheel")
    (tmp_path / "imputed").mkdir()
    paths = written(tmp_path / "imputed", *(imputed(model) for model in MODELS))
    asked = []

    def controls(view, settings, fold):
        asked.append((fold, settings["k"], view.wanted))
        return {name: np.full((len(IDS), len(view.wanted)), number, np.float32) + view.xy_um[:, :1]
                for number, name in enumerate(("second", "first"))}  # fmt: skip

    files = ImputationFiles(
        [*paths, tmp_path / "peer.parquet"], tmp_path / "genes.parquet", tmp_path / "reference.h5ad", controls
    )
    return files, asked


@pytest.fixture
def results(tmp_path):
    curve = {"nominal": [0.1, 0.5, 0.9], "covered": [0.2, 0.4, 0.6]}
    cost = {"seconds": 12.34, "peak_mb": 567.0, "clustering": {"ari": 0.25, "nmi": 0.5, "ami": 0.75}}
    found = [
        evaluation(model, {"pcc": estimate(value)}, cost | ({"calibration": curve} if model == HOSTILE else {}))
        for model, value in MODELS.items()
    ]
    found.append(evaluation("controls", {}, {}, {"unmade": 0.99, "first": 0.5, "second": 0.3}))
    found.append(evaluation("peer", {}, {}) | {"not_run": "its wheel is missing"})
    paths = [tmp_path / f"{number}.json" for number in range(len(found))]
    for path, item in zip(paths, found, strict=True):
        write_json(path, item)
    accuracy = {HOSTILE: 0.75, "dull": 0.5, "unmade": 1.0}
    about = {"task": "imputation", "protocol": "gene_folds", "dataset_version": VERSION, "unit": "gene"}
    write_json(tmp_path / "tests.json", {**about, "metrics": {}, "accuracy_score": accuracy})
    return Results(read_comparisons(paths, VERSION), read_tests([tmp_path / "tests.json"], VERSION))


def test_genes_are_chosen_by_detection_in_the_reference_alone(slides, files):
    given, _ = files
    folder = slides[0].folder
    pair = open_pair(
        "s1", folder / "cells.parquet", folder / "counts.h5ad", read_reference(given.reference),
        pd.read_parquet(given.genes), None,
    )  # fmt: skip
    chosen = chosen_genes(pair)
    assert chosen["gene"].tolist() == ["g3", "g7", "g4", "g0"]  # 2nd, 4th, 6th and 8th of 8 by detection
    np.testing.assert_allclose(chosen["detected"], [0.7, 0.5, 0.3, 0.1])


def test_maps_show_what_was_measured_the_best_control_and_the_best_models(
    slides, files, results, tmp_path, monkeypatch
):
    given, asked = files
    drawn = []
    empty = Figure(figsize=(2, 1))
    monkeypatch.setattr(imputation_maps.imputed, "maps", lambda _, **named: drawn.append(named) or empty)
    (tmp_path / "figures").mkdir()
    (view,) = view_imputation(results, given, slides, VERSION, Album(tmp_path / "figures", 10**6, 0))
    assert asked == [(1, 7, GENES[1::2]), (0, 7, GENES[::2])]  # once a fold of a gene that is shown
    np.testing.assert_array_equal(drawn[0]["xy_um"], XY)
    genes = drawn[0]["genes"]
    own = counts().astype(float)
    for gene, name in zip(genes, ("g3", "g7", "g4", "g0"), strict=True):
        number = GENES.index(name)
        assert gene.title.startswith(f"{name}!, detected in {DETECTED[number] * 100:.1f}%")
        titles = ["measured", "control: first", f"model: {HOSTILE}", "model: fine", "model: dull"]
        assert list(gene.panels) == titles
        depth = own[:, [place for place in range(8) if place % FOLDS != number % FOLDS]].sum(axis=1)
        truth = np.log1p(own[:, number] / depth * 1e4)
        np.testing.assert_allclose(gene.panels["measured"], truth, rtol=1e-5)
        np.testing.assert_array_equal(gene.panels["control: first"], XY[:, 0] + 1)
        np.testing.assert_array_equal(gene.panels["model: dull"], imputed("dull").mean[:, number])
        expected = [np.corrcoef(truth, gene.panels[title])[0, 1] for title in titles[1:]]
        assert gene.notes == ["", *(f"PCC {value:.3f}" for value in expected)]
        assert gene.white == pytest.approx(np.quantile(truth, 0.99), rel=1e-4)
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 2
    loader = jinja2.PackageLoader("mistline.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.get_template("sections/imputation.html.j2").render(imputation=[view])
    assert HOSTILE not in text
    assert sorted(item["class"] for item in Outline(text).all("img")) == ["light", "lightbox"]


def test_a_gene_has_one_scale_and_each_panel_its_title_and_note():
    told = {"measured": XY[:, 0], "model: fine": 2 * XY[:, 0]}
    figure = plots.maps(
        LIGHTBOX, XY, [plots.Gene(name, told, ["", "PCC 0.5"], white) for name, white in (("A", 9.0), ("B", 5.0))]
    )
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["A", "", "measured", "PCC 0.5", "model: fine", "B", "", "PCC 0.5"]
    scales = [axes.collections[0].get_clim() for axes in figure.axes[:2] + figure.axes[3:5]]
    assert scales == [(0, 9)] * 2 + [(0, 5)] * 2
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # y runs downwards, as on the slide


def test_the_table_has_ranks_costs_and_reasons(slides, results, tmp_path):
    (view,) = view_imputation(results, ImputationFiles(), slides, VERSION, Album(tmp_path, 10**6, 0))
    assert view.maps is None
    lines = {line.cells[0].text: line for line in view.table.rows}
    assert [field.value for field in lines[HOSTILE].cells[1:]] == ["model", 0.75, 12.34, 567.0, 0.25, 0.5, 0.75, ""]
    assert [(lines[name].cells[2].text, lines[name].cells[2].mark) for name in ("unmade", "dull", "fine")] == [
        ("1.000", "best"),  # a control that wins is marked as the winner
        ("0.500", ""),
        ("–", ""),
    ]
    assert [field.text for field in lines["first"].cells[3:8]] == ["–"] * 5
    assert lines["peer"].cells[-1].text == "not run: its wheel is missing"
    assert len({len(line.cells) for line in view.table.rows} | {len(view.table.columns)}) == 1


def test_without_the_task_there_is_no_section_and_without_an_sd_no_calibration(slides, results, tmp_path):
    album = Album(tmp_path, 10**6, 0)
    assert view_imputation(Results(), ImputationFiles(), slides, VERSION, album) == ()
    item = results.comparisons[0]
    unsure = tuple(entry for entry in item.entries if entry.name != HOSTILE)
    (view,) = view_imputation(Results([replace(item, entries=unsure)]), ImputationFiles(), slides, VERSION, album)
    assert view.calibration is None


def test_what_does_not_fit_together_is_refused(slides, files, results, tmp_path):
    given, _ = files
    album = Album(tmp_path, 10**6, 0)
    old = replace(imputed("dull"), origin=replace(origin("dull"), dataset_version="b" * 64))
    others = replace(imputed("dull"), cell_id=IDS[::-1].copy())
    elsewhere = replace(imputed("dull"), slide=np.full(len(IDS), "s9"))
    for item, match in (
        (old, "was made from dataset bbbbbbbbbbbb, not from aaa"),
        (others, "other cells were imputed than are judged"),
        (elsewhere, "slide s9 was imputed and is not shown"),
    ):
        with pytest.raises(InputError, match=match):
            view_imputation(results, replace(given, imputed=written(tmp_path, item)), slides, VERSION, album)


def test_a_constant_correlates_with_nothing():
    assert pcc(np.ones(3), np.array([1.0, 2, 3])) == 0
    assert pcc(np.array([1.0, 2, 4]), np.array([1.0, 3, 2])) == pytest.approx(1 / np.sqrt(28 / 3))
