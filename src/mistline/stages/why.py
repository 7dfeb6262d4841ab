"""Command why: tell what made a file, from what, and whether that still holds."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from mistline.core.explain import explain, find_origin
from mistline.workflow.digest import PACKAGE, code_digest
from mistline.workflow.registry import folder_modules


def run(file: Annotated[Path, typer.Argument(help="a file or folder that a stage wrote")]) -> None:
    """Tell what made a file."""
    origin = find_origin(file)
    typer.echo(explain(file, origin, _current_codes(origin.record["stage"])))


def _current_codes(stage: str) -> set[str]:
    """Return the digests that a stage's outputs can carry today.

    Some stages load a model or task, or start a script, by name: its code counts too; which, the digest itself tells.
    """
    if not (PACKAGE / "stages" / f"{stage}.py").is_file():
        return set()
    extras: list[tuple[str, ...]] = [()]
    extras += [folder_modules(package) for package in importlib.import_module("mistline.models").REGISTRY.values()]
    extras += [(module,) for module in importlib.import_module("mistline.tasks").REGISTRY.values()]
    extras += [(f"mistline.tasks.peers.{script.stem}",) for script in (PACKAGE / "tasks/peers").glob("run_*.py")]
    return {code_digest(stage, *modules) for modules in extras}
