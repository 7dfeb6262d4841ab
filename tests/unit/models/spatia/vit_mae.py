"""Checkpoints of a ViT-MAE with random weights in both layouts, and what it computes, written out step by step."""

from __future__ import annotations

import torch
from torch.nn import functional

from mistline.models.spatia.channels import MEAN, STD
from mistline.models.spatia.image_sizes import IMAGE_SIZES

SIZES = IMAGE_SIZES["tiny"]


def drawn(*shape, draw):
    return torch.randn(*shape, generator=draw) * 0.1


def block(prefix, width, mlp, draw):
    """Return a block as transformers names it."""
    pieces = {f"attention.attention.{part}": (width, width) for part in ("query", "key", "value")}
    pieces |= {"attention.output.dense": (width, width), "intermediate.dense": (mlp, width)}
    pieces |= {"output.dense": (width, mlp)}
    found = {}
    for name, shape in pieces.items():
        found[f"{prefix}.{name}.weight"] = drawn(*shape, draw=draw)
        found[f"{prefix}.{name}.bias"] = drawn(shape[0], draw=draw)
    for name in ("layernorm_before", "layernorm_after"):
        found[f"{prefix}.{name}.weight"] = 1 + drawn(width, draw=draw)
        found[f"{prefix}.{name}.bias"] = drawn(width, draw=draw)
    return found


def transformers_weights(sizes=SIZES, decoder=True, prefix="vit."):
    """Return a checkpoint of random weights in the layout of transformers' ViTMAEForPreTraining."""
    draw = torch.Generator().manual_seed(3)
    width, inner, places, pixels = sizes.width, sizes.decoder_width, sizes.n_patches + 1, 3 * sizes.patch**2
    found = {
        f"{prefix}embeddings.cls_token": drawn(1, 1, width, draw=draw),
        f"{prefix}embeddings.position_embeddings": drawn(1, places, width, draw=draw),
        f"{prefix}embeddings.patch_embeddings.projection.weight": drawn(width, 3, sizes.patch, sizes.patch, draw=draw),
        f"{prefix}embeddings.patch_embeddings.projection.bias": drawn(width, draw=draw),
        f"{prefix}layernorm.weight": 1 + drawn(width, draw=draw),
        f"{prefix}layernorm.bias": drawn(width, draw=draw),
    }
    for number in range(sizes.depth):
        found |= block(f"{prefix}encoder.layer.{number}", width, sizes.mlp, draw)
    if decoder:
        found |= {
            "decoder.mask_token": drawn(1, 1, inner, draw=draw),
            "decoder.decoder_pos_embed": drawn(1, places, inner, draw=draw),
            "decoder.decoder_embed.weight": drawn(inner, width, draw=draw),
            "decoder.decoder_embed.bias": drawn(inner, draw=draw),
            "decoder.decoder_norm.weight": 1 + drawn(inner, draw=draw),
            "decoder.decoder_norm.bias": drawn(inner, draw=draw),
            "decoder.decoder_pred.weight": drawn(pixels, inner, draw=draw),
            "decoder.decoder_pred.bias": drawn(pixels, draw=draw),
        }
        for number in range(sizes.decoder_depth):
            found |= block(f"decoder.decoder_layers.{number}", inner, sizes.decoder_mlp, draw)
    return found


RENAMED = (
    ("vit.", ""),
    ("decoder.decoder_layers", "decoder_blocks"),
    ("decoder.", ""),
    ("encoder.layer", "blocks"),
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("layernorm", "norm"),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)


def timm_weights(given):
    """Return the same weights as timm and the authors name them."""
    found = {}
    for name, value in given.items():
        for theirs, ours in RENAMED:
            name = name.replace(theirs, ours)
        if "attention.attention.query" in name:
            three = [given_name(name, part, given) for part in ("query", "key", "value")]
            found[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(three)
        elif "attention.attention" not in name:
            found[name] = value
    return found


def given_name(name, part, given):
    block, kind = name.split(".attention.attention.query.")
    block = block.replace("decoder_blocks", "decoder.decoder_layers")
    block = block if block.startswith("decoder") else block.replace("blocks", "vit.encoder.layer")
    return given[f"{block}.attention.attention.{part}.{kind}"]


def through(tokens, given, prefix, heads):
    """Return a pre-norm block's output, written out."""

    def linear(name, rows):
        return rows @ given[f"{prefix}.{name}.weight"].T + given[f"{prefix}.{name}.bias"]

    def norm(name):
        return functional.layer_norm(
            tokens, tokens.shape[-1:], given[f"{prefix}.{name}.weight"], given[f"{prefix}.{name}.bias"], 1e-6
        )

    before = norm("layernorm_before")
    query, key, value = (
        linear(f"attention.attention.{part}", before).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    weight = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1)
    tokens = tokens + linear("attention.output.dense", (weight @ value).transpose(1, 2).flatten(2))
    return tokens + linear("output.dense", functional.gelu(linear("intermediate.dense", norm("layernorm_after"))))


def plain_features(image, given, side_token):
    """Return [B, 2 + N, D] of the transformers layout, computed from the image step by step."""
    light = (image / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    stem = "vit.embeddings.patch_embeddings.projection"
    seen = functional.conv2d(light, given[f"{stem}.weight"], given[f"{stem}.bias"], stride=SIZES.patch)
    places = given["vit.embeddings.position_embeddings"][0]
    seen = seen.flatten(2).transpose(1, 2) + places[1:]
    cls_token = given["vit.embeddings.cls_token"][0] + places[:1]
    tokens = torch.cat([cls_token.expand(len(image), 1, -1), side_token[:, None], seen], dim=1)
    for number in range(SIZES.depth):
        tokens = through(tokens, given, f"vit.encoder.layer.{number}", SIZES.heads)
    return functional.layer_norm(
        tokens, tokens.shape[-1:], given["vit.layernorm.weight"], given["vit.layernorm.bias"], 1e-6
    )


def plain_pixels(tokens, given):
    """Return [B, N, P P 3] of the transformers layout's decoder for tokens of all patches."""

    def linear(name, rows):
        return rows @ given[f"decoder.{name}.weight"].T + given[f"decoder.{name}.bias"]

    inner = linear("decoder_embed", torch.cat([tokens[:, :1], tokens[:, 2:]], dim=1))
    inner = inner + given["decoder.decoder_pos_embed"]
    for number in range(SIZES.decoder_depth):
        inner = through(inner, given, f"decoder.decoder_layers.{number}", SIZES.decoder_heads)
    inner = functional.layer_norm(
        inner, inner.shape[-1:], given["decoder.decoder_norm.weight"], given["decoder.decoder_norm.bias"], 1e-6
    )
    return linear("decoder_pred", inner)[:, 1:]
