"""Draw cells again with some of their genes changed, from noise and by inversion of their own image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from mistline.config.base import load_section
from mistline.config.generation import Generation
from mistline.core.errors import ConfigError, InputError
from mistline.core.provenance import record
from mistline.infer.asked import Asked, asked_by_hand
from mistline.infer.edit import Editor
from mistline.infer.generators import Files, Generator, check_version, open_generator
from mistline.models.contract import Context
from mistline.models.spatia.model import Model as Spatia
from mistline.store.manifest import read_manifest
from mistline.store.pictures import Pictures, write_pictures
from mistline.tasks.picture_features import WHAT, morphology
from mistline.train.checkpoint import load
from mistline.train.device import cpu_threads, pick_device
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.edit")

FEATURES = ("area", "brightness", "eccentricity")  # of the nucleus, shown in the report


def run(
    manifest: Annotated[Path, typer.Option(help="Manifest of the sealed dataset.")],
    generator: Annotated[Path, typer.Option(help="config.json of the generator.")],
    autoencoder: Annotated[Path, typer.Option(help="config.json of the autoencoder that its latents are of.")],
    condition: Annotated[Path, typer.Option(help="config.json of the run that its conditions are of.")],
    latents: Annotated[list[Path], typer.Option(help="Folder of encode-cells of a slide; repeated.")],
    pictures: Annotated[Path, typer.Option(help="Images (safetensors) to write.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="GENE=LEVEL: a count such as 0, or a factor such as x2 on the cell's own count (0 stays 0); several "
            "levels with commas between; repeated for genes that are changed together.",
        ),
    ] = None,
    slide: Annotated[str | None, typer.Option(help="With --set: whose cells.")] = None,
    cell: Annotated[list[str] | None, typer.Option(help="With --set: a cell's id; repeated.")] = None,
    params: Annotated[str, typer.Option(help="The generation section, as JSON.")] = "{}",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    devices: Annotated[int, typer.Option(help="GPUs granted to this job.")] = 0,
) -> None:
    """Draw edits."""
    settings = load_section(Generation, params, "generation")
    asked = _asked(settings, set_ or [], slide, cell or [])
    device = pick_device(devices)
    context = Context(seed, device, threads, resume=pictures.parent / "resume")
    with cpu_threads(threads):
        opened = open_generator(Files(manifest, generator, autoencoder, latents), device)
        editor = Editor(opened, _condition(condition, opened), settings, seed, context)
        drawn = editor.draw(asked)
    shown = {kind: _measured(images) for kind, images in drawn.images.items()}
    rows = [{**row, "features": {kind: shown[kind][number] for kind in shown}} for number, row in enumerate(drawn.rows)]
    about = {
        "protocol": settings.protocol,
        "sampling": settings.sampling.model_dump(mode="json"),
        "image_size": opened.drawer.autoencoder.image_size,
        "channels": list(opened.drawer.autoencoder.channels),
        "features": {name: WHAT[name] for name in FEATURES},
        "rows": rows,
    }
    ids = (np.array([row[name] for row in rows], dtype=np.str_) for name in ("slide", "cell_id"))
    write_pictures(pictures, Pictures(*ids, drawn.images, opened.origin, about))
    logger.info("%s: %d edits, %d pictures of each kind", opened.origin.model, len(asked), len(rows))
    record(
        "edit",
        outputs=[pictures],
        inputs={"manifest": manifest, "generator": generator, "autoencoder": autoencoder, "condition": condition},
        params={**settings.model_dump(mode="json"), "set": set_ or [], "slide": slide, "cell": cell or []},
        code=code_digest("edit", *opened.modules),
        seed=seed,
    )


def _asked(settings: Generation, sets: Sequence[str], slide: str | None, cells: Sequence[str]) -> list[Asked]:
    """Return the edits of the settings, or the one that was set by hand."""
    if sets:
        return [asked_by_hand(sets, slide, cells)]
    if slide is not None or cells:
        raise ConfigError("edit", "a slide or a cell is named, and no change", "add --set GENE=LEVEL")
    if not settings.edits:
        raise ConfigError("generation.edits", "none is asked for", "give --set GENE=LEVEL, or edits in --params")
    return [Asked.of(edit) for edit in settings.edits]


def _condition(path: Path, opened: Generator) -> Spatia:
    """Return the run that the generator's conditions are of.

    Raises:
        InputError: it is another one, or no run of spatia.
    """
    found = load(path)
    check_version(path, found, read_manifest(opened.manifest).version)
    own = opened.drawer.model.made_for.condition_sha256
    if found.weights_sha256 != own:
        what = f"another run ({found.weights_sha256[:12]}) than the one the generator's conditions are of ({own[:12]})"
        raise InputError(path, what, "give the run that encode_cells was given")
    if not isinstance(found.model, Spatia):
        what = f"a run of {found.identity.registry_name}, which has no tokens to tell anew"
        raise InputError(path, what, "give a run of spatia")
    return found.model


def _measured(images: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return of each image what of its nucleus is shown in the report."""
    table = morphology(images)[list(FEATURES)]
    return [{name: round(float(value), 6) for name, value in row.items()} for row in table.to_dict("records")]
