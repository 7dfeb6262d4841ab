"""A U-Net whose transformer blocks work on merged tokens while it draws (specs/spatia.md section 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tomesd
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from mistline.config.generation import Merge
from mistline.core.errors import InputError
from mistline.models.layers.merging import TokenMap, choose, importance, join, n_anchors, similarity, token_map

_LARGEST_REDUCTION = 8  # the published method knows sides of the latents by 1, 2, 4 and 8


class Merging:
    """What a sampler tells the U-Net that it draws with. This one merges nothing and needs nothing."""

    def observe(self, conditional: Tensor, unconditional: Tensor) -> None:
        """Take note of a step's two predictions, each [B, c, H, W]."""


class ImportanceMerging(Merging):
    """All branches of transformer blocks on the tokens that guidance changes most, and what joins them.

    A map of tokens belongs to a resolution, not to a block: the first block there makes it, from the importance of the
    step before and its own queries and keys, and all others of that resolution, on the way up as well, use it. Both
    halves of a batch under guidance share the conditional half's map.

    Args:
        merge: the settings.
    """

    def __init__(self, merge: Merge) -> None:
        self._merge = merge
        self._predictions: tuple[Tensor, Tensor] | None = None
        self._maps: dict[tuple[int, int], TokenMap] = {}
        self._seen = 0

    def observe(self, conditional: Tensor, unconditional: Tensor) -> None:
        """Take note of a step's two predictions, each [B, c, H, W]: the next `refresh` steps merge by them."""
        if self._seen % self._merge.refresh == 0:
            self._predictions = (conditional.detach(), unconditional.detach())
            self._maps.clear()
        self._seen += 1

    def map(self, attention: Attention, sides: tuple[int, int], tokens: Tensor) -> TokenMap | None:
        """Return the map of a resolution h x w; None where tokens [B, h * w, C] are not to be merged.

        Args:
            attention: self-attention of the block that asks; makes queries and keys where the map is not made yet.
            sides: h, w.
            tokens: normed, as the block's branches take them.

        Raises:
            InputError: the step before was of other images.
        """
        if self._predictions is None or sides[0] * sides[1] < self._merge.smallest:
            return None
        if sides not in self._maps:
            self._maps[sides] = self._made(self._predictions, attention, sides, tokens)
        return self._maps[sides]

    def _made(
        self, predictions: tuple[Tensor, Tensor], attention: Attention, sides: tuple[int, int], tokens: Tensor
    ) -> TokenMap:
        n_images = len(predictions[0])
        repeats, rest = divmod(len(tokens), n_images)
        if rest or repeats not in (1, 2):
            what = f"{len(tokens)} images after a step of {n_images}"
            raise InputError("token merging", what, "enter `merging` anew for every batch that is drawn")
        matters = importance(*predictions, sides)
        n_kept = n_anchors(matters.shape[1], self._merge.ratio)
        chosen = choose(matters, n_kept, sides if self._merge.coverage else None)
        anchor, other = (tokens[:n_images].take_along_dim(index[:, :, None], dim=1) for index in chosen)
        alike = similarity(attention.to_q(anchor), attention.to_k(other), attention.heads)
        return token_map(join(chosen, alike, self._merge.kappa, self._merge.overlap), repeats)


@contextmanager
def merging(unet: UNet2DConditionModel, merge: Merge) -> Iterator[Merging]:
    """Let a U-Net's transformer blocks work on merged tokens inside; at exit it is as it was.

    Under guidance a batch is the conditional images and then the same images without condition. The sampler tells both
    predictions of each step to `observe`; before the first nothing is merged. Enter it anew for every batch.

    Args:
        unet: to draw with.
        merge: the settings; with `ratio` 0 and `way` none nothing is touched.

    Raises:
        InputError: the U-Net has no transformer blocks, or it is merged already.
    """
    if merge.way == "none" or merge.ratio == 0:
        yield Merging()
    elif merge.way == "tomesd":
        with bipartite(unet, merge.ratio):
            yield Merging()
    else:
        handle = ImportanceMerging(merge)
        with _patched(unet, handle):
            yield handle


@contextmanager
def _patched(unet: UNet2DConditionModel, handle: ImportanceMerging) -> Iterator[None]:
    _check(_blocks(unet))
    hooks, branches = [], []
    try:
        for layer in unet.modules():
            if isinstance(layer, Transformer2DModel):
                sides: list[int] = []  # of this layer's input; its blocks see tokens in a row
                hooks.append(layer.register_forward_pre_hook(_telling(sides)))
                for block in _blocks(layer):
                    for branch in (part for part in (block.attn1, block.attn2, block.ff) if part is not None):
                        branch.forward = _on_merged(branch.forward, block.attn1, handle, sides)
                        branches.append(branch)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for branch in branches:
            del branch.forward


def _telling(sides: list[int]) -> Callable[..., None]:
    def tell(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        sides[:] = given[0].shape[-2:]

    return tell


def _on_merged(
    whole: Callable[..., Tensor], attention: Attention, handle: ImportanceMerging, sides: list[int]
) -> Callable[..., Tensor]:
    """Return a branch's forward that works on merged tokens.

    A block adds its branches to what came in, so that this stays as fine as it was, also between its branches; one
    merging for a whole block was no faster and lost twice as much of the quality.
    """

    def forward(hidden_states: Tensor, *rest: Any, **options: Any) -> Tensor:
        height, width = sides
        made = handle.map(attention, (height, width), hidden_states)
        if made is None:
            return whole(hidden_states, *rest, **options)
        return made.unmerge.of(whole(made.merge.of(hidden_states), *rest, **options))

    return forward


@contextmanager
def bipartite(unet: UNet2DConditionModel, ratio: float, reduction: int = 1, whole: bool = False) -> Iterator[None]:
    """Let a U-Net merge tokens as tomesd does (bipartite, a destination in each square of 2 x 2, exclusive pairs).

    Its destinations are drawn; the draw begins anew with each entry. A batch of an odd size, which guidance never has,
    takes the first of each square.

    Args:
        unet: to draw with.
        ratio: share of the tokens merged away, of which it does at most three quarters.
        reduction: resolutions that are merged, down to this part of the latents' side; 1 is the authors' choice.
        whole: cross-attention and feed-forward as well, which the authors advise against.

    Raises:
        InputError: the U-Net has no transformer blocks, or it is merged already.
    """
    blocks = _blocks(unet)
    _check(blocks)
    reduction = min(reduction, _LARGEST_REDUCTION)
    tomesd.apply_patch(unet, ratio, max_downsample=reduction, merge_crossattn=whole, merge_mlp=whole)
    try:
        device = next(unet.parameters()).device
        unet._tome_info["args"]["generator"] = torch.Generator(device).manual_seed(0)
        yield
    finally:
        tomesd.remove_patch(unet)
        for module in (unet, *blocks):
            vars(module).pop("_tome_info", None)


def _blocks(module: nn.Module) -> list[BasicTransformerBlock]:
    return [part for part in module.modules() if isinstance(part, BasicTransformerBlock)]


def _check(blocks: list[BasicTransformerBlock]) -> None:
    if not blocks:
        raise InputError("U-Net", "it has no transformer blocks whose tokens could be merged", "set merge way to none")
    if any("forward" in vars(block.attn1) or hasattr(block, "_tome_info") for block in blocks):
        raise InputError("U-Net", "its tokens are merged already", "leave one `merging` before entering another")
