"""Tiny weights under the names that published encoders use, and what their authors' code makes of an image.

Written from the published descriptions alone, in plain torch, so that it shares nothing with the loaders it checks.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS, SIDE = 24, 2, 32


def draws(shapes, seed=3):
    torch.manual_seed(seed)
    return {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}


def linear(name, out, given, *, bias=True):
    return {f"{name}.weight": (out, given)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name, width=WIDTH):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def clip(patch=16, projection=10):
    n = (SIDE // patch) ** 2
    shapes = {
        "logit_scale": (),
        "text_model.final_layer_norm.weight": (8,),
        "text_projection.weight": (projection, 8),
        "vision_model.embeddings.class_embedding": (WIDTH,),
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": (n + 1, WIDTH),
        "visual_projection.weight": (projection, WIDTH),
    }
    shapes |= norm("vision_model.pre_layrnorm") | norm("vision_model.post_layernorm")
    for i in range(2):
        layer = f"vision_model.encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.self_attn.{part}", WIDTH, WIDTH)
        shapes |= norm(f"{layer}.layer_norm1") | norm(f"{layer}.layer_norm2")
        shapes |= linear(f"{layer}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{layer}.mlp.fc2", WIDTH, 4 * WIDTH)
    return draws(shapes) | {"vision_model.embeddings.position_ids": torch.arange(n + 1)[None]}


def normed(x, w, name, eps):
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def through(x, w, name):
    return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def attended(x, w, names):
    parts = [through(x, w, name).unflatten(-1, (HEADS, -1)).transpose(1, 2) for name in names]
    share = (parts[0] @ parts[1].transpose(-1, -2) / parts[0].shape[-1] ** 0.5).softmax(-1)
    return (share @ parts[2]).transpose(1, 2).flatten(2)


def clip_features(w, image, patch=16):
    x = (
        functional.conv2d(image, w["vision_model.embeddings.patch_embedding.weight"], stride=patch)
        .flatten(2)
        .transpose(1, 2)
    )
    token = w["vision_model.embeddings.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([token, x], 1) + w["vision_model.embeddings.position_embedding.weight"]
    x = normed(x, w, "vision_model.pre_layrnorm", 1e-5)
    for i in range(2):
        layer = f"vision_model.encoder.layers.{i}"
        names = [f"{layer}.self_attn.{part}_proj" for part in "qkv"]
        seen = attended(normed(x, w, f"{layer}.layer_norm1", 1e-5), w, names)
        x = x + through(seen, w, f"{layer}.self_attn.out_proj")
        hidden = through(normed(x, w, f"{layer}.layer_norm2", 1e-5), w, f"{layer}.mlp.fc1")
        x = x + through(hidden * torch.sigmoid(1.702 * hidden), w, f"{layer}.mlp.fc2")
    return through(normed(x[:, 0], w, "vision_model.post_layernorm", 1e-5), w, "visual_projection")


def hibou(patch=14, hidden=64, registers=4):
    n = 4
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.mask_token": (1, WIDTH),
        "embeddings.register_tokens": (1, registers, WIDTH),
        "embeddings.position_embeddings": (1, n + 1, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
    }
    shapes |= norm("layernorm")
    for i in range(2):
        layer = f"encoder.layer.{i}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            shapes |= linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
        shapes |= norm(f"{layer}.norm1") | norm(f"{layer}.norm2")
        shapes |= {f"{layer}.layer_scale{k}.lambda1": (WIDTH,) for k in (1, 2)}
        shapes |= linear(f"{layer}.mlp.weights_in", 2 * hidden, WIDTH)
        shapes |= linear(f"{layer}.mlp.weights_out", WIDTH, hidden)
    return draws(shapes)


def hibou_features(w, image, patch=14):
    stem = "embeddings.patch_embeddings.projection"
    x = functional.conv2d(image, w[f"{stem}.weight"], w[f"{stem}.bias"], stride=patch).flatten(2).transpose(1, 2)
    x = torch.cat([w["embeddings.cls_token"].expand(len(x), -1, -1), x], 1) + w["embeddings.position_embeddings"]
    x = torch.cat([x[:, :1], w["embeddings.register_tokens"].expand(len(x), -1, -1), x[:, 1:]], 1)
    for i in range(2):
        layer = f"encoder.layer.{i}"
        names = [f"{layer}.attention.attention.{part}" for part in ("query", "key", "value")]
        seen = attended(normed(x, w, f"{layer}.norm1", 1e-6), w, names)
        x = x + through(seen, w, f"{layer}.attention.output.dense") * w[f"{layer}.layer_scale1.lambda1"]
        gate, value = through(normed(x, w, f"{layer}.norm2", 1e-6), w, f"{layer}.mlp.weights_in").chunk(2, -1)
        x = (
            x
            + through(functional.silu(gate) * value, w, f"{layer}.mlp.weights_out") * w[f"{layer}.layer_scale2.lambda1"]
        )
    return normed(x, w, "layernorm", 1e-6)[:, 0]


HIBOU_OWN = (
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.", ""),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense", "attn.proj"),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("mlp.weights_in", "mlp.w12"),
    ("mlp.weights_out", "mlp.w3"),
    ("layernorm", "norm"),
)


def hibou_of_its_authors(w):
    """The same weights under the names of the authors' own repository."""
    named = {}
    for name, value in w.items():
        if ".attention.attention." in name:
            continue
        for theirs, own in HIBOU_OWN:
            name = name.replace(theirs, own)
        named[name] = value
    for i in range(2):
        for kind in ("weight", "bias"):
            parts = [w[f"encoder.layer.{i}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            named[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(parts)
    return named


def conch_pooled(w, tokens, heads):
    """What CONCH's attentional pooler makes of tokens, before its projection."""
    width, given = w["visual.attn_pool_contrast.query"].shape[1], tokens.shape[-1]
    pool = nn.MultiheadAttention(width, heads, kdim=given, vdim=given)
    pool.load_state_dict({n.split("attn.")[1]: v for n, v in w.items() if "attn_pool_contrast.attn." in n})
    seen = normed(tokens, w, "visual.attn_pool_contrast.ln_k", 1e-5).transpose(0, 1)
    query = normed(w["visual.attn_pool_contrast.query"], w, "visual.attn_pool_contrast.ln_q", 1e-5)
    found = pool(query[:, None].repeat(1, len(tokens), 1), seen, seen, need_weights=False)[0][0]
    return normed(found, w, "visual.ln_contrast", 1e-5)
