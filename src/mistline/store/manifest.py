"""The manifest: what a sealed dataset consists of. Its hash is the version of the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import read_json, write_json
from mistline.core.hashing import hash_json

FORMAT = "mist"
FORMAT_VERSION = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was read and whose version fits its content.

    Attributes:
        path: manifest.json; paths inside are relative to its folder.
        content: the JSON value.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def version(self) -> str:
        """The dataset's version: 64 hexadecimal digits."""
        return str(self.content["version"])

    @property
    def kind(self) -> str:
        """`xenium`: images and records in shards; `tables`: tables of cells or spots without images."""
        return str(self.content.get("kind", "xenium"))

    @property
    def slides(self) -> dict[str, Mapping[str, Any]]:
        """Slide -> its entry, in the order of the sheet."""
        return {entry["slide"]: entry for entry in self.content["slides"]}

    @property
    def scales(self) -> dict[str, Mapping[str, Any]]:
        """Scale -> its entry (name, unit, size_px, records)."""
        return {entry["name"]: entry for entry in self.content["scales"]}

    @property
    def channels(self) -> tuple[str, ...]:
        """The images' channels, by name."""
        return tuple(self.content["channels"])

    def locate(self, relative: str) -> Path:
        """Return where a file named in the manifest lies.

        Raises:
            InputError: it is not there.
        """
        path = self.path.parent / relative
        if not path.exists():
            raise InputError(path, "the manifest names it, but it is not there", "run seal_dataset again")
        return path


def version_of(content: Mapping[str, Any]) -> str:
    """Return the hash of a manifest's content, its own `version` aside."""
    return hash_json({key: value for key, value in content.items() if key != "version"})


def write_manifest(path: Path, content: Mapping[str, Any]) -> str:
    """Write a manifest with its format and version; return the version."""
    described = {**content, "format": FORMAT, "format_version": FORMAT_VERSION}
    version = version_of(described)
    write_json(path, {**described, "version": version})
    return version


def read_manifest(path: Path) -> Manifest:
    """Read manifest.json, given itself, its folder or the folder above (`results`).

    Raises:
        InputError: there is none, it is of another format, or its content does not fit its version.
    """
    found = _find(Path(path))
    content = read_json(found)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(found, "not the manifest of a dataset", "give the manifest.json that seal_dataset wrote")
    if content.get("format_version") != FORMAT_VERSION:
        what = f"format {content.get('format_version')}, this program reads format {FORMAT_VERSION}"
        raise InputError(found, what, "run seal_dataset again")
    try:
        is_sealed = content.get("version") == version_of(content)
    except ValueError:  # NaN, which no manifest was written with
        is_sealed = False
    if not is_sealed:
        raise InputError(found, "its content was changed after it was sealed", "run seal_dataset again")
    return Manifest(found, content)


def _find(path: Path) -> Path:
    candidates = [path / FILE_NAME, path / "dataset" / FILE_NAME] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(path, f"no {FILE_NAME} here", "run seal_dataset, or give the folder that holds it")
