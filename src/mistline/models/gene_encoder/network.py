"""The transformers of published encoders of counts, sized by their own weights.

`B` cells, `L` tokens, `D` width, `F` hidden units, `V` tokens of the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.core.errors import InputError
from mistline.models import weights
from mistline.models.gene_encoder.params import Params

_HEAD = 64  # width of a head in all of them
_EPS = {"ranks": 1e-12, "bins": 1e-5}
_MAX_VALUE = 512.0  # scGPT's values end here
Weights = dict[str, Tensor]


class Network(nn.Module):
    """Tokens of cells to vectors.

    Args:
        reading: ranks (a place for every rank, as BERT has for words) or bins (a value beside every gene).
        shapes: of the weights it will have, by its own names.
    """

    def __init__(self, reading: str, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        n_tokens, width = shapes["token.weight"]
        eps = _EPS[reading]
        self.reading = reading
        self.token = nn.Embedding(n_tokens, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        if reading == "ranks":
            self.place = nn.Embedding(shapes["place.weight"][0], width)
        else:
            self.value = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width))
        depth = 1 + max((int(name.split(".")[1]) for name in shapes if name.startswith("layers.")), default=-1)
        hidden = shapes["layers.0.up.weight"][0] if depth else 0
        self.layers = nn.ModuleList([_Layer(width, hidden, eps) for _ in range(depth)])

    @property
    def max_length(self) -> int:
        """Tokens that it has a place for; 0 for any number."""
        return self.place.num_embeddings if self.reading == "ranks" else 0

    def forward(self, token: Tensor, value: Tensor, used: Tensor, layer: int) -> Tensor:
        """Return what one layer makes of the tokens.

        Args:
            token: int64 [B, L].
            value: float32 [B, L] bins.
            used: bool [B, L], all but padding.
            layer: -1 for the last, -2 for the one before.

        Returns:
            float32 [B, L, D].
        """
        x = self.token(token)
        if self.reading == "ranks":
            x = self.norm(x + self.place.weight[: token.shape[1]])
        else:
            x = self.norm(x) + self.value(value.clamp(max=_MAX_VALUE)[..., None])
        for block in list(self.layers)[: len(self.layers) + 1 + layer]:
            x = block(x, used)
        found: Tensor = x
        return found


class _Layer(nn.Module):
    """Attention and a perceptron, each added to what it saw and normalised after that."""

    def __init__(self, width: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.heads = width // _HEAD
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, used: Tensor) -> Tensor:
        """Turn [B, L, D] into [B, L, D]; tokens that are not used are not looked at."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, _HEAD)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=used[:, None, None, :])
        x = self.norm1(x + self.out(seen.transpose(1, 2).flatten(2)))
        found: Tensor = self.norm2(x + self.down(functional.relu(self.up(x))))
        return found


def pooled(x: Tensor, gene: Tensor, whole: bool, unit: bool) -> Tensor:
    """Return one vector a cell.

    Args:
        x: [B, L, D] tokens.
        gene: bool [B, L], tokens of genes.
        whole: whether the first token stands for the cell; else the mean of its genes does, zeros where it has none.
        unit: whether the vector is brought to length 1.
    """
    mean = (x * gene[..., None]).sum(1) / gene.sum(1, keepdim=True).clamp(min=1)
    found = x[:, 0] if whole else mean
    return functional.normalize(found, dim=-1) if unit else found


def load(params: Params) -> Network:
    """Return the network with the weights of the file.

    Raises:
        InputError: the file is missing, another one, damaged, or of another network.
    """
    path = Path(str(params.weights))
    weights.check(path, str(params.weights_sha256), "weights_sha256", params.encoder.how)
    reading = params.encoder.reading
    given = (_bert if reading == "ranks" else _scgpt)(weights.read(path))
    remedy = f"give the weights of {params.preset} as its authors publish them"
    needed = ("token.weight", "layers.0.up.weight", *(["place.weight"] if reading == "ranks" else []))
    absent = [name for name in needed if name not in given or given[name].ndim != 2]
    if absent or given["token.weight"].shape[1] % _HEAD:
        raise InputError(path, f"it is no {params.preset} ({absent[0] if absent else 'its width'})", remedy)
    network = empty(reading, given)
    weights.fill(network, given, path, remedy)
    return network


def empty(reading: str, given: Mapping[str, Tensor]) -> Network:
    """Return a network of the size of these weights, for inference."""
    network = Network(reading, {name: tuple(value.shape) for name, value in given.items()})
    return network.eval().requires_grad_(False)


def _bert(given: Mapping[str, Tensor]) -> Weights:
    """Return Geneformer's weights, named as BERT's in `transformers`, by the names of `Network`.

    All tokens are of the first type, whose vector is added to every place.
    """
    rules = (
        (r"^bert\.", ""),
        (r"^embeddings\.word_embeddings\.", "token."),
        (r"^embeddings\.position_embeddings\.", "place."),
        (r"^embeddings\.LayerNorm\.", "norm."),
        (r"^encoder\.layer\.", "layers."),
        (r"\.attention\.output\.dense\.", ".out."),
        (r"\.attention\.output\.LayerNorm\.", ".norm1."),
        (r"\.intermediate\.dense\.", ".up."),
        (r"\.output\.dense\.", ".down."),
        (r"\.output\.LayerNorm\.", ".norm2."),
    )
    named = _named(given, rules, ("cls.", "bert.pooler.", "pooler.", "bert.embeddings.position_ids"))
    kind = named.pop("embeddings.token_type_embeddings.weight", None)
    if kind is not None and "place.weight" in named:
        named["place.weight"] = named["place.weight"] + kind[0]
    for name in [name for name in named if ".attention.self.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in named for part in parts):
            named[name.replace("attention.self.query", "qkv")] = torch.cat([named.pop(part) for part in parts])
    return named


def _scgpt(given: Mapping[str, Tensor]) -> Weights:
    """Return scGPT's weights by the names of `Network`; its attention has two spellings."""
    rules = (
        (r"^encoder\.embedding\.", "token."),
        (r"^encoder\.enc_norm\.", "norm."),
        (r"^value_encoder\.linear1\.", "value.0."),
        (r"^value_encoder\.linear2\.", "value.2."),
        (r"^value_encoder\.norm\.", "value.3."),
        (r"^transformer_encoder\.layers\.", "layers."),
        (r"\.self_attn\.(_impl\.)?(Wqkv\.|in_proj_)", ".qkv."),
        (r"\.self_attn\.(_impl\.)?out_proj\.", ".out."),
        (r"\.linear1\.", ".up."),
        (r"\.linear2\.", ".down."),
    )
    kept = ("encoder.", "value_encoder.", "transformer_encoder.")
    return _named({name: value for name, value in given.items() if name.startswith(kept)}, rules, ())


def _named(given: Mapping[str, Tensor], rules: Sequence[tuple[str, str]], left_out: tuple[str, ...]) -> Weights:
    """Return the weights with every rule applied to every name."""
    named = {}
    for name, value in given.items():
        if name.startswith(left_out):
            continue
        for pattern, mine in rules:
            name = re.sub(pattern, mine, name)
        named[name] = value.float()
    return named
