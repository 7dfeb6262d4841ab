"""Settings of SPATIA: a size, a preset of the ablation, and everything they fill in. No torch is imported."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mistline.config.base import Section
from mistline.models.spatia.image_sizes import IMAGE_SIZES, ImageSizes

Level = Literal["cell", "niche", "tissue"]
Modality = Literal["genes", "image"]

_CELL = {"levels": ("cell",)}
PRESETS: dict[str, dict[str, Any]] = {
    "cell_only": {**_CELL, "lambda_image": 0.0, "fusion_layers": 0},
    "mae": {**_CELL, "fusion_layers": 0},
    "multi_level": {"fusion_layers": 0},
    "fusion": {},
    "no_image": {"modalities": ("genes",)},
    "no_genes": {"modalities": ("image",)},
    "gene_only": {**_CELL, "modalities": ("genes",)},
    "image_only": {**_CELL, "modalities": ("image",)},
    "shuffled_pairs": {"pairs": "shuffled"},
    "official": {"fusion_style": "official"},
}


def _of_image(name: str) -> dict[str, Any]:
    sizes = IMAGE_SIZES[name]
    return {
        "image_size": sizes.size,
        "patch": sizes.patch,
        "image_width": sizes.width,
        "image_layers": sizes.depth,
        "image_heads": sizes.heads,
        "image_mlp": sizes.mlp,
        "decoder_width": sizes.decoder_width,
        "decoder_layers": sizes.decoder_depth,
        "decoder_heads": sizes.decoder_heads,
        "decoder_mlp": sizes.decoder_mlp,
    }


SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "width": 64,
        "heads": 4,
        "gene_layers": 2,
        "gene_mlp": 128,
        "niche_layers": 1,
        "tissue_layers": 1,
        "query_genes": 64,
        "dropout": 0.0,
        "train_batch": 64,
        "epochs": 6,
        "warmup_steps": 15,
        "learning_rate": 3e-3,
        **_of_image("tiny"),
    },
    "small": {
        "width": 128,
        "heads": 4,
        "gene_layers": 4,
        "gene_mlp": 512,
        "niche_layers": 2,
        "tissue_layers": 2,
        "query_genes": 128,
        "train_batch": 128,
        "epochs": 20,
        "warmup_steps": 300,
        "learning_rate": 5e-4,
        **_of_image("small"),
    },
    "paper": {
        "width": 256,
        "heads": 8,
        "gene_layers": 8,
        "gene_mlp": 1024,
        "niche_layers": 2,
        "tissue_layers": 4,
        "query_genes": 256,
        "train_batch": 224,
        "epochs": 3,
        "warmup_steps": 500,
        "learning_rate": 3e-4,
        **_of_image("paper"),
    },
}


class Params(Section):
    """Cell, niche and tissue from image, genes and place, trained without labels."""

    size: Literal["tiny", "small", "paper"] = Field("small", description="fills in the widths and the training")
    preset: str = Field("fusion", description=f"of the ablation: {', '.join(PRESETS)}")
    modalities: tuple[Modality, ...] = Field(("genes", "image"), min_length=1, description="what of a cell is read")
    levels: tuple[Level, ...] = Field(("cell", "niche", "tissue"), description="tissue needs niche")
    niche: str = Field("niche", description="scale of the dataset that is the niche")
    tissue: str = Field("region", description="scale of the dataset that is the tissue region")
    tissue_image: bool = Field(False, description="train the image encoder on the regions' images as well")
    pairs: Literal["true", "shuffled"] = Field("true", description="shuffled: a control, genes of another cell")
    embed_from: Literal["all", "genes", "image"] = Field(
        "all", description="what embedding reads; the rest is taken for absent, whatever training read"
    )

    width: int = Field(256, ge=8, multiple_of=4, description="of the gene side and of every embedding")
    heads: int = Field(8, ge=1, description="of the gene side and of the context")
    gene_layers: int = Field(8, ge=1)
    gene_mlp: int = Field(1024, ge=8)
    max_len: int = Field(1000, ge=8, description="genes of a cell that are read")
    zeros: float = Field(
        0.25, ge=0, le=1, description="most measured zeros of a cell in training, a share of its genes"
    )
    query_genes: int = Field(512, ge=1, description="genes of a training batch that are asked of the embedding")
    gene_vectors: str | None = Field(None, description="parquet of gene vectors; absent: learned from nothing")
    min_mapped: float = Field(0.5, ge=0, le=1, description="least share of the genes that gene_vectors must hold")
    freeze_vectors: bool = Field(True, description="keep gene_vectors as they are")
    gene_positions: str | None = Field(None, description="parquet of gene_id, chromosome and start")
    min_overlap: float = Field(0.5, ge=0, le=1, description="least share of a slide's genes that the model knows")

    image_size: int = Field(224, ge=16, description="side in pixels that images are resized to")
    patch: int = Field(16, ge=2)
    image_width: int = Field(768, ge=8)
    image_layers: int = Field(12, ge=1)
    image_heads: int = Field(12, ge=1)
    image_mlp: int = Field(3072, ge=8)
    decoder_width: int = Field(512, ge=8)
    decoder_layers: int = Field(8, ge=1)
    decoder_heads: int = Field(16, ge=1)
    decoder_mlp: int = Field(2048, ge=8)
    mask_ratio: float = Field(0.75, ge=0, lt=1, description="share of patches hidden in training; none in embedding")
    image_weights: str | None = Field(None, min_length=1, description="ViT-MAE (safetensors or pt) on disk")
    image_weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of that file")

    fusion_layers: int = Field(1, ge=0, description="blocks in which image and genes read each other")
    fusion_style: Literal["default", "official"] = Field("default", description="official: as the published code")
    combine_weight: float = Field(1.0, ge=0, description="official only: of what was read")
    niche_layers: int = Field(2, ge=1)
    tissue_layers: int = Field(4, ge=1)
    members: int = Field(64, ge=2, description="cells of a niche that are read")
    niches: int = Field(255, ge=1, description="niches of a region that are read beside a cell's own")
    dropout: float = Field(0.1, ge=0, lt=1)
    modality_dropout: float = Field(0.15, ge=0, lt=0.5, description="share of cells trained without image; so genes")
    level_dropout: float = Field(0.1, ge=0, lt=1, description="share of cells trained without niche; so tissue")

    lambda_image: float = Field(1.0, ge=0, description="weight of the images' loss")
    lambda_genes: float = Field(1.0, ge=0, description="weight of the genes' losses")
    lambda_classes: float = Field(1.0, gt=0, description="weight of the classes' loss, where there are class_heads")
    class_heads: tuple[str, ...] = Field(
        (), description="label columns that z learns to tell, from training records; none: no label is ever read"
    )
    class_parents: dict[str, dict[str, tuple[str, ...]]] = Field(
        {}, description="column -> parent -> the classes below it: labels of the ontology's inner nodes"
    )
    epochs: int | None = Field(3, ge=1)
    steps: int | None = Field(None, ge=1, description="in place of epochs")
    train_batch: int = Field(224, ge=2, description="cells of a training batch of one device")
    accumulate: int = Field(1, ge=1, description="batches of a step")
    learning_rate: float = Field(3e-4, gt=0)
    pretrained_rate: float = Field(1e-4, gt=0, description="learning rate of what image_weights gave")
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(500, ge=0)
    clip: float = Field(1.0, gt=0)
    patience: int | None = Field(None, ge=1, description="validations without a better one before training stops")
    validate_every: int = Field(500, ge=1, description="steps")
    val_batches: int | None = Field(20, ge=1)
    save_every: int = Field(200, ge=1, description="steps between two saved states")
    batch_size: int = Field(256, ge=1, description="records read at once when embedding; does not change the result")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset, size = values.get("preset", "fusion"), values.get("size", "small")
        if str(preset) not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}: known are {', '.join(PRESETS)}")
        filled = {**SIZES.get(str(size), {}), **PRESETS[preset], **values}
        if values.get("steps") is not None and "epochs" not in values:
            filled["epochs"] = None
        return filled

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        problem = next((said for wrong, said in [*self._choices(), *self._numbers()] if wrong), None)
        if problem:
            raise ValueError(problem)
        self.image_sizes()
        return self

    def _choices(self) -> list[tuple[bool, str]]:
        """Return what is wrong with the choice of parts."""
        both = set(self.modalities) == {"genes", "image"}
        return [
            ("cell" not in self.levels, "levels need cell"),
            ("tissue" in self.levels and "niche" not in self.levels, "level tissue needs level niche"),
            (self.pairs == "shuffled" and not both, "pairs shuffled needs the modalities genes and image"),
            (
                self.pairs == "shuffled" and self.embed_from != "all",
                "pairs shuffled is a control of both modalities: embed_from must be all",
            ),
            (
                self.embed_from != "all" and self.embed_from not in self.modalities,
                f"embed_from {self.embed_from} is not among the modalities",
            ),
            (
                "genes" not in self.modalities and self.lambda_image == 0,
                "modality image alone needs lambda_image above 0: nothing else is trained on",
            ),
            (len(set(self.class_heads)) < len(self.class_heads), "class_heads names a column twice"),
            (
                not set(self.class_parents) <= set(self.class_heads),
                f"class_parents has columns that are none of class_heads: {', '.join(self.class_parents)}",
            ),
            (
                self.lambda_genes == 0 and self.lambda_image == 0,
                "lambda_image and lambda_genes are both 0: nothing is trained on",
            ),
        ]

    def _numbers(self) -> list[tuple[bool, str]]:
        """Return what is wrong with the numbers."""
        return [
            (self.width % self.heads != 0, f"width {self.width} cannot be divided among {self.heads} heads"),
            ((self.epochs is None) == (self.steps is None), "give epochs or steps, and null for the other"),
            (
                (self.image_weights is None) != (self.image_weights_sha256 is None),
                "image_weights and image_weights_sha256 belong together",
            ),
            (
                self.fusion_style == "default" and self.combine_weight != 1.0,
                "combine_weight belongs to fusion_style official",
            ),
        ]

    def image_sizes(self) -> ImageSizes:
        """Return the sizes of the image encoder and decoder."""
        return ImageSizes(
            size=self.image_size,
            patch=self.patch,
            width=self.image_width,
            depth=self.image_layers,
            heads=self.image_heads,
            mlp=self.image_mlp,
            decoder_width=self.decoder_width,
            decoder_depth=self.decoder_layers,
            decoder_heads=self.decoder_heads,
            decoder_mlp=self.decoder_mlp,
        )

    def embeds(self, modality: Modality) -> bool:
        """Return whether embedding reads that modality."""
        return modality in self.modalities and self.embed_from in ("all", modality)

    def reads(self) -> frozenset[str]:
        """Return what the embedding of a cell knows of the dataset; labels: those of training records."""
        known = {name for name in ("genes", "image") if self.embeds(name)}  # type: ignore[arg-type]
        known |= {"coordinates"} if "niche" in self.levels else set()
        return frozenset(known | ({"labels"} if self.class_heads else set()))

    def files(self) -> tuple[str, ...]:
        """Return the files that must be there before a run starts."""
        wanted = (self.image_weights, self.gene_vectors, self.gene_positions)
        return tuple(path for path in wanted if path is not None)
