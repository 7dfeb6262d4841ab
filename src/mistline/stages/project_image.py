"""Project the z-stack of every channel asked for, scale it to 8 bit and write the pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.image import Image
from mistline.core.errors import InputError
from mistline.core.files import atomic_path, write_json
from mistline.core.provenance import record
from mistline.mist.described import read_described
from mistline.mist.project import project
from mistline.workflow.digest import code_digest
from mistline.xenium import layout, morphology


def run(
    bundle: Annotated[Path, typer.Option(help="the raw bundle")],
    check: Annotated[Path, typer.Option(help="bundle.json")],
    image: Annotated[Path, typer.Option(help="the OME-Zarr folder to write")],
    summary: Annotated[Path, typer.Option(help="image.json to write")],
    params: Annotated[str, typer.Option(help="the image section, as JSON")],
    threads: Annotated[int, typer.Option(min=1, help="tiles decoded at a time")] = 1,
) -> None:
    """Write the 8-bit pyramid and the window it was made with."""
    settings = load_section(Image, params, "image")
    checked = read_described(check)
    found = morphology.choose(morphology.sources(layout.detect(bundle)), settings.channels, bundle)
    if found[0].shape_px != checked.shape_px:
        what = f"the image has {found[0].shape_px} px, {check.name} says {checked.shape_px}"
        raise InputError(found[0].path, what, "run check_bundle again: the bundle has changed since")
    with atomic_path(image) as part:
        described = project(
            found,
            settings,
            slide=checked.slide,
            pixel_size_um=checked.pixel_size_um,
            folder=part,
            threads=threads,
        )
    write_json(summary, described)
    record(
        "project_image",
        outputs=[image, summary],
        inputs={"check": check} | {f"image[{source.channel}]": source.path for source in found},
        params=settings.model_dump(mode="json"),
        code=code_digest("project_image"),
    )
