"""Encode a slide's cells for generators of images: latents of their images, and what the condition's run says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from mistline.config.base import load_section
from mistline.config.generation import EncodedCells
from mistline.core.errors import ConfigError, InputError
from mistline.core.provenance import record
from mistline.core.seeds import ranked
from mistline.data.tables import SPLITS, SlideTable, read_slide
from mistline.models.contract import Context, Needs, Source
from mistline.models.diffusion.modes import READINGS, TOKENS
from mistline.models.spatia.embedding import one_thread_each
from mistline.store.latents import Encoded, LatentOrigin, LatentWriter
from mistline.store.manifest import Manifest, read_manifest
from mistline.train.checkpoint import Checkpoint, load
from mistline.train.device import cpu_threads, pick_device
from mistline.train.source import open_source
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import find, folder_modules, unknown

_GROUP = 64  # cells that a thread encodes at once; fixed, so that the number of threads changes no bit


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    slide: Annotated[str, typer.Option(help="Slide to encode.")],
    autoencoder: Annotated[Path, typer.Option(help="config.json of a vae; its weights lie beside it.")],
    condition: Annotated[Path, typer.Option(help="config.json of the run of spatia that gives the conditions.")],
    latents: Annotated[Path, typer.Option(help="Folder of latents and conditions to write.")],
    params: Annotated[str, typer.Option(help="How many cells of each split, as JSON.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
    scratch: Annotated[
        Path | None,
        typer.Option(
            envvar="MISTLINE_SCRATCH",
            help="Folder on this node's own disk to copy the shards to first; without it they are read in place.",
        ),
    ] = None,
) -> None:
    """Encode a slide's cells for generators."""
    section = load_section(EncodedCells, params, "generation.encoded")
    sealed = read_manifest(manifest)
    _check_slide(sealed, slide)
    coder = _loaded(autoencoder, "vae", sealed)
    told = _loaded(condition, "spatia", sealed)
    source = open_source(sealed.path, slides=(slide,), workers=threads - 1, scratch=scratch)
    if coder.model.channels != source.channels:
        what = f"it was trained on the channels {', '.join(coder.model.channels)}, {slide} has"
        raise InputError(autoencoder, f"{what} {', '.join(source.channels)}", "run train again")
    cells = _chosen(read_slide(sealed, slide, "cell"), section)
    context = Context(told.identity.seed, pick_device(devices), threads, latents.parent / "resume")
    job = _Job(source, cells, context, section.batch_size)
    with cpu_threads(threads):
        tokens, present = job.tokens(told.model)
        origin = LatentOrigin(
            told.identity.seed,
            coder.weights_sha256,
            told.weights_sha256,
            sealed.version,
            coder.model.image_size,
            present,
        )
        with LatentWriter(latents, origin, len(cells)) as writer:
            for rows, mean, std in job.latents(coder.model):
                writer.put(cells.iloc[rows], Encoded(mean, std, tokens[rows]))
    packages = [find("models", name, str(manifest)) for name in ("vae", "spatia")]
    record(
        "encode_cells",
        outputs=[latents],
        inputs={"manifest": manifest, "autoencoder": autoencoder, "condition": condition},
        params={"slide": slide, **section.model_dump(mode="json")},
        code=code_digest("encode_cells", *(module for package in packages for module in folder_modules(package))),
        seed=told.identity.seed,
    )


def _check_slide(sealed: Manifest, slide: str) -> None:
    if sealed.kind == "tables":
        what = "its slides are tables, and generators draw images of cells from Xenium bundles"
        raise InputError(sealed.path, what, "leave the generators out")
    if slide not in sealed.slides:
        raise unknown("--slide", "slide", slide, sealed.slides)


def _loaded(config: Path, registry_name: str, sealed: Manifest) -> Any:
    """Return a trained model of a kind, as a `Checkpoint`.

    Raises:
        ConfigError: it is a model of another kind.
        InputError: it is damaged, or was trained on another dataset.
    """
    found: Checkpoint = load(config)
    identity = found.identity
    if identity.registry_name != registry_name:
        raise ConfigError(str(config), f"a run of {identity.registry_name}", f"name a run of {registry_name}")
    if identity.dataset_version != sealed.version:
        what = f"trained on dataset version {identity.dataset_version[:12]}, this one is {sealed.version[:12]}"
        raise InputError(config, what, "run train again")
    return found


