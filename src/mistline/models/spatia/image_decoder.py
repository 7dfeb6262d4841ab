"""The image decoder: from the tokens of the patches seen to the pixels of those that were not.

`B` images, `C` channels, `N` patches, `K` of them seen, `M` of them asked for, `P` side of a patch, `E` width of the
encoder's tokens, `D` of the decoder's.

As in ViT-MAE (He et al. 2022; specification sections 4 and 7), except that the last block and the pixels are computed
only of the patches that are asked for, in the image's own channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.models.spatia.channels import light
from mistline.models.spatia.image import N_FIRST, initialise
from mistline.models.spatia.image_block import EPS, ImageBlock
from mistline.models.spatia.image_sizes import ImageSizes
from mistline.models.spatia.patches import complement, patchify, positions, take

FULL_WEIGHT = 0.1  # of the loss where every patch is seen, section 7
_LEAST_VARIANCE = 1e-6  # of a patch, as in ViT-MAE


class ImageDecoder(nn.Module):
    """Tokens to pixels.

    Args:
        sizes: of the decoder.
        channels: C.
    """

    def __init__(self, sizes: ImageSizes, channels: int) -> None:
        super().__init__()
        width = sizes.decoder_width
        self.sizes, self.channels = sizes, channels
        self.embed = nn.Linear(sizes.width, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        self.register_buffer("positions", positions(sizes.size // sizes.patch, width))
        shape = (width, sizes.decoder_heads, sizes.decoder_mlp)
        self.blocks = nn.ModuleList(ImageBlock(*shape) for _ in range(sizes.decoder_depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.pixels = nn.Linear(width, sizes.patch**2 * channels)
        initialise(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, keep: Tensor | None = None, asked: Tensor | None = None) -> Tensor:
        """Return [B, M, P * P * C], patches of mean 0 and variance 1.

        Args:
            tokens: [B, 2 + K, E] of the encoder, or what became of them; the side token is not read.
            keep: [B, K], the patches that the tokens are of; all of them for None.
            asked: [B, M], the patches wanted; all of them for None.
        """
        given = self.embed(torch.cat([tokens[:, :1], tokens[:, N_FIRST:]], dim=1))  # [B, 1 + K, D]
        if keep is not None:
            B, D = len(given), given.shape[2]
            hidden = self.mask_token.to(given.dtype).expand(B, self.sizes.n_patches, D)
            spread = hidden.scatter(1, keep[:, :, None].expand(-1, -1, D), given[:, 1:])  # [B, N, D]
            given = torch.cat([given[:, :1], spread], dim=1)
        given = given + self.positions
        for layer in self.blocks[:-1]:
            given = layer(given)
        last = self.blocks[-1]
        patches = last(given)[:, 1:] if asked is None else _answer(last, given, asked + 1)
        pixels: Tensor = self.pixels(self.norm(patches))
        return pixels


def _answer(layer: ImageBlock, tokens: Tensor, asked: Tensor) -> Tensor:
    """Return [B, M, D], what a block makes of the tokens asked for; it reads all of [B, L, D]."""
    attention, D = layer.attn, tokens.shape[2]
    before = layer.norm1(tokens)
    weights, biases = (part.split([D, 2 * D]) for part in (attention.qkv.weight, attention.qkv.bias))
    query = functional.linear(take(before, asked), weights[0], biases[0])  # [B, M, D]
    key, value = functional.linear(before, weights[1], biases[1]).chunk(2, dim=2)  # each [B, L, D]
    split = [part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value)]
    answers = take(tokens, asked) + attention.join(functional.scaled_dot_product_attention(*split))
    return layer.feed(answers)


def pixel_loss(decoder: ImageDecoder, tokens: Tensor, image: Tensor, keep: Tensor | None) -> Tensor:
    """Return the mean squared error of hidden patches; a tenth of that of all patches where none is hidden.

    Args:
        decoder: predicts the patches.
        tokens: [B, 2 + K, E].
        image: [B, C, S, S], bytes or light.
        keep: [B, K], the patches that were seen; None for all.
    """
    patches = patchify(image, decoder.sizes.patch)  # [B, N, P * P * C]
    if keep is None:
        return FULL_WEIGHT * _error(decoder(tokens), patches, decoder.channels)
    hidden = complement(keep, decoder.sizes.n_patches)  # [B, N - K]
    return _error(decoder(tokens, keep, hidden), take(patches, hidden), decoder.channels)


def targets(patches: Tensor, channels: int) -> Tensor:
    """Return float32 patches [..., P * P * C], each brought to mean 0 and variance 1."""
    values = light(patches, channels)
    variance, mean = torch.var_mean(values, dim=-1, keepdim=True)
    return (values - mean) * (variance + _LEAST_VARIANCE).rsqrt()


def _error(found: Tensor, patches: Tensor, channels: int) -> Tensor:
    return functional.mse_loss(found.float(), targets(patches, channels))
