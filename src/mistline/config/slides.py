"""One slide of the cohort: a row of the sheet, or an entry of the list in config.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mistline.config.base import Section

Values = Literal["counts", "normalised", "log"]


class Slide(Section):
    """A Xenium run, or a table of cells or spots, and what is known of it.

    Paths are relative to the working directory.
    """

    slide: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="unique name; becomes a folder's name")
    bundle: str | None = Field(None, min_length=1, description="the unzipped output bundle of the Xenium run")
    table: str | None = Field(None, min_length=1, description="instead of a bundle: an h5ad, or a Visium folder")
    um_per_unit: float | None = Field(
        None, gt=0, description="table: micrometres of one unit of its coordinates; a Visium array tells it itself"
    )
    values: Values = Field("counts", description="table: what X holds; log is log1p of normalised")
    image: str | None = Field(
        None, min_length=1, description="table: H&E its coordinates lie on (8-bit RGB as TIFF, JPEG or PNG)"
    )
    image_um_per_px: float | None = Field(
        None, gt=0, description="table: micrometres a pixel of image; absent: one unit of the coordinates is a pixel"
    )
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
    url: str | None = Field(None, description="where the zip of the bundle can be had")
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$", description="of that zip, where it is known")
    md5: str | None = Field(None, pattern=r"^[0-9a-fA-F]{32}$", description="of that zip, where it is known")
    bytes: int | None = Field(None, gt=0, description="size of that zip, where it is known")
    url_source: str | None = Field(None, description="who quotes the address")
    notes: str | None = Field(None, description="anything a reader should know")

    @model_validator(mode="after")
    def _one_source(self) -> Slide:
        if self.bundle is None and self.table is None:
            raise ValueError("give bundle (a Xenium run) or table (an h5ad or a Visium folder)")
        if self.bundle is not None and self.table is not None:
            raise ValueError("bundle and table are both given: a slide is one of them")
        if self.bundle is not None and (self.um_per_unit is not None or self.values != "counts"):
            key = "values" if self.um_per_unit is None else "um_per_unit"
            raise ValueError(f"{key} belongs to a slide given as table")
        return self

    @model_validator(mode="after")
    def _paths_are_plain(self) -> Slide:
        for key in ("bundle", "table", "image", "labels", "he_image", "he_alignment"):
            path = getattr(self, key) or ""
            if path.startswith("~"):
                raise ValueError(f"{key} of slide {self.slide} begins with ~, which only a shell knows: {path!r}")
            if key == "bundle":
                continue
            if "{" in path or "}" in path:
                raise ValueError(f"{key} of slide {self.slide} has a brace in its path: rename {path!r}")
        return self

    @model_validator(mode="after")
    def _image_is_of_a_table(self) -> Slide:
        if self.image is not None and self.table is None:
            raise ValueError(f"slide {self.slide} has image without table: a bundle has images of its own")
        if self.image_um_per_px is not None and self.image is None:
            raise ValueError(f"slide {self.slide} has image_um_per_px without image")
        return self

    @model_validator(mode="after")
    def _he_is_whole(self) -> Slide:
        if (self.he_image is None) != (self.he_alignment is None):
            given, absent = ("he_image", "he_alignment") if self.he_image else ("he_alignment", "he_image")
            raise ValueError(f"slide {self.slide} has {given} without {absent}: they belong together")
        if self.table is not None and self.he_image is not None:
            raise ValueError(f"slide {self.slide} has he_image beside table: an H&E belongs to a bundle")
        return self
