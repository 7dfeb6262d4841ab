"""One slide of the cohort: a row of the sheet, or an entry of the list in config.yaml."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Slide(Section):
    """A Xenium run and what is known of it. Paths are relative to the working directory."""

    slide: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="unique name; becomes a folder's name")
    bundle: str = Field(min_length=1, description="the unzipped output bundle of the Xenium run")
    donor: str = Field(min_length=1, description="whose tissue it is; splits keep a donor on one side")
    tissue: str = Field(min_length=1, description="organ, such as breast")
    disease: str = Field(min_length=1, description="diagnosis, or healthy")
    labels: str | None = Field(None, description="csv with cell_id and any columns of known labels")
    cells: int | None = Field(
        None, ge=0, description="cells the source announces; sizes jobs before the bundle is there"
    )
    genes: int | None = Field(None, ge=0, description="genes the source announces")
    xoa: str | None = Field(None, description="onboard analysis version the source announces; a hint, never trusted")
    url: str | None = Field(None, description="where the bundle can be had")
    url_source: str | None = Field(None, description="who quotes the address")
    notes: str | None = Field(None, description="anything a reader should know")
