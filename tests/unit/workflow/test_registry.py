from __future__ import annotations

import importlib
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from mistline.config.imputation import Imputation
from mistline.config.models import ModelRun
from mistline.config.slides import Slide
from mistline.config.tasks import TaskRun
from mistline.config.viewer import Viewer
from mistline.core.errors import ConfigError
from mistline.workflow.digest import reachable
from mistline.workflow.registry import check_encoded, check_imputation, resolve_models, resolve_tasks, shown_runs

SLIDE = {"slide": "s", "bundle": "b", "donor": "d", "tissue": "t", "disease": "healthy"}
LABELLED = (Slide(**SLIDE, labels="labels.csv"),)
MODELS = resolve_models({"a": ModelRun(model="pca"), "b": ModelRun(model="image")})
CLUSTERING = {"protocols": ("fixed_resolution",), "params": {"label": "cell_type"}}


def test_defaults_are_filled_in_and_modules_cover_the_folder():
    found = resolve_models({"mine": ModelRun(model="pca", params={"n_components": 7})})["mine"]
    assert found.params.n_components == 7
    assert set(found.modules) >= {"mistline.models.pca", "mistline.models.pca.params", "mistline.models.pca.model"}


@pytest.mark.parametrize("room", ["models", "tasks"])
def test_every_registered_name_resolves(room):
    registry = importlib.import_module(f"mistline.{room}").REGISTRY
    assert registry
    if room == "models":
        files = {"weights": __file__, "vocabulary": __file__, "weights_sha256": "0" * 64, "vocabulary_sha256": "0" * 64}
        parts = {"condition": "spatia", "autoencoder": "vae"}
        needed = {"peer": {"method": "celltypist"}, "gene_encoder": {"preset": "scgpt", **files}, "diffusion": parts}
        needed["flow"] = {**parts, "label": "state", "transitions": [["a", "b"]]}
        needed["niche"] = {"start": "gest"}
        runs = {name: ModelRun(model=name, params=needed.get(name, {})) for name in registry}
        assert set(resolve_models(runs)) == set(registry)
    for name in registry if room == "tasks" else ():
        task = importlib.import_module(registry[name])
        assert task.PROTOCOLS
        assert task.Params.model_config["extra"] == "forbid"


def test_unknown_model_names_the_nearest_and_the_known():
    with pytest.raises(
        ConfigError, match=r"models.a.model: unknown model 'pac'; did you mean pca; known are .*image, .*pca"
    ):
        resolve_models({"a": ModelRun(model="pac")})


