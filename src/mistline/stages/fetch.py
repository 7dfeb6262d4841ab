"""Command fetch: bundles by hand, before a run or instead of one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml

from mistline.config.base import load_section
from mistline.config.fetch import Fetch
from mistline.config.load import load_config
from mistline.config.slides import Slide
from mistline.core.errors import ConfigError, MistlineError, ResourceError
from mistline.fetch.bundle import Source
from mistline.fetch.bundle import fetch as fetch_one
from mistline.stages.fetch_bundle import WANTED

TINY = Path(__file__).parents[1] / "fetch" / "tiny_bundles.tsv"  # a slide sheet

logger = logging.getLogger("mistline.stages")


def run(
    what: Annotated[str | None, typer.Argument(help="address of a bundle's zip; with --tiny, a name")] = None,
    out: Annotated[Path | None, typer.Option(help="the bundle's folder")] = None,
    sheet: Annotated[Path | None, typer.Option(help="a slide sheet (tsv) or a configuration (yaml) instead")] = None,
    only: Annotated[str, typer.Option(help="slides of it, separated by commas; all without it")] = "",
    tiny: Annotated[bool, typer.Option("--tiny", help="one of 10x's smallest bundles")] = False,
    sha256: Annotated[str | None, typer.Option(help="of the zip; then all of it is fetched")] = None,
    md5: Annotated[str | None, typer.Option(help="of the zip; then all of it is fetched")] = None,
    params: Annotated[str, typer.Option(help="the section fetch, as JSON")] = "{}",
) -> None:
    """Fetch what is asked for; what is on disk is left as it is."""
    section = load_section(Fetch, params, "fetch")
    if sheet is not None and not (what or out or tiny):
        _fetch_sheet(_slides(sheet, only), section)
    elif sheet is None and out is not None and (what or tiny):
        source = _tiny(what) if tiny else Source(str(what), sha256, md5)
        _fetch(source, out, section)
    else:
        how = "give an address and --out, or --tiny and --out, or --sheet alone"
        raise ConfigError("fetch", "what to fetch, and where to, is not said", how)


def _fetch(source: Source, bundle: Path, section: Fetch) -> None:
    told = fetch_one(source, bundle, WANTED, section)
    if "files" not in told:
        typer.echo(f"{bundle}: is on disk, and used as it is.")
        return
    size = sum(file["n_bytes"] for file in told["files"].values())
    checked = " and ".join(["CRC32 of each file", *(f"{name} of the zip" for name in told["checksums"])])
    typer.echo(f"{bundle}: {len(told['files'])} files, {size / 1e9:.3g} GB, checked by {checked}.")


def _fetch_sheet(slides: Sequence[Slide], section: Fetch) -> None:
    """Fetch bundle after bundle; one that cannot be had does not keep the others from coming."""
    failed = []
    for slide in slides:
        try:
            _fetch(_source(slide), Path(str(slide.bundle)), section)
        except MistlineError as error:
            logger.error("%s: %s", slide.slide, error)
            failed.append(slide.slide)
    if failed:
        what = f"{len(failed)} of {len(slides)} could not be fetched ({', '.join(failed)})"
        raise ResourceError("bundles", what, "see the lines above, then run again: what is there is kept")


def _slides(path: Path, only: str) -> list[Slide]:
    """Read the slides that have an address; paths are relative to the working directory, as in a run."""
    values = {"slides": str(path), "only": only, "models": {}}
    if path.suffix in (".yaml", ".yml"):
        try:
            values = {**yaml.safe_load(path.read_text(encoding="utf-8")), "only": only}
        except (OSError, UnicodeDecodeError, TypeError, yaml.YAMLError) as error:
            raise ConfigError(path, f"not a configuration that can be read ({error})", "correct it") from error
    slides = load_config(values, root=Path.cwd()).active_slides
    known = [slide for slide in slides if slide.bundle and slide.url]
    if not known:
        raise ConfigError(path, "none of its slides has a bundle and a url", "fill in the column url")
    return known


def _tiny(name: str | None) -> Source:
    slides = {slide.slide: slide for slide in _slides(TINY, "")}
    if name and name not in slides:
        raise ConfigError("fetch --tiny", f"unknown bundle {name!r}", f"choose one of {', '.join(slides)}")
    return _source(slides[name or next(iter(slides))])


def _source(slide: Slide) -> Source:
    return Source(str(slide.url), slide.sha256, slide.md5, slide.bytes)
