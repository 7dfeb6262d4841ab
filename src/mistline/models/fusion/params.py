"""Settings of the fusion models: four parts chosen by name, presets for the usual choices. No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section

# The modes of the published ablation. `official` is the published form of cross-attention.
_CROSS = {"fusion": "cross_attention", "official": True}
PRESETS: dict[str, dict[str, Any]] = {
    "expr_only": {"encoder": "mlp"},
    "gat_only": {"graph": "gat"},
    "gcn_only": {"graph": "gcn"},
    "concat": {"encoder": "mlp", "graph": "gat", "fusion": "concat"},
    "gated": {"encoder": "mlp", "graph": "gat", "fusion": "gated"},
    "cross_attention": {"encoder": "mlp", "graph": "gat", **_CROSS},
    "gcn_gated": {"encoder": "mlp", "graph": "gcn", "fusion": "gated"},
    "gcn_full": {"encoder": "mlp", "graph": "gcn", **_CROSS},
    "frozen_only": {"encoder": "frozen"},
    "frozen_gated": {"encoder": "frozen", "graph": "gat", "fusion": "gated"},
    "frozen_full": {"encoder": "frozen", "graph": "gat", **_CROSS},
    "img_expr": {"encoder": "mlp", "fusion": "gated", "image": "frozen"},
    "multimodal": {"encoder": "mlp", "graph": "gat", "image": "frozen", **_CROSS},
}
_PARTS = {"encoder", "graph", "fusion", "image"}


class Neighbours(Section):
    """Which cells of a slide are joined; every graph is symmetric."""

    kind: Literal["auto", "hexagonal", "nearest", "radius", "delaunay"] = Field(
        "auto", description="auto: the hexagonal ring where the cells lie on an array, else the nearest k"
    )
    k: tuple[int, ...] = Field((6,), description="nearest: neighbours; one number, or one for each graph layer")
    radius_um: float | None = Field(None, gt=0, description="radius: cells at most so far apart are joined")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "radius") != (self.radius_um is not None):
            raise ValueError("radius_um belongs to kind radius: give both or neither")
        if not self.k or min(self.k) < 1:
            raise ValueError("k needs numbers of 1 or more")
        if len(self.k) > 1 and self.kind not in ("auto", "nearest"):
            raise ValueError(f"several k belong to kind nearest, not to {self.kind}")
        return self


class Params(Section):
    """A classifier of cells by their genes, neighbours and images, or an embedding of the same build."""

    preset: str | None = Field(
        None, description="fills in the parts that are not given; without it and any part: mlp, gat, cross_attention"
    )
    objective: Literal["labels", "reconstruction"] = Field(
        "labels", description="labels: trained fold by fold, gives predictions; reconstruction: gives an embedding"
    )
    encoder: Literal["none", "mlp", "frozen"] = Field("none", description="of a cell's own genes")
    graph: Literal["none", "gcn", "gat"] = Field("none", description="of its neighbours' genes")
    fusion: Literal["none", "concat", "gated", "cross_attention"] = Field("none", description="of what they give")
    image: Literal["none", "frozen", "trainable"] = Field("none", description="of its image")
    frozen: str | None = Field(None, description="encoder frozen: the run whose embedding stands for the genes")
    frozen_image: str | None = Field(None, description="image frozen: the run whose embedding stands for the image")
    official: bool = Field(
        False, description="cross_attention as published: neighbours only, no bias by where they lie"
    )
    neighbours: Neighbours = Field(default_factory=Neighbours, description="the graph")

    width: int = Field(128, ge=8, multiple_of=4, description="of every embedding inside")
    hidden: int = Field(256, ge=8, description="of the first layer of the gene encoder")
    heads: int = Field(4, ge=1, description="of every attention")
    graph_layers: int = Field(2, ge=1, le=6)
    attention_layers: int = Field(2, ge=1, le=6)
    dropout: float = Field(0.1, ge=0, lt=1)
    image_size: int = Field(32, ge=16, le=128, multiple_of=8, description="image trainable: pixels of a crop's side")
    n_components: int = Field(32, ge=2, description="reconstruction: width of the embedding")

    n_genes: int = Field(3000, ge=1, description="the most variable genes among the training cells")
    min_cells: int = Field(3, ge=1, description="training cells in which a gene must occur")
    depth: float = Field(1e4, gt=0, description="counts are brought to this depth before log1p")
    clip: float = Field(10.0, gt=0, description="standardised values beyond it are cut")
    scaling: Literal["train", "slide"] = Field(
        "train",
        description="train: mean and spread of the training cells; slide: of all cells of each slide, without labels",
    )

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    epochs: int = Field(200, ge=1, description="at most")
    min_epochs: int = Field(30, ge=0, description="at least, however the validation goes")
    patience: int = Field(20, ge=1, description="epochs without a better validation before training stops")
    plateau: int = Field(10, ge=1, description="epochs without a better validation before the rate is halved")
    stop_on: Literal["macro_f1", "loss"] = Field("macro_f1", description="what better means, on validation cells")
    class_weights: bool = Field(True, description="weigh classes by the inverse of their training cells")

    full_batch_below: int = Field(100_000, ge=1, description="slides of fewer cells in all are trained whole")
    batch_cells: int = Field(2048, ge=8, description="cells of a batch when neighbours are sampled")
    fanout: int = Field(10, ge=1, description="neighbours of a cell that a training batch draws")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("preset")
        if name is None:
            return values if _PARTS & values.keys() else {**PRESETS["cross_attention"], "official": False, **values}
        if str(name) not in PRESETS:
            raise ValueError(f"unknown preset {name!r}: known are {', '.join(PRESETS)}")
        return {**PRESETS[name], **values}

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        problem = next((said for wrong, said in [*self._parts(), *self._settings()] if wrong), None)
        if problem:
            raise ValueError(problem)
        return self

    def _parts(self) -> list[tuple[bool, str]]:
        """Return what is wrong with the choice of parts."""
        n_given = sum(part != "none" for part in (self.encoder, self.graph, self.image))
        return [
            (n_given == 0, f"encoder, graph and image are all none: name a preset ({', '.join(PRESETS)}) or a part"),
            (n_given < 2 and self.fusion != "none", f"fusion {self.fusion} needs two of encoder, graph and image"),
            (
                self.fusion == "cross_attention" and "none" in (self.encoder, self.graph),
                "fusion cross_attention needs an encoder that asks and a graph whose neighbours answer",
            ),
            (
                self.image != "none" and n_given > 1 and self.fusion == "none",
                f"image {self.image} beside another part needs a fusion: concat or gated",
            ),
            (self.official and self.fusion != "cross_attention", "official belongs to fusion cross_attention"),
            (
                (self.encoder == "frozen") != (self.frozen is not None),
                "encoder frozen and frozen: give both or neither",
            ),
            (
                (self.image == "frozen") != (self.frozen_image is not None),
                "image frozen and frozen_image: give both or neither",
            ),
        ]

    def _settings(self) -> list[tuple[bool, str]]:
        """Return what is wrong with the settings of the parts."""
        return [
            (self.graph == "none" and self.neighbours != Neighbours(), "neighbours are set, and graph is none"),
            (
                len(self.neighbours.k) not in (1, self.graph_layers),
                f"k needs one number, or one for each of the {self.graph_layers} graph layers",
            ),
            (self.width % self.heads != 0, f"width {self.width} cannot be divided among {self.heads} heads"),
            (
                self.objective == "reconstruction" and (self.encoder == "frozen" or self.image != "none"),
                "objective reconstruction reads genes and neighbours only: no frozen encoder, no image",
            ),
        ]

    def serves(self) -> frozenset[str]:
        """Return what tasks can judge."""
        return frozenset(["prediction" if self.objective == "labels" else "embedding"])

    def reads(self) -> frozenset[str]:
        """Return what it needs of a dataset."""
        wanted = {
            "genes": self.encoder == "mlp" or (self.encoder == "none" and self.graph != "none"),
            "image": self.image == "trainable",
            "coordinates": self.graph != "none",
        }
        return frozenset(name for name, needed in wanted.items() if needed)

    def upstream(self) -> tuple[str, ...]:
        """Return the runs whose embeddings it builds on: that of the genes, then that of the image."""
        return tuple(name for name in (self.frozen, self.frozen_image) if name is not None)