def test_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError, match=r"models.a.params.n_component: unknown key; did you mean n_components"):
        resolve_models({"a": ModelRun(model="pca", params={"n_component": 3})})


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"gene_positions": "places.parquet"}, "models.a.params: places.parquet: no such file; correct the path"),
        ({"image_weights": __file__}, "image_weights and image_weights_sha256 belong together"),
        ({"preset": "mea"}, "unknown preset 'mea': known are cell_only, mae"),
        ({"levels": ["cell", "tissue"]}, "level tissue needs level niche"),
        ({"width": 100, "heads": 8}, "width 100 cannot be divided among 8 heads"),
        ({"preset": "no_image", "embed_from": "image"}, "embed_from image is not among the modalities"),
    ],
)
def test_settings_of_spatia_that_cannot_be(params, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        resolve_models({"a": ModelRun(model="spatia", params=params)})


def test_unknown_task_and_protocol():
    with pytest.raises(ConfigError, match="did you mean clustering"):
        resolve_tasks({"clusterin": TaskRun(**CLUSTERING)}, LABELLED, MODELS)
    with pytest.raises(
        ConfigError, match=r"tasks.clustering.protocols: unknown protocol 'oracel'; did you mean oracle"
    ):
        resolve_tasks({"clustering": TaskRun(**{**CLUSTERING, "protocols": ("oracel",)})}, LABELLED, MODELS)


def test_labels_are_required_somewhere():
    with pytest.raises(ConfigError, match="no slide of this run has any"):
        resolve_tasks({"clustering": TaskRun(**CLUSTERING)}, (Slide(**SLIDE),), MODELS)


def test_a_task_setting_that_is_missing():
    with pytest.raises(ConfigError, match=r"tasks.clustering.params.label: this key is required"):
        resolve_tasks({"clustering": TaskRun(protocols=("oracle",))}, LABELLED, MODELS)


def test_a_task_judges_all_that_can_serve_it_or_those_it_names():
    run = resolve_tasks({"clustering": TaskRun(**CLUSTERING)}, LABELLED, MODELS)["clustering"]
    assert run.models == ("a", "b")
    named = resolve_tasks({"clustering": TaskRun(**CLUSTERING, models=("b",))}, LABELLED, MODELS)["clustering"]
    assert named.models == ("b",)
    with pytest.raises(ConfigError, match=r"tasks.clustering.models: unknown model 'c'"):
        resolve_tasks({"clustering": TaskRun(**CLUSTERING, models=("c",))}, LABELLED, MODELS)


def test_an_ablation_names_rows_that_the_task_judges():
    steps = {"steps": ["pca", "pcb"]}
    run = TaskRun(protocols=("random_split",), params={"label": "t"}, ablation=steps)
    models = resolve_models({"pca": ModelRun(model="pca"), "plain": ModelRun(model="pca")})
    with pytest.raises(ConfigError, match=r"tasks\.annotation\.ablation: .*'pcb'.*did you mean pca"):
        resolve_tasks({"annotation": run}, LABELLED, models)


def test_a_model_that_cannot_serve_the_task_is_refused_when_named_and_left_out_otherwise():
    models = {**MODELS, "p": replace(MODELS["a"], serves=frozenset(["prediction"]))}
    assert resolve_tasks({"clustering": TaskRun(**CLUSTERING)}, LABELLED, models)["clustering"].models == ("a", "b")
    with pytest.raises(ConfigError, match="p gives prediction, the task judges embedding; leave it out"):
        resolve_tasks({"clustering": TaskRun(**CLUSTERING, models=("p",))}, LABELLED, models)


def test_a_model_that_reads_what_the_task_asks_for_is_refused_also_through_another(monkeypatch):
    monkeypatch.setattr("mistline.tasks.clustering.REFUSES", frozenset(["genes"]), raising=False)
    assert resolve_tasks({"clustering": TaskRun(**CLUSTERING)}, LABELLED, MODELS)["clustering"].models == ("b",)
    with pytest.raises(ConfigError, match="a reads genes, which the task asks for; leave it out"):
        resolve_tasks({"clustering": TaskRun(**CLUSTERING, models=("a",))}, LABELLED, MODELS)
    models = {**MODELS, "c": replace(MODELS["b"], upstream=("a",))}
    with pytest.raises(ConfigError, match="c reads genes"):
        resolve_tasks({"clustering": TaskRun(**CLUSTERING, models=("c",))}, LABELLED, models)


def test_a_model_that_was_trained_on_labels_is_judged_by_held_out_donors_alone():
    heads = {"size": "tiny", "class_heads": ["cell_type"]}
    models = resolve_models({"pca": ModelRun(model="pca"), "s": ModelRun(model="spatia", params=heads)})
    annotation = {"params": {"label": "cell_type"}, "models": ("pca", "s")}
    held_out = TaskRun(protocols=("external_query",), **annotation)
    assert resolve_tasks({"annotation": held_out}, LABELLED, models)["annotation"].models == ("pca", "s")
    for protocols, params in ((("random_split",), {}), (("external_query",), {"query": ["s"]})):
        run = TaskRun(protocols=protocols, models=("s",), params={"label": "cell_type", **params})
        with pytest.raises(ConfigError, match=f"s was trained on labels, and protocol {protocols[0]} tests cells"):
            resolve_tasks({"annotation": run}, LABELLED, models)
    run = TaskRun(**CLUSTERING)
    assert resolve_tasks({"clustering": run}, LABELLED, models)["clustering"].models == ("pca",)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"autoencoder": "p"}, "unknown run that gives latents of images 'p'; choose one of v"),
        ({"condition": "v"}, "unknown run that gives embeddings 'v'; choose one of p, s"),
        ({"condition": "p"}, "its condition p is a run of pca, which has no levels to read apart"),
    ],
)
def test_a_generator_names_a_spatia_and_a_vae(change, sentence):
    runs = {"p": "pca", "s": "spatia", "v": "vae"}
    models = {name: ModelRun(model=model) for name, model in runs.items()}
    generator = ModelRun(model="diffusion", params={"condition": "s", "autoencoder": "v", **change})
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        resolve_models({**models, "g": generator})


@pytest.mark.parametrize("start", ["p", "cell", "n"])
def test_a_niche_model_begins_with_a_run_of_gest(start):
    models = {"p": ModelRun(model="pca"), "cells": ModelRun(model="gest")}
    given = resolve_models({**models, "n": ModelRun(model="niche", params={"start": "cells"})})
    assert given["n"].serves == {"prediction"}
    with pytest.raises(ConfigError, match=rf"models.n.params.start: unknown run of gest '{start}'.*\bcells\b"):
        resolve_models({**models, "n": ModelRun(model="niche", params={"start": start})})


def test_more_test_cells_than_are_encoded_are_refused():
    models = resolve_models(
        {
            **{name: ModelRun(model=name) for name in ("spatia", "vae")},
            "g": ModelRun(model="diffusion", params={"condition": "spatia", "autoencoder": "vae"}),
        }
    )
    run = TaskRun(protocols=("gene2img",), params={"n_cells": 300})
    tasks = resolve_tasks({"generation": run}, LABELLED, models)
    assert tasks["generation"].models == ("g",)
    check_encoded(300, tasks)
    with pytest.raises(ConfigError, match="300 test cells a slide are asked for, and 299 are encoded"):
        check_encoded(299, tasks)


def test_a_model_of_images_is_refused_where_there_are_none():
    with pytest.raises(ConfigError, match="reads images"):
        resolve_models({"b": ModelRun(model="image")}, has_images=False)


