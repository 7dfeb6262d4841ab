"""A trained generator of cells, as the stages that fill places load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.store.embeddings import Origin
from mistline.train.checkpoint import load
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules

_ASKED = ("tell", "entered", "cells_of", "expression", "window_um")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that fills places.

    Args:
        model: a `fill.Filler` with `cells_of`.
        registry_name: of the model.
        origin: of what it makes.
    """

    model: Any
    registry_name: str
    origin: Origin

    def code(self, stage: str) -> str:
        """Return the digest of a stage's and the model's code."""
        return code_digest(stage, *folder_modules(find("models", self.registry_name, self.origin.model)))


def load_filler(config: Path, version: str) -> Loaded:
    """Load a generator of cells.

    Args:
        config: its config.json; its weights lie beside it.
        version: of the dataset whose places it is to fill.

    Raises:
        InputError: it was trained on another dataset, or is a model that cannot fill places.
    """
    found = load(config)
    identity = found.identity
    if identity.dataset_version != version:
        what = f"trained on dataset version {identity.dataset_version[:12]}, this one is {version[:12]}"
        raise InputError(config, what, "run train again")
    if not all(hasattr(found.model, name) for name in _ASKED):
        what = f"a {identity.registry_name}, which cannot fill unseen places"
        raise InputError(config, what, "give a run of a generator of cells, such as gest")
    origin = Origin(identity.name, identity.seed, found.weights_sha256, version)
    return Loaded(found.model, identity.registry_name, origin)
