"""Rule fetch_bundle: fetch the bundle of one slide, unless it is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mistline.config.base import load_section
from mistline.config.fetch import Fetch
from mistline.core.files import write_json
from mistline.core.provenance import record
from mistline.fetch.archive import Wanted
from mistline.fetch.bundle import Source, fetch
from mistline.workflow.digest import code_digest
from mistline.xenium.layout import EXPERIMENT, REQUIRED, is_read

WANTED = Wanted(EXPERIMENT, REQUIRED, is_read)


def run(
    url: Annotated[str, typer.Option(help="address of the zip of the bundle, http or https")],
    bundle: Annotated[Path, typer.Option(help="the bundle's folder; what is there is used as it is")],
    receipt: Annotated[Path, typer.Option(help="fetched.json to write: where the bundle is from, how it was checked")],
    sha256: Annotated[str | None, typer.Option(help="of the zip; then all of it is fetched")] = None,
    md5: Annotated[str | None, typer.Option(help="of the zip; then all of it is fetched")] = None,
    n_bytes: Annotated[int | None, typer.Option(help="size of the zip")] = None,
    params: Annotated[str, typer.Option(help="the section fetch, as JSON")] = "{}",
) -> None:
    """Fetch a bundle."""
    section = load_section(Fetch, params, "fetch")
    told = fetch(Source(url, sha256, md5, n_bytes), bundle, WANTED, section)
    write_json(receipt, {"bundle": str(bundle), **told})
    record(
        "fetch_bundle",
        outputs=[receipt],
        inputs={"bundle": bundle},
        params=section.model_dump(mode="json"),
        code=code_digest("fetch_bundle"),
    )
