"""The whole configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mistline.config.base import Section
from mistline.config.cells import Cells
from mistline.config.crops import Crops
from mistline.config.fetch import Fetch, refused
from mistline.config.generation import Generation
from mistline.config.image import Image
from mistline.config.imputation import Imputation
from mistline.config.metacells import Metacells
from mistline.config.models import ModelRun
from mistline.config.patches import Patches
from mistline.config.report import Report
from mistline.config.scales import DEFAULT_SCALES, Scale
from mistline.config.shards import Shards
from mistline.config.slides import Slide
from mistline.config.splits import Splits
from mistline.config.tasks import TaskRun
from mistline.config.viewer import Viewer

DEFAULT_MODELS = {"pca": ModelRun(model="pca"), "image": ModelRun(model="image")}
DEFAULT_TABLE_MODELS = {"pca": {"model": "pca"}}  # tables have no images


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes a folder's name


class Config(Section):
    """Everything a user may set. `slides` is the only key without a default."""

    slides: tuple[Slide, ...] = Field(min_length=1, description="a sheet (tsv) or a list of slides")
    only: tuple[str, ...] = Field((), description="names of slides to restrict the run to; empty means all")
    seed: int = Field(0, ge=0, description="the one seed; every stage derives its own from it")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="training seeds of each model")
    fetch: Fetch = Field(default_factory=Fetch)
    image: Image = Field(default_factory=Image)
    cells: Cells = Field(default_factory=Cells)
    crops: Crops = Field(default_factory=Crops)
    patches: Patches = Field(default_factory=Patches)
    shards: Shards = Field(default_factory=Shards)
    scales: tuple[Scale, ...] = Field(DEFAULT_SCALES, min_length=1)
    splits: Splits = Field(default_factory=Splits)
    metacells: Metacells = Field(default_factory=Metacells)
    models: dict[Name, ModelRun] = Field(
        default_factory=lambda: dict(DEFAULT_MODELS), description="name in the tables -> model"
    )
    tasks: dict[str, TaskRun] = Field(default_factory=dict, description="name of a task -> how to judge it")
    generation: Generation = Field(default_factory=Generation)
    imputation: Imputation = Field(default_factory=Imputation)
    report: Report = Field(default_factory=Report)
    viewer: Viewer = Field(default_factory=Viewer)

    @model_validator(mode="before")
    @classmethod
    def _models_of_tables(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "models" in values or not isinstance(values.get("slides"), list | tuple):
            return values
        is_table = any(isinstance(slide, Mapping) and slide.get("table") for slide in values["slides"])
        return {**values, "models": DEFAULT_TABLE_MODELS} if is_table else values

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        names = [slide.slide for slide in self.slides]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"slides named more than once: {', '.join(doubled)}")
        owners: dict[str, Slide] = {}
        for slide in self.slides:
            path = os.path.normpath(slide.bundle or slide.table or "")
            first = owners.setdefault(path, slide)
            if first.donor != slide.donor:
                what = f"slides {first.slide} and {slide.slide} are both {path}, and their donors differ"
                raise ValueError(f"{what}: one tissue would be trained on and tested")
        unknown = sorted(set(self.only) - set(names))
        if unknown:
            raise ValueError(f"only: names slides that are not in the sheet: {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _genes_are_added_to_slides(self) -> Config:
        unknown = sorted(set(self.imputation.slides) - {slide.slide for slide in self.slides})
        if unknown:
            raise ValueError(f"imputation.slides: {', '.join(unknown)} not in the sheet")
        return self

    @model_validator(mode="after")
    def _slides_are_of_one_kind(self) -> Config:
        tables = [slide for slide in self.active_slides if slide.table]
        if 0 < len(tables) < len(self.active_slides):
            other = next(slide for slide in self.active_slides if not slide.table)
            pair = f"{tables[0].slide} is a table and {other.slide} a bundle"
            raise ValueError(f"slides: {pair}; run them apart, with only: for example")
        values = {slide.values: slide.slide for slide in tables}
        if len(values) > 1:
            told = " and ".join(f"{slide} {kind}" for kind, slide in values.items())
            raise ValueError(f"slides: values differ ({told}); give all tables of a run with the same kind of values")
        return self

    @model_validator(mode="after")
    def _bundles_can_be_fetched(self) -> Config:
        for slide in self.active_slides if self.fetch.enabled else ():
            why = refused(slide.url) if slide.url else None
            if why:
                raise ValueError(f"slides: url of {slide.slide}: {why}")
        return self

    @model_validator(mode="after")
    def _scales_make_sense(self) -> Config:
        names = [scale.name for scale in self.scales]
        if len(set(names)) != len(names):
            raise ValueError("scales: two scales share a name")
        if [scale.name for scale in self.scales if scale.unit == "cell"] != ["cell"]:
            raise ValueError("scales: exactly one scale has unit cell, and it is named cell")
        if len(names) < 2:
            raise ValueError("scales: at least one grid scale is needed beside the cell")
        return self

    @model_validator(mode="after")
    def _viewer_shows_what_is_trained(self) -> Config:
        for key, asked, there in (
            ("models", self.viewer.models, list(self.models)),
            ("seeds", self.viewer.seeds, list(self.seeds)),
        ):
            unknown = sorted(set(asked or ()) - set(there), key=str)
            if unknown:
                raise ValueError(
                    f"viewer.{key}: {', '.join(map(str, unknown))} not among {key}: {', '.join(map(str, there))}"
                )
        return self

    @property
    def active_slides(self) -> tuple[Slide, ...]:
        """The slides of this run, in the sheet's order."""
        return tuple(slide for slide in self.slides if not self.only or slide.slide in self.only)

    @property
    def kind(self) -> Literal["xenium", "tables"]:
        """What the slides of this run are: Xenium bundles, or tables of cells or spots."""
        return "tables" if any(slide.table for slide in self.active_slides) else "xenium"

    @property
    def has_images(self) -> bool:
        """Whether every slide of this run has images that models can read."""
        return self.kind == "xenium" or all(slide.image for slide in self.active_slides)

    @property
    def grid_scales(self) -> tuple[Scale, ...]:
        """The scales cut as tiles."""
        return tuple(scale for scale in self.scales if scale.unit == "grid")