def _chosen(table: SlideTable, section: EncodedCells) -> pd.DataFrame:
    """Return the cells to encode, in the order of the slide, with the columns of `store.latents.COLUMNS`."""
    ids = np.array(table.ids.to_pylist(), dtype=object)
    rows = []
    for split, most in (("train", section.train), ("val", section.val), ("test", section.test)):
        own = np.flatnonzero(table.split == SPLITS.index(split))
        rows.append(own[ranked(ids[own].tolist(), 0, "generation", table.slide)[:most]])
    row = np.sort(np.concatenate(rows))
    found = pd.DataFrame({"slide": table.slide, "donor": table.donor, "cell_id": ids[row], "row": row})
    found["split"] = np.array(SPLITS, dtype=object)[table.split[row]]
    found["x_um"], found["y_um"], found["side_um"] = *table.xy_um[row].T, table.side_um[row]
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    """One slide.

    Args:
        source: all of its cells.
        cells: those to encode, by `row`, rising.
        context: device, threads, seed of the condition's run, and a folder for its files.
        batch_size: cells read at once.
    """

    source: Source
    cells: pd.DataFrame
    context: Context
    batch_size: int

    def tokens(self, model: Any) -> tuple[NDArray[np.float32], tuple[tuple[bool, ...], ...]]:
        """Return float32 [n, R, T, D] what the condition's run says of the cells, and which of it there is.

        A reading needs the modality it is named for: a run without images has one reading alone, that of genes.
        """
        params = model.params
        needs = {"all": "image", "genes": "genes"}
        has = {"z": True, "z_n": "niche" in params.levels, "z_t": "tissue" in params.levels}
        tokens = np.zeros((len(self.cells), len(READINGS), len(TOKENS), params.width), dtype=np.float32)
        present = []
        for number, reading in enumerate(READINGS):
            given = params.embeds(needs[reading])
            own = has | {"z_gene": params.embeds("genes")}
            present.append(tuple(given and own[token] for token in TOKENS))
            if given:
                self._read(model, reading, tokens[:, number], present[-1])
        return tokens, tuple(present)

    def _read(self, model: Any, reading: str, out: NDArray[np.float32], present: tuple[bool, ...]) -> None:
        """Fill [n, T, D] with one reading; all cells of the slide are embedded, as they are each other's context."""
        first = 0
        for block in model.embed_as(self.source, self.context, reading):
            within, here = self._among(first, block.cell_id)
            for place, (token, given) in enumerate(zip(TOKENS, present, strict=True)):
                if given:
                    out[here, place] = (block.z if token == "z" else block.parts[token])[within]
            first += len(block.cell_id)
        self._require_all(first)

    def latents(self, model: Any) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]]:
        """Yield rows of `cells`, with mean and deviation [B, c, h, w] of the latents of their images."""
        device = self.context.device
        model.net.to(device)

        def encode(image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            mean, std = model.encode(image.to(device))
            return mean.cpu().numpy(), std.cpu().numpy()

        first = 0
        with one_thread_each(self.context) as each:
            for batch in self.source.batches(Needs(image_size=model.image_size, batch_size=self.batch_size)):
                within, here = self._among(first, batch.record_id)
                first += len(batch.record_id)
                if len(here):
                    images = batch.image[torch.from_numpy(within)].split(_GROUP)
                    parts = [np.concatenate(part) for part in zip(*each(encode, images), strict=True)]
                    yield here, parts[0], parts[1]
        self._require_all(first)

    def _among(self, first: int, ids: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which of some consecutive cells of the slide are encoded: places among them, and rows of `cells`."""
        row = self.cells["row"].to_numpy()
        low, high = np.searchsorted(row, [first, first + len(ids)])
        here = np.arange(low, high)
        within = row[here] - first
        if [ids[i] for i in within.tolist()] != self.cells["cell_id"].iloc[here].tolist():
            raise InputError(
                "the slide", "its cells come in another order than its index says", "run seal_dataset again"
            )
        return within, here

    def _require_all(self, n: int) -> None:
        if n != self.source.count():
            raise InputError("the slide", f"{n} of {self.source.count()} cells are embedded", "run seal_dataset again")
