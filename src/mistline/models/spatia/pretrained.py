"""Weights of a published ViT-MAE, from a file on disk.

Two layouts are read: that of transformers (`vit.encoder.layer.0.attention.attention.query.weight`) and that of timm
and of the authors (`blocks.0.attn.qkv.weight`), from safetensors or a state dict. The file's tensors become the
encoder's as they are: load last, and draw nothing afterwards. Shapes never tell the number of heads, and a wrong one
would cut the attention elsewhere without any error; so it is looked up and compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from mistline.core.errors import InputError
from mistline.models import weights
from mistline.models.spatia.image import ImageEncoder
from mistline.models.spatia.image_decoder import ImageDecoder

_CLASSIFIERS = ("head.", "classifier.")
_OTHER_FILE = "give weights of a ViT-MAE of the model's sizes, or choose their sizes"


@dataclass(frozen=True, slots=True)
class _Names:
    """How a kind of file calls the tensors of one side, encoder or decoder: ours -> theirs.

    Args:
        outer: of what lies outside the blocks, and `blocks` itself.
        parts: of a block; a part of ours may be several of theirs, joined.
    """

    outer: Mapping[str, str]
    parts: Mapping[str, tuple[str, ...]]

    def of(self, name: str) -> tuple[str, ...]:
        """Return the file's names of a tensor of ours."""
        if name in self.outer:
            return (self.outer[name],)
        stem, _, kind = name.rpartition(".")
        if stem in self.outer:
            return (f"{self.outer[stem]}.{kind}",)
        _, number, part = stem.split(".", 2)
        return tuple(f"{self.outer['blocks']}.{number}.{piece}.{kind}" for piece in self.parts[part])

    def depth(self, given: Iterable[str]) -> int:
        """Return the number of blocks in a file."""
        numbered = re.compile(rf"{re.escape(self.outer['blocks'])}\.(\d+)\.")
        return 1 + max((int(match[1]) for match in map(numbered.match, given) if match), default=-1)


