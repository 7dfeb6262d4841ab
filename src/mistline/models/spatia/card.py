"""What a model card says of a SPATIA model: which of its parts were built, what they read, and what they never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mistline.models.spatia.params import Params


def told(params: Params, n_genes: int, channels: Sequence[str], unknown: Mapping[str, int]) -> dict[str, str]:
    """Return rows of the card: name -> sentence.

    Args:
        params: settings.
        n_genes: of the vocabulary; 0 where genes are not read.
        channels: of the images; empty where images are not read.
        unknown: slide -> how many of its genes the model does not know; without those of which it knows all.
    """
    reads = {"genes": f"raw counts of up to {n_genes:,} genes", "image": f"images of {_listed(channels)}"}
    used = [reads[name] for name in params.modalities]
    labels = f"labels of training records are read: {_listed(params.class_heads)}" if params.class_heads else ""
    rows = {
        "is": f"preset {params.preset} of size {params.size}, after arXiv 2507.04704 v1",
        "is trained on": f"{_listed(used)}; levels {_listed(params.levels)}; {labels or 'no label is read'}",
        "embeds from": _listed([reads[name] for name in params.modalities if params.embeds(name)]),
        "gives": f"z, {params.width} numbers a cell, and its parts: {_listed(_parts(params))}",
    }
    if "niche" in params.levels:
        rows["context"] = f"scales {_listed(_scales(params))}; the cell itself is left out of it, but not of images"
    if "genes" in params.modalities:
        rows["gene vectors"] = params.gene_vectors or "learned here"
    if params.embeds("genes"):
        found = _listed([f"{n:,} of slide {slide}" for slide, n in unknown.items()])
        rows["genes left out in embedding"] = f"{found}, which no training slide measured" if unknown else "none"
    if "image" in params.modalities:
        origin = f"{params.image_weights}, sha256 {params.image_weights_sha256}" if params.image_weights else ""
        rows["image encoder starts from"] = origin or "random weights"
    if params.pairs == "shuffled":
        rows["control"] = "every cell has the genes of another one: what is left is not what image and genes share"
    return rows


def _parts(params: Params) -> list[str]:
    by_level = {"cell": ["z_c", "z_img", "z_gene"], "niche": ["z_n"], "tissue": ["z_t"]}
    return [name for level in params.levels for name in by_level[level]]


def _scales(params: Params) -> list[str]:
    return [params.niche, *([params.tissue] if "tissue" in params.levels else [])]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "nothing"
