"""How missing bundles are fetched, where that is asked for."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mistline.config.base import Section


class Fetch(Section):
    """Whether bundles that are not on disk are fetched from the sheet's `url`, and how patiently."""

    enabled: bool = Field(False, description="fetch bundles that are missing; `--config fetch=true` says so for a run")
    timeout_s: float = Field(60, gt=0, description="seconds without 64 KB after which a connection counts as dropped")
    attempts: int = Field(6, ge=1, description="dropped connections in a row, without a byte gained, before giving up")
    pause_s: float = Field(2, ge=0, description="seconds before a second attempt; doubled each time, at most a minute")

    @model_validator(mode="before")
    @classmethod
    def _yes_or_no(cls, values: Any) -> Any:
        return {"enabled": values} if isinstance(values, bool | str) else values  # of a command line: "true"


def refused(url: str) -> str | None:
    """Say why an address is not fetched; None where it may be."""
    try:
        parts = urlsplit(url)
        named = (parts.hostname, parts.port)  # reading the port checks it
    except ValueError as error:
        return f"not an address ({error})"
    if parts.scheme not in ("http", "https"):
        return f"{parts.scheme or 'plain'}: addresses are not fetched, only http and https"
    if not named[0]:
        return "the address names no server"
    if parts.username is not None:
        return "the address holds a user name, which would be written into logs"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "the address holds a character that belongs in no address"
    return None
