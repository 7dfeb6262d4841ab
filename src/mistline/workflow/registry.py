"""From names in the configuration to registered models and tasks, with their settings checked.

Used while the Snakefile is parsed, so it imports no model and no task but the ones the configuration names,
and of a model only its torch-free `params`. Registries are looked up by import string: a stage that uses this
module does not depend on the registries' text, so a new line there reruns nothing.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from mistline.config.base import validate
from mistline.config.imputation import Imputation
from mistline.config.models import ModelRun
from mistline.config.slides import Slide
from mistline.config.tasks import TaskRun
from mistline.config.viewer import Viewer
from mistline.core.errors import ConfigError

CONTROLS = "controls"

EMBEDDING, PREDICTION, LATENTS, IMAGES, CELLS = "embedding", "prediction", "latents", "images", "cells"
GENES = "genes"
LABELS = "labels"  # what an embedding reads that was trained on labels of the dataset's training split
_SERVES = frozenset([EMBEDDING])
_READS = frozenset(["genes"])


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model's run whose name and settings are known to be right.

    Args:
        params: the settings, defaults filled in.
        modules: what `code_digest` must look at beside the stage.
        serves: what tasks can judge: its embedding, predictions that it is trained for task by task, images, cells
            at places where none were measured, or genes that were not; or the latents that generators of images work
            on.
        reads: what it needs of a dataset: genes, image, coordinates.
        upstream: other runs whose embeddings it reads.
    """

    params: BaseModel
    modules: tuple[str, ...]
    serves: frozenset[str]
    reads: frozenset[str]
    upstream: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResolvedTask:
    """A task's run whose name and settings are known to be right.

    Args:
        params: the settings, defaults filled in.
        modules: what `code_digest` must look at beside the stage.
        judges: what of a model it judges.
        models: names of the runs it judges.
        embedders: those of them that give an embedding.
        without_labels: protocols in which nothing is trained on labels, so that only embeddings can be judged.
        has_folds: whether it divides the cells itself, instead of taking the dataset's splits.
    """

    params: BaseModel
    modules: tuple[str, ...]
    judges: frozenset[str]
    models: tuple[str, ...]
    embedders: tuple[str, ...]
    without_labels: frozenset[str]
    has_folds: bool

    def judged(self, protocol: str) -> tuple[str, ...]:
        """Return the names of the runs that one protocol judges."""
        return self.embedders if protocol in self.without_labels else self.models


def resolve_models(runs: Mapping[str, ModelRun], has_images: bool = True) -> dict[str, ResolvedModel]:
    """Check the `models` section.

    Args:
        runs: name of a run -> registered model and settings.
        has_images: whether the slides of the run have images.

    Raises:
        ConfigError: an unknown model (names the nearest), a setting its Params refuses, a name that is taken, a
            model that needs images or files where there are none, an upstream run that gives no embedding, or one
            of another kind than the model begins with.
    """
    found = {}
    for name, run in runs.items():
        if name == CONTROLS:
            raise ConfigError(f"models.{name}", "this name is taken by the controls", "choose another")
        package = find("models", run.model, f"models.{name}.model")
        params = importlib.import_module(f"{package}.params").Params
        settings = validate(params, run.params, f"models.{name}.params")
        absent = [path for path in (settings.files() if hasattr(settings, "files") else ()) if not os.path.isfile(path)]
        if absent:
            how = settings.how() if hasattr(settings, "how") else ""
            remedy = f"correct the path; none is fetched{': ' + how if how else ''}"
            raise ConfigError(f"models.{name}.params: {absent[0]}", "no such file", remedy)
        found[name] = ResolvedModel(settings, folder_modules(package), *_offers(settings))
        if "image" in found[name].reads and not has_images:
            what = f"the model {run.model} reads images, and the slides of this run are tables without any"
            raise ConfigError(f"models.{name}", what, "leave this model out")
    for name, model in found.items():
        for other in model.upstream:
            _require(found, name, other, EMBEDDING)
        if IMAGES in model.serves:
            _check_generator(found, runs, name)
        if runs[name].model == "niche":
            _check_niche(found, runs, name)
    return found


def _require(found: Mapping[str, ResolvedModel], name: str, other: str, what: str) -> None:
    """Refuse a run that names another one which does not give what it is named for."""
    if other not in found or what not in found[other].serves:
        given = [run for run, item in found.items() if what in item.serves]
        plural = {EMBEDDING: "embeddings", LATENTS: "latents of images"}[what]
        raise unknown(f"models.{name}.params", f"run that gives {plural}", other, dict.fromkeys(given))


def _check_generator(found: Mapping[str, ResolvedModel], runs: Mapping[str, ModelRun], name: str) -> None:
    """Refuse a generator without an autoencoder, or whose condition has no levels to be read apart."""
    params: Any = found[name].params
    _require(found, name, params.autoencoder, LATENTS)
    _require(found, name, params.condition, EMBEDDING)
    model = runs[params.condition].model
    if model != "spatia":
        what = f"its condition {params.condition} is a run of {model}, which has no levels to read apart"
        raise ConfigError(f"models.{name}.params.condition", what, "name a run of spatia")


