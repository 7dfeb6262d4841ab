"""Encoders that timm does not have whole: CTransPath's stem and CONCH's pooling, around timm's own transformers.

`B` images, `S` side in pixels, `D` features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mistline.models.encoder.presets import Encoder

_PATCH = 4  # pixels: the stem halves the image twice
_STEM_SHARE = 8  # its first convolution has an eighth of the features


def built(encoder: Encoder) -> nn.Module:
    """Return the network with random weights; float32 [B, 3, S, S] -> [B, D].

    Raises:
        TypeError: the architecture has no such option.
    """
    if encoder.layout == "conch":
        return Conch(encoder.size, encoder.options)
    stem: dict[str, Any] = {"embed_layer": ConvolutionalStem} if encoder.layout == "swin_stem" else {}
    network: nn.Module = timm.create_model(
        encoder.architecture, pretrained=False, num_classes=encoder.projection, **encoder.options, **stem
    )
    return network


class ConvolutionalStem(nn.Module):
    """CTransPath's patches (Wang et al. 2022): two strided convolutions and a linear one instead of one.

    Args:
        img_size: side of the image, pixels, or both sides.
        patch_size: 4.
        in_chans: channels of the image.
        embed_dim: features of a patch.
        norm_layer: of the patches; None for none.
        **further: what timm gives a patch embedding besides, decided here.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = _PATCH,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: type[nn.Module] | None = None,
        **further: Any,
    ) -> None:
        super().__init__()
        del further
        if patch_size != _PATCH or embed_dim % _STEM_SHARE:
            raise TypeError(f"the stem makes patches of {_PATCH} px and a multiple of {_STEM_SHARE} features")
        sides = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
        self.img_size = sides
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (sides[0] // patch_size, sides[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        layers: list[nn.Module] = []
        before, after = in_chans, embed_dim // _STEM_SHARE
        for _ in range(2):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before, after = after, 2 * after
        self.proj = nn.Sequential(*layers, nn.Conv2d(before, embed_dim, 1))
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Turn [B, 3, S, S] into [B, S / 4, S / 4, D]."""
        found: Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return found


class Conch(nn.Module):
    """CONCH's image tower (Lu et al. 2024): one learned query attends to all tokens; before the projection.

    Args:
        size: side of the image, pixels.
        options: embed_dim, depth and num_heads of the transformer, pooled_dim and pooled_heads of the query.
    """

    def __init__(self, size: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = dict(options)
        width, heads = sizes.pop("pooled_dim"), sizes.pop("pooled_heads")
        self.trunk = VisionTransformer(img_size=size, patch_size=16, num_classes=0, **sizes)
        self.pool = _Query(width, heads, self.trunk.num_features)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Turn [B, 3, S, S] into [B, D]."""
        found: Tensor = self.norm(self.pool(self.trunk.forward_features(image)))
        return found


class _Query(nn.Module):
    """A learned query that attends to tokens of another width."""

    def __init__(self, width: int, heads: int, tokens_width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width))
        self.attn = nn.MultiheadAttention(width, heads, kdim=tokens_width, vdim=tokens_width, batch_first=True)
        self.ln_q = nn.LayerNorm(width)
        self.ln_k = nn.LayerNorm(tokens_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn [B, N, tokens_width] into [B, width]."""
        seen = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        found: Tensor = self.attn(query, seen, seen, need_weights=False)[0][:, 0]
        return found