_PARTS_TIMM = {name: (name,) for name in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
_PARTS_TRANSFORMERS = {
    "norm1": ("layernorm_before",),
    "norm2": ("layernorm_after",),
    "attn.qkv": tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
    "attn.proj": ("attention.output.dense",),
    "mlp.fc1": ("intermediate.dense",),
    "mlp.fc2": ("output.dense",),
}
_DECODER = {
    "mask_token": "mask_token",
    "positions": "decoder_pos_embed",
    "embed": "decoder_embed",
    "norm": "decoder_norm",
    "pixels": "decoder_pred",
}
_LAYOUTS = {
    "transformers": {
        "encoder": _Names(
            {
                "cls_token": "embeddings.cls_token",
                "positions": "embeddings.position_embeddings",
                "patch": "embeddings.patch_embeddings.projection",
                "norm": "layernorm",
                "blocks": "encoder.layer",
            },
            _PARTS_TRANSFORMERS,
        ),
        "decoder": _Names(
            {ours: f"decoder.{theirs}" for ours, theirs in (_DECODER | {"blocks": "decoder_layers"}).items()},
            _PARTS_TRANSFORMERS,
        ),
    },
    "timm": {
        "encoder": _Names(
            {
                "cls_token": "cls_token",
                "positions": "pos_embed",
                "patch": "patch_embed.proj",
                "norm": "norm",
                "blocks": "blocks",
            },
            _PARTS_TIMM,
        ),
        "decoder": _Names(_DECODER | {"blocks": "decoder_blocks"}, _PARTS_TIMM),
    },
}


@dataclass(frozen=True, slots=True)
class _Heads:
    """Where the number of heads is found.

    Args:
        keys: in a config.json beside the file, or in the metadata of a safetensors file.
        usual: by width, of every published ViT.
    """

    keys: tuple[str, ...]
    usual: Mapping[int, int]


_HEADS = {
    "encoder": _Heads(("num_attention_heads", "num_heads"), {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}),
    "decoder": _Heads(("decoder_num_attention_heads", "decoder_num_heads"), {512: 16}),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file gave.

    Args:
        layout: transformers or timm.
        decoder: whether the decoder's weights are from the file as well; False where it holds none.
    """

    layout: str
    decoder: bool


def load(path: Path, sha256: str, encoder: ImageEncoder, decoder: ImageDecoder | None = None) -> Loaded:
    """Replace the weights of an encoder, and of its decoder where the file holds one, by those of a file.

    The scale embedding and the side token are no part of a ViT-MAE and stay as they are; so does the decoder's last
    layer where the images have other channels than 1 or 3. For one channel it becomes the mean of the three colours'.

    Raises:
        InputError: the file is missing, not of the hash, not readable, or of a network of another size or head count;
            encoder and decoder are then as they were.
    """
    weights.check(path, sha256, "image_weights_sha256", "correct image_weights")
    given = {name.removeprefix("vit."): value for name, value in weights.read(path).items()}
    notes = _notes(path)
    layout = next((name for name, names in _LAYOUTS.items() if names["encoder"].outer["cls_token"] in given), None)
    if layout is None:
        raise InputError(path, "it holds no ViT-MAE in the layout of transformers or timm", _OTHER_FILE)
    names = _LAYOUTS[layout]
    _refuse_unknown(path, given, names)
    filled = [(encoder, _matched(path, given, names["encoder"], encoder, "encoder"))]
    _refuse_other_heads(path, notes, encoder.sizes.width, encoder.sizes.heads, "encoder")
    has_decoder = names["decoder"].outer["mask_token"] in given
    if decoder is not None and has_decoder:
        filled.append((decoder, _matched(path, given, names["decoder"], decoder, "decoder")))
        _refuse_other_heads(path, notes, decoder.sizes.decoder_width, decoder.sizes.decoder_heads, "decoder")
    for module, tensors in filled:
        module.load_state_dict(tensors, strict=False)
    return Loaded(layout, decoder=len(filled) == 2)


def _notes(path: Path) -> dict[str, Any]:
    """Return what is noted of the weights: in a config.json beside them, or in the file itself."""
    beside = path.with_name("config.json")
    try:
        notes = dict(json.loads(beside.read_text("utf-8"))) if beside.is_file() else {}
    except (ValueError, TypeError):
        raise InputError(beside, "no readable JSON object", "copy it again, or remove it") from None
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as opened:
            notes |= opened.metadata() or {}
    return notes


def _refuse_unknown(path: Path, given: Mapping[str, Tensor], names: Mapping[str, _Names]) -> None:
    """Refuse tensors that a ViT-MAE has not: a network with them is another one, though all else fits."""
    known = set()
    for side in names.values():
        parts = [f"blocks.{number}.{part}" for number in range(side.depth(given)) for part in side.parts]
        ours = [name for name in side.outer if name != "blocks"] + parts
        known.update(piece for name in ours for kind in ("weight", "bias") for piece in side.of(f"{name}.{kind}"))
        known.update(side.outer.values())
    unknown = sorted(name for name in given if name not in known and not name.startswith(_CLASSIFIERS))
    if unknown:
        raise InputError(path, f"it holds {unknown[0]}, which no ViT-MAE has", _OTHER_FILE)


def _matched(
    path: Path, given: Mapping[str, Tensor], names: _Names, module: ImageEncoder | ImageDecoder, side: str
) -> dict[str, Tensor]:
    """Return the file's tensors by our names, in our shapes."""
    wanted = {name: value.shape for name, value in module.state_dict().items() if not _is_new(name, module)}
    depths = names.depth(given), len(module.blocks)
    if depths[0] != depths[1]:
        raise InputError(path, f"its {side} has {depths[0]} blocks, and the model's {depths[1]}", _OTHER_FILE)
    missing = sorted(theirs for name in wanted for theirs in names.of(name) if theirs not in given)
    if missing:
        told = f"it lacks {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise InputError(path, told, "copy it again, or give weights of a whole ViT-MAE")
    found = {}
    for name, shape in wanted.items():
        value = torch.cat([given[theirs] for theirs in names.of(name)])
        if name.startswith("pixels.") and isinstance(module, ImageDecoder) and module.channels == 1:
            value = value.unflatten(0, (-1, 3)).mean(dim=1)
        while value.ndim > len(shape) and len(value) == 1:  # tokens and positions come as one row of a batch
            value = value[0]
        if value.shape != shape:
            what = f"its {side} has {names.of(name)[0]} of shape {list(value.shape)}, and the model's {list(shape)}"
            raise InputError(path, what, _OTHER_FILE)
        found[name] = value
    return found


def _is_new(name: str, module: nn.Module) -> bool:
    """Return whether a tensor of ours is no part of a ViT-MAE, or reads or writes channels that it has not."""
    if isinstance(module, ImageDecoder):
        return name.startswith("pixels.") and module.channels not in (1, 3)
    return name.startswith(("side.", "scale", "channels."))


def _refuse_other_heads(path: Path, notes: Mapping[str, Any], width: int, heads: int, side: str) -> None:
    keys, usual = _HEADS[side].keys, _HEADS[side].usual
    told = next((notes[key] for key in keys if key in notes), usual.get(width))
    if told is None:
        what = f"nothing tells how many heads its {side} has"
        raise InputError(path, what, f"put a config.json with {keys[0]} beside it")
    if str(told) != str(heads):
        raise InputError(path, f"its {side} has {told} heads, and the model's {heads}", f"set the {side}'s heads to it")
