"""Digest of a stage's own code, so that a library edit reruns what uses it and nothing else.

The stage's module and every first-party module it imports, directly or not, are parsed (never imported);
comments and docstrings do not count. Each module's digest is that of its syntax tree. A folder `templates`
beside a module belongs to every module of that room.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def code_digest(stage: str, *extra: str) -> str:
    """Return the digest of `mistline.stages.<stage>` and of all it imports from this package.

    Args:
        stage: a stage's name, such as `cut_crops`.
        extra: modules that are chosen by name at run time, such as `mistline.models.pca`.
    """
    digest = hashlib.sha256()
    modules = sorted(reachable(f"mistline.stages.{stage}", *extra))
    for module in modules:
        digest.update(f"{module}:{_module_digest(module)}\n".encode())
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
            waiting.extend(_imports(module))
    return seen


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
def _tree(module: str) -> ast.Module:
    path = _file(module)
    assert path is not None
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(name for name in _imported_names(_tree(module)) if name.split(".")[0] == "mistline")


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _module_digest(module: str) -> str:
    tree = _tree(module)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
