"""One slide of the cohort: a row of the sheet, or an entry of the list in config.yaml."""

from __future__ import annotations

from pydantic import Field, model_validator

from mistline.config.base import Section


class Slide(Section):
    """A Xenium run and what is known of it. Paths are relative to the working directory."""

    slide: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="unique name; becomes a folder's name")
    bundle: str = Field(min_length=1, description="the unzipped output bundle of the Xenium run")
    donor: str = Field(min_length=1, description="whose tissue it is; splits keep a donor on one side")
    tissue: str = Field(min_length=1, description="organ, such as breast")
    disease: str = Field(min_length=1, description="diagnosis, or healthy")
    labels: str | None = Field(None, description="csv with cell_id and any columns of known labels")
    he_image: str | None = Field(
        None, description="H&E image of the section (RGB OME-TIFF or TIFF); needs he_alignment"
    )
    he_alignment: str | None = Field(
        None, description="csv that puts the H&E on DAPI: Xenium Explorer's matrix or keypoints, or a 2 x 3 affine"
    )
    cells: int | None = Field(
        None, ge=0, description="cells the source announces; sizes jobs before the bundle is there"
    )
    genes: int | None = Field(None, ge=0, description="genes the source announces")
    xoa: str | None = Field(None, description="onboard analysis version the source announces; a hint, never trusted")
    url: str | None = Field(None, description="where the bundle can be had")
    url_source: str | None = Field(None, description="who quotes the address")
    notes: str | None = Field(None, description="anything a reader should know")

    @model_validator(mode="after")
    def _he_is_whole(self) -> Slide:
        if (self.he_image is None) != (self.he_alignment is None):
            given, absent = ("he_image", "he_alignment") if self.he_image else ("he_alignment", "he_image")
            raise ValueError(f"slide {self.slide} has {given} without {absent}: they belong together")
        return self
