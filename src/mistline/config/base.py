"""The parent of every section, and the way from pydantic's errors to one sentence."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mistline.core.errors import ConfigError

S = TypeVar("S", bound=BaseModel)


class Section(BaseModel):
    """A strict, immutable group of settings: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def load_section(section: type[S], text: str, where: str) -> S:
    """Check the JSON a stage received through `--params`.

    Raises:
        ConfigError: as for `validate`.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, a number without end, nested without end
        raise ConfigError(where, f"not valid JSON ({error})", "pass the section as one JSON object") from None
    return validate(section, values, where)


def validate(section: type[S], values: Mapping[str, Any], where: str) -> S:
    """Check a mapping.

    Raises:
        ConfigError: a key is unknown or missing, or a value is wrong; names the nearest known key.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise _explain(section, error, where) from None


def _explain(section: type[BaseModel], error: ValidationError, where: str) -> ConfigError:
    """Turn the first problem into where, what and remedy."""
    problems = error.errors()
    problem = next(
        (item for item in problems if item["type"] == "extra_forbidden"), problems[0]
    )  # a typo also leaves its key missing
    path = [str(part) for part in problem["loc"]]
    place = ".".join([where, *path])
    if problem["type"] == "extra_forbidden":
        known = sorted(_fields_at(section, problem["loc"][:-1]))
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}" if near else f"remove it; known keys are {', '.join(known)}"
        return ConfigError(place, "unknown key", remedy)
    if problem["type"] == "missing":
        return ConfigError(place, "this key is required", "set it")
    given = problem["input"]
    message, remedy = _plain(problem["type"], given)
    message = message or problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(given, dict | BaseModel) else f", not {given!r}"
    return ConfigError(place, message[0].lower() + message[1:] + shown, remedy)


def _plain(kind: str, given: Any) -> tuple[str, str]:
    """Return a message in words of YAML, empty where the library's will do, and what to do about it."""
    if kind == "string_type" and isinstance(given, int | float) and not isinstance(given, bool):
        return "text is needed", f"put it in quotes: '{given}'"
    if kind in ("tuple_type", "list_type") and isinstance(given, str | int | float):
        return "a list is needed", f"put it in brackets: [{given}]"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "keys with values are needed", "indent them below it, or remove it"
    return "", "correct the value"


def _fields_at(section: Any, path: tuple[int | str, ...]) -> list[str]:
    """Return the keys known at `path` below `section`, walking through lists, mappings and unions."""
    for step in (None, *path):
        if isinstance(step, str) and isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[step].annotation if step in section.model_fields else section
        section = _inner_model(section) or section
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def _inner_model(annotation: Any) -> Any:
    for argument in typing.get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None
