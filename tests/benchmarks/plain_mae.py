"""A masked autoencoder on timm's blocks in its plainest form, to measure against.

Every patch is embedded and every patch is predicted, as the recipe has it: one channel is shown as three, the visible
patches are picked after embedding, and the error of patches that were seen is multiplied by zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mistline.models.spatia.channels import MEAN, STD
from mistline.models.spatia.image_sizes import ImageSizes


@dataclass(frozen=True, slots=True)
class Seen:
    """Images as far as the encoder saw them.

    Args:
        tokens: [B, 1 + K, D], the class token and the patches seen.
        light: [B, 3, S, S] the images.
        back: int64 [B, N] place of each patch in the order drawn, of which the first K are seen.
    """

    tokens: Tensor
    light: Tensor
    back: Tensor


class PlainMae(nn.Module):
    """Images to the loss.

    Args:
        sizes: of encoder and decoder.
    """

    def __init__(self, sizes: ImageSizes) -> None:
        super().__init__()
        width, inner, n = sizes.width, sizes.decoder_width, sizes.n_patches
        self.patch = sizes.patch
        self.embed = nn.Conv2d(3, width, sizes.patch, sizes.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, n + 1, width) * 0.02, requires_grad=False)
        ratio = sizes.mlp / width
        self.blocks = nn.ModuleList(Block(width, sizes.heads, ratio, qkv_bias=True) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.inner_places = nn.Parameter(torch.randn(1, n + 1, inner) * 0.02, requires_grad=False)
        ratio, heads = sizes.decoder_mlp / inner, sizes.decoder_heads
        self.inner_blocks = nn.ModuleList(Block(inner, heads, ratio, qkv_bias=True) for _ in range(sizes.decoder_depth))
        self.inner_norm = nn.LayerNorm(inner)
        self.pixels = nn.Linear(inner, 3 * sizes.patch**2)

    def forward(self, image: Tensor, mask_ratio: float) -> Tensor:
        """Return the loss of uint8 [B, 1 or 3, S, S]."""
        seen = self.encode(image, mask_ratio)
        return self.loss(seen, seen.tokens)

    def encode(self, image: Tensor, mask_ratio: float) -> Seen:
        """Return what is seen of uint8 [B, 1 or 3, S, S]."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        light = (image.expand(-1, 3, -1, -1).float() / 255 - mean) / std  # [B, 3, S, S]
        tokens = self.embed(light).flatten(2).transpose(1, 2) + self.places[:, 1:]  # [B, N, D]
        B, N, D = tokens.shape
        order = torch.rand(B, N).argsort(dim=1)
        n_kept = int(N * (1 - mask_ratio))
        seen = tokens.gather(1, order[:, :n_kept, None].expand(-1, -1, D))
        seen = torch.cat([(self.cls_token + self.places[:, :1]).expand(B, -1, -1), seen], dim=1)
        for block in self.blocks:
            seen = block(seen)
        return Seen(self.norm(seen), light, order.argsort(dim=1))

    def loss(self, seen: Seen, tokens: Tensor) -> Tensor:
        """Return the loss of the hidden patches.

        Args:
            seen: of the images.
            tokens: [B, 1 + K, D], its tokens or what became of them.
        """
        B, N = seen.back.shape
        n_kept = tokens.shape[1] - 1
        given = self.inner(tokens)
        filled = torch.cat([given[:, 1:], self.mask_token.expand(B, N - n_kept, -1)], dim=1)
        filled = filled.gather(1, seen.back[:, :, None].expand(-1, -1, filled.shape[2]))
        given = torch.cat([given[:, :1], filled], dim=1) + self.inner_places
        for block in self.inner_blocks:
            given = block(given)
        found = self.pixels(self.inner_norm(given))[:, 1:]  # [B, N, P P 3]
        error = ((found - self._targets(seen.light)) ** 2).mean(dim=2)  # [B, N]
        is_hidden = (seen.back >= n_kept).float()
        return (error * is_hidden).sum() / is_hidden.sum()

    def _targets(self, light: Tensor) -> Tensor:
        B, C, S, _ = light.shape
        side, patch = S // self.patch, self.patch
        cut = light.reshape(B, C, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1)
        cut = cut.reshape(B, side * side, -1)
        variance, mean = cut.var(dim=2, keepdim=True), cut.mean(dim=2, keepdim=True)
        return (cut - mean) / (variance + 1e-6) ** 0.5
