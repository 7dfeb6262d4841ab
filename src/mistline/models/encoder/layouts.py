"""From the names that published weights have to those of timm's networks.

Every function takes name -> tensor as the file has them and returns name -> tensor as the network has them, without
what belongs to other parts of a published model (text towers, mask tokens, buffers). A name that it does not know is
kept, so that the loader can refuse it by name. Weights that already have the network's names pass unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]
_QKV = ("q", "k", "v")


def timm_names(given: Mapping[str, Tensor]) -> Weights:
    """Return the weights as they are."""
    return dict(given)


def clip(given: Mapping[str, Tensor]) -> Weights:
    """Return the image tower of a CLIP model of `transformers` (`vision_model...`), its projection as the head."""
    if "vision_model.embeddings.class_embedding" not in given:
        return dict(given)
    other = ("text_model.", "text_projection.", "logit_scale", "vision_model.embeddings.position_ids")
    kept = {name: value for name, value in given.items() if not name.startswith(other)}
    named = _renamed(
        _joined(kept, r"(.*)\.self_attn\.([qkv])_proj\.(weight|bias)", _QKV, "{0}.attn.qkv.{1}"),
        [
            (r"^vision_model\.embeddings\.class_embedding$", "cls_token"),
            (r"^vision_model\.embeddings\.patch_embedding\.", "patch_embed.proj."),
            (r"^vision_model\.embeddings\.position_embedding\.weight$", "pos_embed"),
            (r"^vision_model\.pre_layrnorm\.", "norm_pre."),
            (r"^vision_model\.post_layernorm\.", "norm."),
            (r"^vision_model\.encoder\.layers\.", "blocks."),
            (r"\.self_attn\.out_proj\.", ".attn.proj."),
            (r"\.layer_norm([12])\.", r".norm\1."),
            (r"^visual_projection\.", "head."),
        ],
    )
    named["cls_token"] = named["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in named:
        named["pos_embed"] = named["pos_embed"].reshape(1, *named["pos_embed"].shape[-2:])
    if "head.weight" in named:
        named["head.bias"] = torch.zeros(len(named["head.weight"]))
    return named


def dinov2(given: Mapping[str, Tensor]) -> Weights:
    """Return a DINOv2 network with registers, of its authors' code (`blocks...`) or of `transformers` (`encoder...`).

    There the class token has a place of its own; timm's networks with registers have it added to the token.
    """
    kept = {name: value for name, value in given.items() if not name.endswith("mask_token")}
    query = ("query", "key", "value")
    named = _renamed(
        _joined(kept, r"(.*)\.attention\.attention\.(query|key|value)\.(weight|bias)", query, "{0}.attn.qkv.{1}"),
        [
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^(embeddings\.)?register_tokens$", "reg_token"),
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^encoder\.layer\.", "blocks."),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
            (r"\.mlp\.(weights_in|w12)\.", ".mlp.fc1."),
            (r"\.mlp\.(weights_out|w3)\.", ".mlp.fc2."),
            (r"^layernorm\.", "norm."),
        ],
    )
    already = named.keys() == given.keys()
    if not already and {"cls_token", "pos_embed"} <= named.keys():
        named["cls_token"] = named["cls_token"] + named["pos_embed"][:, :1]
        named["pos_embed"] = named["pos_embed"][:, 1:]
    return named


def swin_stem(given: Mapping[str, Tensor]) -> Weights:
    """Return a Swin transformer of timm before 0.9, where a stage ended with what now begins the next one."""
    buffers = ("attn_mask", "relative_position_index")
    kept = {name: value for name, value in given.items() if not name.endswith(buffers)}
    if not any(name.startswith("layers.0.downsample.") for name in kept):
        return kept
    return {re.sub(r"^layers\.(\d+)\.downsample\.", _next_stage, name): value for name, value in kept.items()}


def conch(given: Mapping[str, Tensor]) -> Weights:
    """Return CONCH's image tower with the pooling that it was contrasted by, before the projection."""
    if "visual.trunk.cls_token" not in given:
        return dict(given)
    parts = (("visual.trunk.", "trunk."), ("visual.attn_pool_contrast.", "pool."), ("visual.ln_contrast.", "norm."))
    return {
        mine + name.removeprefix(theirs): value
        for name, value in given.items()
        for theirs, mine in parts
        if name.startswith(theirs)
    }


LAYOUTS: Mapping[str, Callable[[Mapping[str, Tensor]], Weights]] = {
    "timm": timm_names,
    "clip": clip,
    "dinov2": dinov2,
    "swin_stem": swin_stem,
    "conch": conch,
}


def _next_stage(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) + 1}.downsample."


def _renamed(given: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> Weights:
    """Return the weights with every rule applied to every name."""
    named = {}
    for name, value in given.items():
        for pattern, mine in rules:
            name = re.sub(pattern, mine, name)
        named[name] = value
    return named


def _joined(given: Mapping[str, Tensor], pattern: str, order: Sequence[str], name: str) -> Weights:
    """Return the weights with query, key and value of every layer joined into one array.

    Args:
        given: by name.
        pattern: groups 1 and 3 are the layer and weight or bias, group 2 is one of `order`.
        order: of the parts; a layer that lacks one is left as it is.
        name: of the joined array, with places for groups 1 and 3.
    """
    found = {known: match for known in given if (match := re.fullmatch(pattern, known))}
    parts: dict[tuple[str, str], dict[str, str]] = {}
    for known, match in found.items():
        parts.setdefault((match[1], match[3]), {})[match[2]] = known
    whole = {key: [names[part] for part in order] for key, names in parts.items() if len(names) == len(order)}
    gone = {known for names in whole.values() for known in names}
    rest = {known: value for known, value in given.items() if known not in gone}
    return rest | {name.format(*key): torch.cat([given[known] for known in names]) for key, names in whole.items()}
