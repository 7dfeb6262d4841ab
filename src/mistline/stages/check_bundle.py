"""Rule check_bundle: say what a raw bundle is and what is wrong with it, before anything is made from it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.image import Image
from mistline.core.files import write_json
from mistline.core.provenance import record
from mistline.workflow.digest import code_digest
from mistline.xenium.check import check

logger = logging.getLogger("mistline.stages")


def run(
    bundle: Annotated[Path, typer.Option(help="the unzipped output bundle of the Xenium run")],
    slide: Annotated[str, typer.Option(help="the slide's name")],
    donor: Annotated[str, typer.Option(help="whose tissue it is")],
    tissue: Annotated[str, typer.Option(help="organ")],
    disease: Annotated[str, typer.Option(help="diagnosis, or healthy")],
    report: Annotated[Path, typer.Option(help="bundle.json to write")],
    params: Annotated[str, typer.Option(help="the section image, as JSON: its channels must be there")] = "{}",
) -> None:
    """Check a raw bundle from the headers of its files."""
    section = load_section(Image, params, "image")
    found = check(bundle, section.channels)
    for problem in found["problems"]:
        logger.warning("%s: %s; %s.", bundle, problem["what"], problem["remedy"])
    write_json(report, {"slide": slide, "donor": donor, "tissue": tissue, "disease": disease, **found})
    record(
        "check_bundle",
        outputs=[report],
        inputs={"bundle": bundle},
        params=section.model_dump(mode="json"),
        code=code_digest("check_bundle"),
    )
