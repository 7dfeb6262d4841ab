"""Settings of a published method that is run in an environment of its own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator, model_validator

from mistline.config.base import Section

Option = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Method:
    """What is known of a method before it is installed.

    Args:
        serves: embedding, prediction or genes.
        reads: what it needs of a dataset.
        options: its own settings and their values where the configuration says nothing: those of its authors.
        max_cells: of a slide, above which it is not run; None for no such limit.
        why_max: what the limit comes from.
        files: settings that name the files it needs; nothing is downloaded.
        how: where they are had.
    """

    serves: str
    reads: frozenset[str]
    options: Mapping[str, Option]
    max_cells: int | None = None
    why_max: str = ""
    files: tuple[str, ...] = ()
    how: str = ""


_DENSE = "it holds matrices of all pairs of cells"
_DRAWN = 5000  # single cells; each of their pairs, or pairs with a slide's cells, is a number that is held

METHODS = {
    "celltypist": Method("prediction", frozenset(["genes"]), {"C": 1.0, "max_iter": 1000, "use_SGD": False}),
    "scanvi": Method(
        "prediction",
        frozenset(["genes"]),
        {"latent": 10, "layers": 1, "likelihood": "zinb", "epochs": 0, "label_epochs": 0},
    ),
    "graphst": Method(
        "embedding",
        frozenset(["genes", "coordinates"]),
        {"epochs": 600, "datatype": "10X", "components": 20},
        20_000,
        _DENSE,
    ),
    "banksy": Method(
        "embedding",
        frozenset(["genes", "coordinates"]),
        {"lambda": 0.8, "neighbours": 15, "components": 20},
    ),
    "cellplm": Method(
        "embedding",
        frozenset(["genes"]),
        {"batch_size": 0},
        files=("weights", "config"),
        how="of the folder that the README of github.com/OmicsML/CellPLM links, fetch 20231027_85M.best.ckpt as weights"
        " and 20231027_85M.config.json as config by hand, and set weights_sha256 and config_sha256 to their sha256",
    ),
    "tangram": Method(
        "genes",
        frozenset(["genes"]),
        {"epochs": 1000, "learning_rate": 0.1, "density": "rna_count_based", "reference_cells": _DRAWN},
        50_000,
        "it holds a number for every cell and single cell",
    ),
    "gimvi": Method("genes", frozenset(["genes"]), {"epochs": 200, "latent": 10, "batch_size": 128}),
    "novosparc": Method(
        "genes",
        frozenset(["genes", "coordinates"]),
        {"alpha": 0.8, "epsilon": 5e-3, "neighbours": 5, "reference_cells": _DRAWN},
        20_000,
        _DENSE,
    ),
}


_FILES = ("weights", "config")
_SHA256 = r"^[0-9a-f]{64}$"


class Params(Section):
    """A published method and its own settings."""

    method: str = Field(description=f"one of {', '.join(sorted(METHODS))}")
    options: dict[str, Option] = Field(
        default_factory=dict, validate_default=True, description="the method's own settings; see README.md beside this"
    )
    weights: str | None = Field(None, min_length=1, description="on disk, for a method that comes trained")
    weights_sha256: str | None = Field(None, pattern=_SHA256, description="of that file")
    config: str | None = Field(None, min_length=1, description="what its authors published beside the weights (json)")
    config_sha256: str | None = Field(None, pattern=_SHA256, description="of that file")
    max_minutes: float = Field(600, gt=0, description="for one run of the method; then it counts as not run")

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, value: str) -> str:
        if value not in METHODS:
            raise ValueError(_unknown("method", value, METHODS))
        return value

    @model_validator(mode="after")
    def _options_are_the_methods(self) -> Params:
        known = METHODS[self.method].options
        for name, value in self.options.items():
            if name not in known:
                raise ValueError(f"options: {_unknown('option', name, known)}")
            if not _fits(value, known[name]):
                wanted = type(known[name]).__name__
                raise ValueError(f"options.{name}: {value!r} is not a {wanted}, as {known[name]!r} is")
        return self

    @model_validator(mode="after")
    def _files_are_named(self) -> Params:
        method = METHODS[self.method]
        for key in _FILES:
            path, sha256 = getattr(self, key), getattr(self, f"{key}_sha256")
            if (path is None) != (sha256 is None):
                raise ValueError(f"{key} and {key}_sha256 belong together")
            if key in method.files and path is None:
                raise ValueError(f"{self.method} needs {key}, and none is fetched: {method.how}")
            if key not in method.files and path is not None:
                raise ValueError(f"{self.method} reads no {key}: leave it out")
        return self

    @property
    def settings(self) -> dict[str, Option]:
        """The method's settings, the authors' where none are given."""
        return {**METHODS[self.method].options, **self.options}

    def files(self) -> tuple[str, ...]:
        """Return the files that must be there before a run starts."""
        return tuple(str(getattr(self, key)) for key in METHODS[self.method].files)

    def how(self) -> str:
        """Say how a file that is not there is had; empty where the method needs none."""
        return METHODS[self.method].how

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge."""
        return frozenset([METHODS[self.method].serves])

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        return METHODS[self.method].reads


def _fits(value: Option, usual: Option) -> bool:
    if isinstance(usual, bool) or isinstance(value, bool):
        return isinstance(usual, bool) and isinstance(value, bool)
    if isinstance(usual, float):
        return isinstance(value, int | float)
    return isinstance(value, type(usual))


def _unknown(kind: str, name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    listed = ", ".join(sorted(known))
    return f"unknown {kind} {name!r}; " + (
        f"did you mean {near[0]}; known are {listed}" if near else f"known: {listed}"
    )
