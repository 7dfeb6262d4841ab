"""Sentences about a file from its provenance: what made it, from what, and whether that still holds."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json
from mistline.core.hashing import hash_file
from mistline.core.provenance import sidecar

_LISTED = 6


@dataclass(frozen=True)
class Origin:
    """A file or folder with a sidecar.

    Attributes:
        path: the output that has the sidecar; the file asked for, or a folder it lies in.
        record: the sidecar's content.
    """

    path: Path
    record: Mapping[str, Any]


def find_origin(path: Path) -> Origin:
    """Return the provenance of a file, or of the folder that was written with it.

    Raises:
        InputError: there is no such file, or nothing is recorded about it.
    """
    if not path.exists():
        raise InputError(path, "no such file", "check the path; `snakemake -n` lists what can be made")
    for candidate in (path, *(folder for folder in path.resolve().parents if folder.name)):
        if sidecar(candidate).is_file():
            return Origin(candidate, read_json(sidecar(candidate)))
    raise InputError(
        path,
        f"no provenance is recorded ({sidecar(path).name} is missing)",
        "ask for a file that a stage of mistline wrote, or make it again with its rule",
    )


def explain(path: Path, origin: Origin, current_codes: Collection[str]) -> str:
    """Tell what made a file, from what, and whether file, inputs and code are as they were then.

    Args:
        path: the file asked for.
        origin: what `find_origin` returned for it.
        current_codes: digests that the stage's code can have today; empty when there is no such stage.
    """
    record = origin.record
    versions = record["versions"]
    part = "" if origin.path == path else f", as part of {origin.path.name},"
    command = record["stage"].replace("_", "-")
    libraries = [f"{name} {number}" for name, number in sorted(versions.items()) if name not in _SAID]
    sentences = [
        f"{path}{part} was made by {command} (mistline {versions['mistline']}, Python {versions['python']}) "
        f"{_from_inputs(origin)}.",
        _settings(record),
        _own_state(origin),
        _code_state(record["code"], current_codes),
        f"Libraries: {', '.join(libraries)}.",
    ]
    return "\n".join(sentences)


_SAID = ("mistline", "python")


def _from_inputs(origin: Origin) -> str:
    inputs = origin.record["inputs"]
    if not inputs:
        return "from no file"
    states = [(name, item["path"], _input_state(origin.path, item)) for name, item in sorted(inputs.items())]
    same = [f"{name} ({path})" for name, path, state in states if state == "unchanged"]
    told = [f"{name} ({path}: {state})" for name, path, state in states if state != "unchanged"]
    parts = []
    if same:
        more = f" and {len(same) - _LISTED} more" if len(same) > _LISTED else ""
        parts.append(f"{', '.join(same[:_LISTED])}{more}, unchanged since")
    return "from " + "; ".join([*parts, *told])


def _input_state(output: Path, item: Mapping[str, Any]) -> str:
    path = _locate(output, Path(item["path"]))
    if path is None:
        return "no longer there"
    if "sha256" in item:
        return "unchanged" if hash_file(path) == item["sha256"] else "changed since"
    if "files" in item:
        n = sum(file.is_file() for file in path.rglob("*"))
        return (
            f"still {n} files, not compared byte by byte"
            if n == item["files"]
            else f"{item['files']} files then, {n} now"
        )
    size = path.stat().st_size
    return "same size, too large to be hashed" if size == item["size"] else "changed since"


def _locate(output: Path, recorded: Path) -> Path | None:
    """Return where an input lies: from here, or from a folder above the output (the run's own directory)."""
    folders = [Path(), *output.resolve().parents]
    return next((folder / recorded for folder in folders if (folder / recorded).exists()), None)


def _settings(record: Mapping[str, Any]) -> str:
    values = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(record["params"].items())
    )
    seed = "no seed" if record["seed"] is None else f"seed {record['seed']}"
    return f"Settings: {values or 'none'}; {seed}."


def _own_state(origin: Origin) -> str:
    if hash_file(origin.path) == origin.record["sha256"]:
        return "It is as it was written."
    return "IT HAS CHANGED SINCE IT WAS WRITTEN: its content does not fit the recorded hash."


def _code_state(recorded: str, current: Collection[str]) -> str:
    if not current:
        return f"Its stage is not part of this version of mistline (code digest {recorded})."
    if recorded in current:
        return f"The code has not changed since (digest {recorded})."
    return f"The code has changed since (digest {recorded} then): its rule would make it again."
