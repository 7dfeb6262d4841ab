"""`mistline toy`: a folder the workflow can run on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import anndata
import pytest
import yaml

from mistline.config.load import load_config
from mistline.core.errors import InputError, OutputError
from mistline.stages.toy import run
from mistline.xenium.toy.cohort import plan_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort") / "töy slides"
    run(out, slides=3, cells=12, seed=4, layouts="1.0, 3.0", planes=1)
    return out


def test_the_config_is_valid_and_its_files_are_there(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cohort)
    config = load_config(yaml.safe_load((cohort / "config.yaml").read_text()), root=Path("elsewhere"))
    assert [slide.slide for slide in config.slides] == ["toy1", "toy2", "toy3"]
    assert [slide.donor for slide in config.slides] == ["donor1", "donor2", "donor3"]
    assert config.seed == 4
    assert (cohort / str(config.imputation.reference)).is_file()
    assert set(config.imputation.models) <= set(config.models)
    for slide in config.slides:
        assert (cohort / slide.bundle / "experiment.xenium").is_file()
        with (cohort / str(slide.labels)).open() as stream:
            assert len(list(csv.DictReader(stream))) == slide.cells == 12


def test_one_panel_has_genes_no_other_has(cohort: Path) -> None:
    truth = json.loads((cohort / "truth.json").read_text())["slides"]
    assert {name: len(slide["genes_of_no_other_slide"]) for name, slide in truth.items()} == {
        "toy1": 0,
        "toy2": 8,
        "toy3": 0,
    }
    assert [slide["layout"] for slide in truth.values()] == ["1.0", "3.0", "1.0"]


def test_the_truth_names_the_genes_that_only_the_reference_measures(cohort: Path) -> None:
    truth = json.loads((cohort / "truth.json").read_text())["common"]["reference"]
    told = {gene for names in truth["unmeasured_markers"].values() for gene in names}
    told |= set(truth["unmeasured_domain_genes"].values())
    symbols = anndata.read_h5ad(cohort / "reference.h5ad").var["symbol"]
    with (cohort / "bundles/toy2/gene_panel.json").open() as stream:
        panel = {target["type"]["data"]["name"] for target in json.load(stream)["payload"]["targets"]}
    assert len(told) == 20
    assert told == {gene for gene in symbols if gene not in panel}


def test_nothing_temporary_is_left(cohort: Path) -> None:
    assert not list(cohort.rglob(".*"))


def test_a_folder_in_use_is_refused(cohort: Path) -> None:
    before = sorted(cohort.rglob("*"))
    with pytest.raises(OutputError, match="not empty"):
        run(cohort, slides=1, cells=8)
    assert sorted(cohort.rglob("*")) == before


def test_an_interrupted_run_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "toy"
    with monkeypatch.context() as patch:
        patch.setattr("mistline.xenium.toy.cohort.write_bundle", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(out, slides=1, cells=8, planes=1)
    assert not (out / "config.yaml").exists()
    run(out, slides=1, cells=8, planes=1, layouts="1.3")
    assert sorted(path.name for path in out.iterdir()) == [
        "bundles",
        "config.yaml",
        "he",
        "labels",
        "reference.h5ad",
        "slides.tsv",
        "truth.json",
    ]


def test_a_misspelt_layout_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layout '3'"):
        run(tmp_path / "toy", layouts="3")
    with pytest.raises(InputError, match="at least one"):
        plan_cohort(0, 10, 0, ["1.0"])
    assert not (tmp_path / "toy").exists()