def _check_niche(found: Mapping[str, ResolvedModel], runs: Mapping[str, ModelRun], name: str) -> None:
    """Refuse a niche model that begins with anything but a run of gest."""
    params: Any = found[name].params
    given = [run for run, item in runs.items() if item.model == "gest"]
    if params.start not in given:
        raise unknown(f"models.{name}.params.start", "run of gest", params.start, dict.fromkeys(given))


def resolve_tasks(
    runs: Mapping[str, TaskRun], slides: Sequence[Slide], models: Mapping[str, ResolvedModel]
) -> dict[str, ResolvedTask]:
    """Check the `tasks` section.

    Args:
        runs: name of a task -> its protocols and settings.
        slides: the slides of the run.
        models: what `resolve_models` returned.

    Raises:
        ConfigError: an unknown task, protocol or model (names the nearest), a setting its Params refuses, a
            model that cannot serve the task, or a task that needs labels where no slide has any.
    """
    found = {}
    for name, run in runs.items():
        module_name = find("tasks", name, f"tasks.{name}")
        task = importlib.import_module(module_name)
        for protocol in run.protocols:
            check_protocol(task, name, protocol)
        if task.NEEDS_LABELS and not any(slide.labels or slide.table for slide in slides):
            raise ConfigError(
                f"tasks.{name}", "needs labels, and no slide of this run has any", "set `labels` of a slide"
            )
        params = validate(task.Params, run.params, f"tasks.{name}.params")
        held_out = task.held_out(params) if hasattr(task, "held_out") else frozenset()
        judged = _judged(name, run, task, models, sorted(set(run.protocols) - held_out))
        for model in run.ablation.names if run.ablation else ():
            if model not in judged:
                raise unknown(f"tasks.{name}.ablation", "model of this task", model, dict.fromkeys(judged))
        embedders = tuple(model for model in judged if EMBEDDING in models[model].serves)
        without = frozenset(getattr(task, "WITHOUT_LABELS", ()))
        # `evaluate` reads images for such a task through a module that it imports for no other.
        modules = (module_name, *(["mistline.train.images"] if IMAGES in task.JUDGES else []))
        found[name] = ResolvedTask(params, modules, task.JUDGES, judged, embedders, without, hasattr(task, "folds"))
    return found


def check_encoded(n_encoded: int, tasks: Mapping[str, ResolvedTask]) -> None:
    """Refuse a task that tests more cells of a slide than are encoded for generators.

    Args:
        n_encoded: test cells of a slide, `generation.encoded.test`.
        tasks: what `resolve_tasks` returned.

    Raises:
        ConfigError: the task `generation` asks for more.
    """
    asked = getattr(tasks["generation"].params, "n_cells", 0) if "generation" in tasks else 0
    if asked > n_encoded:
        what = f"{asked} test cells a slide are asked for, and {n_encoded} are encoded"
        raise ConfigError("tasks.generation.params.n_cells", what, "ask for fewer, or raise generation.encoded.test")


def check_imputation(
    imputation: Imputation,
    runs: Mapping[str, ModelRun],
    models: Mapping[str, ResolvedModel],
    tasks: Mapping[str, ResolvedTask],
    slides: Sequence[Slide],
    active: Sequence[Slide],
) -> None:
    """Refuse imputed genes without single cells to impute them from, or of runs and slides that cannot have them.

    Args:
        imputation: the section.
        runs: the section `models`.
        models: what `resolve_models` returned.
        tasks: what `resolve_tasks` returned.
        slides: the slides of the sheet.
        active: those of the run.

    Raises:
        ConfigError: one of these.
    """
    if imputation.reference is None and (imputation.models or "imputation" in tasks):
        who = "the task imputation needs" if "imputation" in tasks else "imputation.models need"
        raise ConfigError(
            "imputation.reference", f"{who} single cells, and none are given", "set it to an h5ad of them"
        )
    given = [name for name, model in models.items() if GENES in model.serves and runs[name].model != "peer"]
    for name in imputation.models:
        if name not in given:
            raise _adds_no_genes(name, models, given)
    where = "tasks.imputation.params.slides"
    asked: Sequence[str] = ()
    if "imputation" in tasks:
        asked = getattr(tasks["imputation"].params, "slides", ())
    known = dict.fromkeys(entry.slide for entry in slides)
    for slide in asked:
        if slide not in known:
            raise unknown(where, "slide", slide, known)
    if asked and not {entry.slide for entry in active}.intersection(asked):
        what = f"the run is restricted to slides that are none of {', '.join(asked)}"
        raise ConfigError(where, what, "name a slide of the run, or leave the task out")


