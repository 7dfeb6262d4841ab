"""What is exported for viewers."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Viewer(Section):
    """Embeddings and clusters shown in napari and Xenium Explorer."""

    models: tuple[str, ...] | None = Field(
        None, description="names under models: whose embeddings are shown; none shows all"
    )
    seeds: tuple[int, ...] | None = Field(None, description="training seeds shown; none shows the first of seeds")
    n_clusters: int | None = Field(
        None,
        ge=2,
        description="k-means clusters of an embedding; none takes as many as the slide has groups at level 1",
    )
