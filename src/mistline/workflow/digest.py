"""Digest of a stage's own code, so that a library edit reruns what uses it and nothing else.

The stage's module and every first-party module it imports, directly or not, are parsed (never imported);
comments and docstrings do not count. Each module's digest is that of its syntax tree. A folder `templates`
beside a module belongs to every module of that room.
"""

from __future__ import annotations

import ast
import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def code_digest(stage: str, *extra: str) -> str:
    """Return the digest of `mistline.stages.<stage>` and of all it imports from this package.

    Args:
        stage: a stage's name, such as `cut_crops`.
        extra: modules that are chosen by name at run time, such as `mistline.models.pca`.
    """
    digest = hashlib.sha256()
    modules = sorted(reachable(f"mistline.stages.{stage}", *extra))
    for module in modules:
        digest.update(f"{module}:{_read(module)[1]}\n".encode())
    for template in sorted({path for module in modules for path in _templates(module)}):
        digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def reachable(*modules: str) -> set[str]:
    """Return the first-party modules that `modules` import, themselves included."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen and _file(module) is not None:
            seen.add(module)
            waiting.extend(_read(module)[0])
    return seen


@cache
def _file(module: str) -> Path | None:
    parts = module.split(".")[1:]
    for candidate in (PACKAGE.joinpath(*parts).with_suffix(".py"), PACKAGE.joinpath(*parts, "__init__.py")):
        if candidate.is_file():
            return candidate
    return None


@cache
def _templates(module: str) -> tuple[Path, ...]:
    path = _file(module)
    return tuple(item for item in (path.parent / "templates").rglob("*") if item.is_file()) if path else ()


@cache
def _read(module: str) -> tuple[tuple[str, ...], str]:
    """Return the first-party names that a module imports, and its digest."""
    path = _file(module)
    assert path is not None
    with _uncollected():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names: list[str] = []
        for node in _statements(tree):
            names += _imported_names(node)
            if (
                isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and ast.get_docstring(node, clean=False) is not None
            ):
                node.body = node.body[1:] or [ast.Pass()]
        told: list[str] = []
        _tell(tree, told)
    own = tuple(name for name in names if name.split(".")[0] == "mistline")
    return own, hashlib.sha256("".join(told).encode()).hexdigest()


def _tell(node: Any, told: list[str]) -> None:
    """Append a syntax tree as text, without empty fields: each version of Python adds some, and code stays the same."""
    if isinstance(node, ast.AST):
        told.append(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != []:
                told.append(f" {name}=")
                _tell(value, told)
        told.append(")")
    elif isinstance(node, list):
        told.append("[")
        for item in node:
            _tell(item, told)
        told.append("]")
    else:
        told.append(f"{node!r},")


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the module and every statement in it: imports and docstrings lie in no expression."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for room in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, room, ()))


def _imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave garbage be for a while: a tree's many objects would set off collections that take most of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
