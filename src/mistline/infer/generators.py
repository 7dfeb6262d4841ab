"""A trained generator opened with what belongs to it: its autoencoder, and the encoded cells of some slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mistline.core.errors import InputError
from mistline.core.seeds import derive, ranked
from mistline.data import open_dataset
from mistline.infer.generate import Drawer, check
from mistline.store.embeddings import Origin
from mistline.store.latents import Encoded, LatentReader
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import Checkpoint, load
from mistline.workflow.registry import find, folder_modules


@dataclass(frozen=True, slots=True)
class Files:
    """Where a generator and what belongs to it lie.

    Args:
        manifest: of the sealed dataset.
        generator: config.json of the generator.
        autoencoder: config.json of the run that its latents are of.
        latents: folders of `encode_cells`, one a slide.
    """

    manifest: Path
    generator: Path
    autoencoder: Path
    latents: Sequence[Path]


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator that can draw.

    Args:
        origin: what its images are made from.
        drawer: the model with its autoencoder, on their device.
        readers: slide -> its encoded cells.
        manifest: of the sealed dataset.
        modules: of the generator's code, for `workflow.digest.code_digest`.
    """

    origin: Origin
    drawer: Drawer
    readers: Mapping[str, LatentReader]
    manifest: Path
    modules: tuple[str, ...] = ()

    def cells(self, slide: str, split: str, n: int | None = None) -> pd.DataFrame:
        """Return the first encoded cells of a slide's split, in the order of the draw that is the same everywhere."""
        found = self.readers[slide].cells
        found = found[found["split"] == split]
        return found.iloc[ranked(found["cell_id"].tolist(), 0, "generation", slide)[:n]]

    def encoded(self, cells: pd.DataFrame) -> Encoded:
        """Return latents and tokens of some rows of `cells`, of any slides."""
        parts: list[Encoded] = []
        places: list[NDArray[np.int64]] = []
        for slide, rows in cells.reset_index(names="key").groupby("slide", sort=False):
            parts.append(self.readers[str(slide)].read(rows["key"].to_numpy(dtype=np.int64)))
            places.append(rows.index.to_numpy(dtype=np.int64))
        order = np.argsort(np.concatenate(places), kind="stable")
        return Encoded(
            *(np.concatenate([getattr(part, name) for part in parts])[order] for name in ("mean", "std", "tokens"))
        )

    def seeds(self, cells: pd.DataFrame, seed: int) -> list[int]:
        """Return the seed of each cell's noise: the noise that `generate` draws it from."""
        keys = zip(cells["slide"], cells["cell_id"], strict=True)
        return [derive(seed, "generate", slide, cell_id) for slide, cell_id in keys]

    def real(self, cells: pd.DataFrame) -> NDArray[np.uint8]:
        """Return uint8 [B, C, S, S], the stored images of cells, at the generator's size.

        Raises:
            InputError: the encoded cells are not those of the dataset.
        """
        size = self.drawer.autoencoder.image_size
        found: NDArray[np.uint8] | None = None
        for slide in cells["slide"].unique():
            own = np.flatnonzero(cells["slide"] == slide)
            batch = records(self.manifest, slide, cells.iloc[own], image_size=size, genes=None)
            images = np.asarray(batch.image)
            found = np.empty((len(cells), *images.shape[1:]), np.uint8) if found is None else found
            found[own] = images
        if found is None:
            raise ValueError("no cell")
        return found


def open_generator(files: Files, device: str) -> Generator:
    """Open a generator.

    Raises:
        InputError: a file is missing or damaged, or the files do not belong together.
    """
    version = read_manifest(files.manifest).version
    generator, autoencoder = load(files.generator), load(files.autoencoder)
    for path, found, needed, kind in (
        (files.generator, generator, "invert", "generator that draws cells from noise"),
        (files.autoencoder, autoencoder, "decode", "autoencoder of images"),
    ):
        check_version(path, found, version)
        if not hasattr(found.model, needed):
            raise InputError(
                path, f"a {found.identity.registry_name}, which is no {kind}", f"give a run that is a {kind}"
            )
    readers = {}
    for folder in files.latents:
        reader = LatentReader(folder)
        if reader.origin.dataset_version != version:
            what = f"of dataset version {reader.origin.dataset_version[:12]}, this one is {version[:12]}"
            raise InputError(folder, what, "run encode_cells again")
        check(generator.model.made_for, reader.origin, autoencoder.weights_sha256, str(files.generator))  # type: ignore[attr-defined]
        readers[str(reader.cells["slide"].iloc[0])] = reader
    identity = generator.identity
    origin = Origin(identity.name, identity.seed, generator.weights_sha256, version)
    modules = folder_modules(find("models", identity.registry_name, str(files.generator)))
    drawer = Drawer.on(device, generator.model, autoencoder.model)
    return Generator(origin, drawer, readers, files.manifest, modules)


def check_version(path: Path, found: Checkpoint, version: str) -> None:
    """Refuse a model that was trained on another dataset.

    Raises:
        InputError: names both versions.
    """
    own = found.identity.dataset_version
    if own != version:
        what = f"trained on dataset version {own[:12]}, this one is {version[:12]}"
        raise InputError(path, what, "run train again")


def records(manifest: Path, slide: str, cells: pd.DataFrame, **what: Any) -> Any:
    """Return a batch of the stored records of encoded cells, in their order, without reading any other.

    Args:
        manifest: of the sealed dataset.
        slide: name.
        cells: rows of `LatentReader.cells`, all of that slide.
        what: what of them is read, as `open_dataset` takes it.

    Raises:
        InputError: the encoded cells are not those of the dataset.
    """
    batch = open_dataset(manifest, slides=[slide], **what).__getitems__(cells["row"].tolist())
    if list(batch.record_id) != cells["cell_id"].tolist():
        raise InputError(
            f"latents of slide {slide}", "their cells are not those of the dataset", "run encode_cells again"
        )
    return batch
