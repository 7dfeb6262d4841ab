"""What the report shows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mistline.config.base import Section


class Report(Section):
    """Title, amount of pictures, and what the tissue viewer holds."""

    title: str = Field("MIST dataset report", description="heading of the page")
    crops_per_slide: int = Field(12, ge=1, le=64, description="cells on a slide's crop sheet")
    maps_per_table: int = Field(2, ge=0, le=24, description="slides mapped for each table of results")
    embedding_map: Literal["pca", "tsne", "umap"] = Field(
        "pca", description="how an embedding is drawn; tsne and umap take up to minutes a model"
    )
    embedding_cells: int = Field(5000, ge=50, le=20_000, description="most cells of an embedding that are drawn")
    viewer_genes: int = Field(12, ge=0, le=200, description="most variable genes the tissue viewer can show")
    viewer_markers: tuple[str, ...] = Field((), description="symbols or ids of genes it can show besides")
    viewer_cells: int = Field(100_000, ge=1, description="most cells of a slide that it holds")
    viewer_crops: int = Field(96, ge=0, le=4000, description="most crops of a slide that it holds as they are stored")
