"""What of a dataset is read: the arguments of `open_dataset`, checked against what the dataset has."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mistline.core.errors import ConfigError, InputError
from mistline.data.staging import Stored
from mistline.data.tables import SPLITS
from mistline.store.manifest import Manifest

Split = Literal["train", "val", "test", "gap"]
ImageSize = int | Literal["native"] | None
GeneForm = Literal["sparse", "dense"] | None
Images = Literal["morphology", "he"]

_RUN_BYTES = 2**20  # of `block="auto"`: long enough that finding a run costs little beside reading it
HE_CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class View:
    """Which records, and what of each; see `open_dataset`.

    Args:
        context: views of the scales around each record; theirs is empty.
    """

    scale: str = "cell"
    split: Split | None = None
    image_size: ImageSize = "native"
    genes: GeneForm = "sparse"
    slides: tuple[str, ...] | None = None
    images: Images = "morphology"
    context: tuple[View, ...] = ()
    scratch: Path | None = None

    def channels(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the names of the image's channels."""
        return HE_CHANNELS if self.images == "he" else manifest.channels

    def shards(self, manifest: Manifest, slide: str) -> dict[str, Stored]:
        """Return the shard folders of a slide by what they are read for, images or genes; one may serve both."""
        entry = manifest.slides[slide]
        plain = entry["scales"][self.scale]
        found = {}
        if self.image_size is not None:
            of_images = plain if self.images == "morphology" else entry["he"]["scales"][self.scale]
            found["images"] = _stored(manifest, of_images)
        if self.genes is not None:
            found["genes"] = _stored(manifest, plain)
        return found

    def folders(self, manifest: Manifest) -> list[Stored]:
        """Return every shard folder that is read, those of `context` too, each once."""
        found = {}
        for part in (self, *self.context):
            for slide in self.slides or manifest.slides:
                found |= {folder.path: folder for folder in part.shards(manifest, slide).values()}
        return list(found.values())

    def run_length(self, manifest: Manifest) -> int:
        """Return how many records have about 1 MiB; of the dataset alone, so that an order is the same everywhere."""
        here = [manifest.slides[slide]["scales"][self.scale] for slide in self.slides or manifest.slides]
        n_bytes = sum(_stored(manifest, entry).n_bytes for entry in here)
        return max(1, round(_RUN_BYTES * sum(entry["records"] for entry in here) / max(n_bytes, 1)))


def of_scale(
    argument: str, value: ImageSize | GeneForm | Mapping[str, ImageSize] | Mapping[str, GeneForm], scale: str
) -> ImageSize | GeneForm:
    """Return what an argument says of one scale: a mapping has an entry for each, anything else is for all.

    Raises:
        ConfigError: the mapping leaves the scale out.
    """
    if not isinstance(value, Mapping):
        return value
    if scale not in value:
        raise ConfigError(f"open_dataset: {argument}", f"nothing is said of scale {scale}", f"add {scale!r} to it")
    return value[scale]


def check(manifest: Manifest, view: View) -> None:
    """Refuse arguments that name what the dataset does not have.

    Raises:
        ConfigError: names the argument and the nearest known value.
        InputError: a dataset of tables.
    """
    if manifest.kind != "xenium":
        patches = any("patches" in entry for entry in manifest.slides.values())
        held = "patches, but no" if patches else "no"
        what = f"a dataset of {manifest.kind}, which has {held} records with images and genes"
        raise InputError(manifest.path, what, "open the slides' files instead, as the dataset card shows")
    _check_known("scale", [view.scale], list(manifest.scales))
    _check_known("slides", view.slides or (), list(manifest.slides))
    _check_known("split", () if view.split is None else [view.split], list(SPLITS))
    _check_known("genes", () if view.genes is None else [view.genes], ["sparse", "dense"])
    _check_known("images", [view.images], ["morphology", "he"])
    size = view.image_size
    if view.slides == ():
        raise ConfigError("open_dataset: slides", "no slide is named", "name one, or give None for all")
    if not (size is None or size == "native" or (isinstance(size, int) and size > 0)):
        raise ConfigError("open_dataset: image_size", f"{size!r} is no size", "give pixels, 'native' or None")
    for slide in view.slides or manifest.slides:
        if view.images == "he" and "he" not in manifest.slides[slide]:
            what = f"slide {slide} has no H&E image"
            raise ConfigError("open_dataset: images", what, "choose slides that have one, or images='morphology'")
    for around in view.context:
        _check_known("context", [around.scale], list(manifest.scales))
        check(manifest, around)


def _check_known(argument: str, values: Sequence[str], known: list[str]) -> None:
    for value in values:
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            remedy = f"did you mean {near[0]}" if near else f"choose from {', '.join(known)}"
            raise ConfigError(f"open_dataset: {argument}", f"unknown {value!r}", remedy)


def _stored(manifest: Manifest, entry: Mapping[str, Any]) -> Stored:
    return Stored(manifest.locate(entry["shards"]["path"]), entry["shards"]["files"])
