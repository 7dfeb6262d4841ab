"""Tiny weights under the names that published encoders use, and what their authors' code makes of tokens.

Written from the published descriptions alone, with torch's own attention, so that it shares nothing with the loaders.
"""

from __future__ import annotations

import json
import pickle

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from mistline.core.hashing import hash_file

WIDTH, HEADS, HIDDEN, N_TOKENS = 128, 2, 48, 30  # heads of 64, as in all of them


def draws(shapes, seed=3):
    torch.manual_seed(seed)
    return {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}


def linear(name, out, given):
    return {f"{name}.weight": (out, given), f"{name}.bias": (out,)}


def norm(name):
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def geneformer(depth=3, length=16):
    shapes = {
        "bert.embeddings.word_embeddings.weight": (N_TOKENS, WIDTH),
        "bert.embeddings.position_embeddings.weight": (length, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": (2, WIDTH),
        "cls.predictions.bias": (N_TOKENS,),
    }
    shapes |= norm("bert.embeddings.LayerNorm")
    for i in range(depth):
        layer = f"bert.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
        shapes |= norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")
        shapes |= linear(f"{layer}.intermediate.dense", HIDDEN, WIDTH) | linear(f"{layer}.output.dense", WIDTH, HIDDEN)
    return draws(shapes)


def attended(x, w, names, out):
    attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    state = {
        "in_proj_weight": torch.cat([w[f"{name}.weight"] for name in names]),
        "in_proj_bias": torch.cat([w[f"{name}.bias"] for name in names]),
        "out_proj.weight": w[f"{out}.weight"],
        "out_proj.bias": w[f"{out}.bias"],
    }
    attention.load_state_dict(state)
    return attention(x, x, x, need_weights=False)[0]


def normed(x, w, name, eps):
    return functional.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], eps)


def through(x, w, name):
    return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def geneformer_cell(w, token, depth=3):
    """Tokens of one cell after the layer before the last: [L, D]."""
    embeddings = "bert.embeddings"
    x = w[f"{embeddings}.word_embeddings.weight"][token] + w[f"{embeddings}.position_embeddings.weight"][: len(token)]
    x = normed(x + w[f"{embeddings}.token_type_embeddings.weight"][0], w, f"{embeddings}.LayerNorm", 1e-12)[None]
    for i in range(depth - 1):
        layer = f"bert.encoder.layer.{i}"
        names = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        seen = attended(x, w, names, f"{layer}.attention.output.dense")
        x = normed(x + seen, w, f"{layer}.attention.output.LayerNorm", 1e-12)
        hidden = functional.relu(through(x, w, f"{layer}.intermediate.dense"))
        x = normed(x + through(hidden, w, f"{layer}.output.dense"), w, f"{layer}.output.LayerNorm", 1e-12)
    return x[0]


def scgpt(depth=2, flash=True):
    shapes = {"encoder.embedding.weight": (N_TOKENS, WIDTH), "decoder.fc.0.weight": (4, WIDTH)}
    shapes |= norm("encoder.enc_norm") | norm("value_encoder.norm")
    shapes |= linear("value_encoder.linear1", WIDTH, 1) | linear("value_encoder.linear2", WIDTH, WIDTH)
    for i in range(depth):
        layer = f"transformer_encoder.layers.{i}"
        inner = linear(f"{layer}.self_attn.Wqkv", 3 * WIDTH, WIDTH)
        shapes |= inner if flash else {name.replace("Wqkv.", "in_proj_"): shape for name, shape in inner.items()}
        shapes |= linear(f"{layer}.self_attn.out_proj", WIDTH, WIDTH) | norm(f"{layer}.norm1") | norm(f"{layer}.norm2")
        shapes |= linear(f"{layer}.linear1", HIDDEN, WIDTH) | linear(f"{layer}.linear2", WIDTH, HIDDEN)
    return draws(shapes)


def scgpt_cell(w, token, value, depth=2):
    """The first token of one cell after all layers, of length 1: [D]."""
    x = normed(w["encoder.embedding.weight"][token], w, "encoder.enc_norm", 1e-5)
    hidden = functional.relu(through(value[:, None], w, "value_encoder.linear1"))
    x = (x + normed(through(hidden, w, "value_encoder.linear2"), w, "value_encoder.norm", 1e-5))[None]
    for i in range(depth):
        prefix = f"transformer_encoder.layers.{i}."
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval()
        own = {n.removeprefix(prefix).replace("Wqkv.", "in_proj_"): v for n, v in w.items() if n.startswith(prefix)}
        layer.load_state_dict(own)
        x = layer(x)
    return functional.normalize(x[0, 0], dim=0)


def saved(folder, name, content):
    """Write a file as its authors do; its settings."""
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(content, path)
    elif path.suffix == ".pt":
        torch.save(content, path)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        path.write_text(json.dumps(content))
    return str(path), hash_file(path)


def settings(folder, **files):
    """Settings that name files: key -> (file name, content)."""
    found = {}
    for key, (name, content) in files.items():
        found[key], found[f"{key}_sha256"] = saved(folder, name, content)
    return found