def _adds_no_genes(name: str, models: Mapping[str, ResolvedModel], given: Sequence[str]) -> ConfigError:
    """Return why a run cannot be one of `imputation.models`; `given` are those that can."""
    where = "imputation.models"
    if name not in models:
        return unknown(where, "run that imputes genes", name, dict.fromkeys(given))
    if GENES not in models[name].serves:
        what = f"{name} gives {_listed(models[name].serves)}, and no genes"
        return ConfigError(where, what, f"name runs that do: {', '.join(given) or 'there is none'}")
    return ConfigError(where, f"{name} is a published method, which is judged and adds no genes", "leave it out")


def shown_runs(
    viewer: Viewer, seeds: Sequence[int], models: Mapping[str, ResolvedModel]
) -> tuple[tuple[str, int], ...]:
    """Return (model, seed) of every embedding that viewers get: of all models that give one, or of those asked for.

    Raises:
        ConfigError: the settings name a model that gives no embedding.
    """
    embedders = [name for name, model in models.items() if EMBEDDING in model.serves]
    asked = embedders if viewer.models is None else viewer.models
    for name in asked:
        if name not in embedders:
            raise ConfigError("viewer.models", f"{name} gives no embedding", "leave it out; maps of the report show it")
    trained = seeds[:1] if viewer.seeds is None else viewer.seeds
    return tuple((model, seed) for model in asked for seed in trained)


def _offers(params: BaseModel) -> tuple[frozenset[str], frozenset[str], tuple[str, ...]]:
    """Return what a model's settings say it serves, reads and builds on; most say nothing and give an embedding."""
    defaults = (("serves", _SERVES), ("reads", _READS), ("upstream", ()))
    return tuple(getattr(params, name)() if hasattr(params, name) else usual for name, usual in defaults)  # type: ignore[return-value]


def _judged(
    name: str, run: TaskRun, task: ModuleType, models: Mapping[str, ResolvedModel], seen: Sequence[str]
) -> tuple[str, ...]:
    """Return the runs that a task judges; in the protocols `seen`, cells of the training split may be tested."""
    reasons = {model: _unfit(model, task, models, seen) for model in models}
    for model in run.models:
        if model not in models:
            raise unknown(f"tasks.{name}.models", "model", model, models)
        if reasons[model]:
            raise ConfigError(f"tasks.{name}.models", reasons[model], "leave it out of this task")
    return run.models or tuple(model for model, reason in reasons.items() if not reason)


def _unfit(name: str, task: ModuleType, models: Mapping[str, ResolvedModel], seen: Sequence[str]) -> str:
    """Return why a task cannot judge a run; empty where it can.

    An embedding that was trained on labels may only be judged where the tested cells are of the dataset's test split.
    """
    model = models[name]
    if not model.serves & task.JUDGES:
        return f"{name} gives {_listed(model.serves)}, the task judges {_listed(task.JUDGES)}"
    given = model.reads.union(*(models[other].reads for other in model.upstream))
    if LABELS in given and seen:
        return f"{name} was trained on labels, and protocol {seen[0]} tests cells that may be among them"
    answers = given & frozenset(getattr(task, "REFUSES", ()))
    return f"{name} reads {_listed(answers)}, which the task asks for" if answers else ""


def _listed(names: frozenset[str]) -> str:
    return " and ".join(sorted(names)) or "nothing"


def find(room: str, name: str, where: str) -> str:
    """Return the import string of a registered model or task.

    Args:
        room: models or tasks.
        name: name in that room's REGISTRY.
        where: the key or option that gave the name.

    Raises:
        ConfigError: unknown; lists the known names and the nearest.
    """
    registry: dict[str, str] = importlib.import_module(f"mistline.{room}").REGISTRY
    if not isinstance(name, str) or name not in registry:
        raise unknown(where, room.removesuffix("s"), name, registry)
    return registry[name]


def check_protocol(task: ModuleType, name: str, protocol: str) -> None:
    """Refuse a protocol that a task does not offer.

    Raises:
        ConfigError: lists the known protocols and the nearest.
    """
    if protocol not in task.PROTOCOLS:
        raise unknown(f"tasks.{name}.protocols", "protocol", protocol, task.PROTOCOLS)


def unknown(where: str, kind: str, name: str, known: Mapping[str, Any]) -> ConfigError:
    """Return the error for a name that is not registered."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    listed = ", ".join(sorted(known))
    remedy = f"did you mean {near[0]}; known are {listed}" if near else f"choose one of {listed}"
    return ConfigError(where, f"unknown {kind} {name!r}", remedy)


def folder_modules(package: str) -> tuple[str, ...]:
    """Return a model's package and every module in its folder, found without importing them."""
    parts = package.split(".")[1:]
    folder = Path(__file__).resolve().parents[1].joinpath(*parts)
    return (package, *sorted(f"{package}.{file.stem}" for file in folder.glob("*.py") if file.stem != "__init__"))
