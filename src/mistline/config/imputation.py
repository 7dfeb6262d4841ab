"""Which single cells genes are imputed from, and which genes."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section
from mistline.config.slides import Values


class Imputation(Section):
    """A single-cell reference, and what is imputed from it."""

    reference: str | None = Field(
        None, min_length=1, description="h5ad of single cells of the same tissue; null imputes nothing"
    )
    values: Values = Field("counts", description="what its X holds: counts, normalised (by depth) or log (of that)")
    n_genes: int = Field(
        200, ge=1, description="genes that no panel of the run measures to add, those most variable in the reference"
    )
    genes: tuple[str, ...] = Field((), description="ids or symbols of the genes to add, in place of the most variable")
    models: tuple[str, ...] = Field(
        (), description="runs that add them; empty means none: `snakemake impute` and the viewer then have nothing"
    )
    slides: tuple[str, ...] = Field((), description="slides that they are added to; empty means all")


class Division(Section):
    """What of the task `imputation` decides which genes are tested, and when."""

    n_folds: int = Field(5, ge=2, description="parts of the shared genes; each is tested once")
    val_share: float = Field(
        0.15, ge=0, lt=1, description="of a fold's training genes, those on which a method may stop early"
    )
    min_shared: int = Field(20, ge=4, description="fewest genes that a slide must share with the reference")
    seed: int = Field(0, ge=0, description="of the draw")
