"""What is generated from the models: the JSON schema for editors and the README's table of parameters."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mistline.config.root import Config


def schema_json() -> str:
    """Return the JSON schema of config.yaml, where `slides` may also be a sheet's path and `only` a string."""
    schema = Config.model_json_schema()
    schema["properties"]["slides"] = {"anyOf": [{"type": "string"}, schema["properties"]["slides"]]}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def parameter_table() -> str:
    """Return a Markdown table of every key with its default and meaning."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    rows += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _rows(Config, "")]
    return "\n".join(rows) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None and field.description is None:
            yield from _rows(inner, f"{prefix}{name}{_suffix(field.annotation)}.")
        else:
            yield f"{prefix}{name}", _default(field), (field.description or "").replace("|", "\\|")
            if inner is not None:
                yield from _rows(inner, f"{prefix}{name}{_suffix(field.annotation)}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *typing.get_args(annotation)]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)


def _suffix(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    return "[]" if origin is tuple else ".NAME" if origin is dict else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or isinstance(field.default, types.FunctionType):
        return ""
    if field.default is None:
        return "none"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{json.dumps(value)}`"
