"""From names in the configuration to registered models and tasks, with their settings checked.

Used while the Snakefile is parsed, so it imports no model and no task but the ones the configuration names,
and of a model only its torch-free `params`. Registries are looked up by import string: a stage that uses this
module does not depend on the registries' text, so a new line there reruns nothing.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from mistline.config.base import validate
from mistline.config.models import ModelRun
from mistline.config.slides import Slide
from mistline.config.tasks import TaskRun
from mistline.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Resolved:
    """A run of the configuration whose names and settings are known to be right.

    Args:
        params: the settings, defaults filled in.
        modules: what `code_digest` must look at beside the stage.
    """

    params: BaseModel
    modules: tuple[str, ...]


def resolve_models(runs: Mapping[str, ModelRun]) -> dict[str, Resolved]:
    """Check the `models` section.

    Raises:
        ConfigError: an unknown model (names the nearest), or a setting its Params refuses.
    """
    found = {}
    for name, run in runs.items():
        package = find("models", run.model, f"models.{name}.model")
        params = importlib.import_module(f"{package}.params").Params
        found[name] = Resolved(validate(params, run.params, f"models.{name}.params"), folder_modules(package))
    return found


def resolve_tasks(runs: Mapping[str, TaskRun], slides: Sequence[Slide]) -> dict[str, Resolved]:
    """Check the `tasks` section.

    Args:
        runs: name of a task -> its protocols and settings.
        slides: the slides of the run.

    Raises:
        ConfigError: an unknown task or protocol (names the nearest), a setting its Params refuses, or a task
            that needs labels where no slide has any.
    """
    found = {}
    for name, run in runs.items():
        module_name = find("tasks", name, f"tasks.{name}")
        task = importlib.import_module(module_name)
        for protocol in run.protocols:
            check_protocol(task, name, protocol)
        if task.NEEDS_LABELS and not any(slide.labels for slide in slides):
            raise ConfigError(
                f"tasks.{name}", "needs labels, and no slide of this run has any", "set `labels` of a slide"
            )
        found[name] = Resolved(validate(task.Params, run.params, f"tasks.{name}.params"), (module_name,))
    return found


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
    if name not in registry:
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
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    listed = ", ".join(sorted(known))
    remedy = f"did you mean {near[0]}; known are {listed}" if near else f"choose one of {listed}"
    return ConfigError(where, f"unknown {kind} {name!r}", remedy)


def folder_modules(package: str) -> tuple[str, ...]:
    """Return a model's package and every module in its folder, found without importing them."""
    parts = package.split(".")[1:]
    folder = Path(__file__).resolve().parents[1].joinpath(*parts)
    return (package, *sorted(f"{package}.{file.stem}" for file in folder.glob("*.py") if file.stem != "__init__"))