def test_the_name_of_the_controls_is_taken():
    with pytest.raises(ConfigError, match="taken by the controls"):
        resolve_models({"controls": ModelRun(model="pca")})


def test_resolving_imports_nothing_heavy():
    code = (
        "import sys; from mistline.workflow.registry import *; from mistline.config.slides import Slide;"
        f"models = resolve_models({{'a': ModelRun(model='pca'), 'b': ModelRun(model='image')}});"
        f"resolve_tasks({{'clustering': TaskRun(**{CLUSTERING!r})}}, (Slide(**{SLIDE!r}, labels='x'),), models);"
        "print(sorted({'torch', 'sklearn', 'pandas', 'anndata', 'scipy', 'igraph'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("stage", ["train", "embed"])
def test_another_model_or_a_new_line_of_the_registry_reruns_nothing(stage):
    modules = resolve_models({"a": ModelRun(model="pca")})["a"].modules
    seen = reachable(f"mistline.stages.{stage}", *modules)
    assert "mistline.models.moments" in seen
    assert not {"mistline.models", "mistline.tasks"} & seen
    assert not any(module.startswith("mistline.models.image") for module in seen)


def test_a_task_reaches_what_it_imports_late():
    (module,) = resolve_tasks({"clustering": TaskRun(**CLUSTERING)}, LABELLED, MODELS)["clustering"].modules
    seen = reachable("mistline.stages.evaluate", module)
    assert seen >= {
        "mistline.tasks.leiden",
        "mistline.tasks.agreement",
        "mistline.tasks.controls",
        "mistline.tasks.stats",
    }
    assert "mistline.tasks" not in seen


def test_a_protocol_without_labels_judges_embeddings_only():
    models = {**MODELS, "p": replace(MODELS["a"], serves=frozenset(["prediction"]))}
    run = TaskRun(protocols=("unsupervised", "random_spot"), params={"label": "x"})
    task = resolve_tasks({"domains": run}, LABELLED, models)["domains"]
    assert task.judged("random_spot") == ("a", "b", "p")
    assert task.judged("unsupervised") == ("a", "b")


def test_viewers_get_every_embedding_of_the_first_seed_or_those_asked_for():
    models = MODELS | resolve_models({"c": ModelRun(model="fusion", params={"preset": "gat_only"})})
    assert shown_runs(Viewer(), (3, 4), models) == (("a", 3), ("b", 3))
    assert shown_runs(Viewer(models=("b",), seeds=(4, 3)), (3, 4), models) == (("b", 4), ("b", 3))
    assert shown_runs(Viewer(models=()), (3, 4), models) == ()
    with pytest.raises(ConfigError, match=r"viewer.models: c gives no embedding"):
        shown_runs(Viewer(models=("c",)), (3, 4), models)


GENE_RUNS = {"near": ModelRun(model="spage"), "a": ModelRun(model="pca")}
GENE_RUNS["far"] = ModelRun(model="peer", params={"method": "tangram"})


@pytest.mark.parametrize(
    ("imputation", "slides", "sentence"),
    [
        ({"reference": "r.h5ad", "models": ["near"]}, ["s"], None),
        ({}, [], "imputation.reference: the task imputation needs single cells, and none are given; set it to an h5ad"),
        ({"reference": "r", "models": ["nea"]}, [], "unknown run that imputes genes 'nea'; did you mean near"),
        ({"reference": "r", "models": ["a"]}, [], "imputation.models: a gives embedding, and no genes; name runs that"),
        ({"reference": "r", "models": ["far"]}, [], "far is a published method, which is judged and adds no genes"),
        ({"reference": "r"}, ["t"], "tasks.imputation.params.slides: unknown slide 't'; choose one of s"),
    ],
)
def test_what_imputes_genes_and_from_what_is_known_before_anything_runs(imputation, slides, sentence):
    models = resolve_models(GENE_RUNS)
    task = TaskRun(protocols=("gene_folds",), params={"slides": slides})
    tasks = resolve_tasks({"imputation": task}, LABELLED, models)
    assert tasks["imputation"].models == ("near", "far")
    given = (Imputation(**imputation), GENE_RUNS, models, tasks, LABELLED, LABELLED)
    if sentence is None:
        check_imputation(*given)
        check_imputation(Imputation(), GENE_RUNS, models, {}, LABELLED, LABELLED)
        return
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        check_imputation(*given)


def test_a_restricted_run_judges_genes_of_its_own_slides():
    models, imputation = resolve_models(GENE_RUNS), Imputation(reference="r")
    task = TaskRun(protocols=("gene_folds",), params={"slides": ["s"]})
    tasks = resolve_tasks({"imputation": task}, LABELLED, models)
    with pytest.raises(ConfigError, match=r"restricted to slides that are none of s; name a slide of the run"):
        check_imputation(imputation, GENE_RUNS, models, tasks, LABELLED, [])


def test_models_that_add_genes_need_single_cells():
    with pytest.raises(ConfigError, match=r"imputation.models need single cells"):
        check_imputation(Imputation(models=("near",)), GENE_RUNS, resolve_models(GENE_RUNS), {}, LABELLED, LABELLED)
