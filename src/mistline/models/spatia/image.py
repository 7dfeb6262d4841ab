"""The image encoder: a ViT-MAE that also reads how large the image's square is, and of which scale.

`B` images, `C` channels, `S` side in pixels, `N` patches, `K` of them seen, `D` width.

As in ViT-MAE (He et al. 2022; specification sections 2.3 and 4): a class token and patches with fixed positions,
pre-norm blocks, a last norm. Only the patches that are seen are embedded, so that an image of which a quarter is kept
costs about a quarter. Nothing is drawn here: without `keep` all patches are seen, and the result is a function of the
image alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.models.spatia.channels import Channels, centred
from mistline.models.spatia.image_block import EPS, ImageBlock
from mistline.models.spatia.image_sizes import ImageSizes
from mistline.models.spatia.patches import patchify, positions, take

SCALES = ("cell", "niche", "tissue")
N_FIRST = 2  # tokens before the patches: class, side
_USUAL_SIDE_UM = 20.0  # of a cell's crop: its logarithm is the origin of the side token


class ImageEncoder(nn.Module):
    """Images to tokens.

    Args:
        sizes: of the encoder.
        channels: C.
    """

    def __init__(self, sizes: ImageSizes, channels: int) -> None:
        super().__init__()
        width = sizes.width
        self.sizes = sizes
        self.channels = Channels(channels)
        self.patch = nn.Conv2d(3, width, sizes.patch, sizes.patch)  # holds the kernel; `Channels` applies it
        self.cls_token = nn.Parameter(torch.empty(width))
        self.register_buffer("positions", positions(sizes.size // sizes.patch, width))
        self.side = nn.Linear(1, width)
        # Zeros: weights from elsewhere know no scales, and start as they were.
        self.scale = nn.Parameter(torch.zeros(len(SCALES), width))
        self.blocks = nn.ModuleList(ImageBlock(width, sizes.heads, sizes.mlp) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        initialise(self)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.xavier_uniform_(self.patch.weight.flatten(1))

    def forward(self, image: Tensor, side_um: Tensor, scale: str, keep: Tensor | None = None) -> Tensor:
        """Return [B, 2 + K, D]: class, side, and the patches seen in the order of `keep`.

        Args:
            image: [B, C, S, S], bytes, or light in 0..1.
            side_um: [B] side of the square shown, micrometres.
            scale: one of `SCALES`, of all images.
            keep: int64 [B, K], the patches seen; all of them for None.

        Raises:
            ValueError: the images are not of the size or the channels the encoder was made for.
        """
        wanted = (self.channels.channels, self.sizes.size, self.sizes.size)
        if image.shape[1:] != wanted:
            raise ValueError(f"images of {tuple(image.shape[1:])} given to an encoder of {wanted}")
        patches = patchify(image, self.sizes.patch)  # [B, N, P * P * C]
        places = self.positions[1:]  # [N, D]
        if keep is not None:
            patches, places = take(patches, keep), places[keep]  # [B, K, ...]
        seen = functional.linear(centred(patches), *self.channels.kernel(self.patch.weight, self.patch.bias))
        seen = seen + (places + self.scale[SCALES.index(scale)])  # [B, K, D]
        return self._encoded(torch.cat([self._first(side_um).to(seen.dtype), seen], dim=1))

    def _first(self, side_um: Tensor) -> Tensor:
        """Return [B, 2, D], the tokens before the patches."""
        cls_token = (self.cls_token + self.positions[0]).expand(len(side_um), -1)
        ratio = (side_um.float() / _USUAL_SIDE_UM).log()[:, None]  # [B, 1]
        return torch.stack([cls_token, self.side(ratio).to(cls_token.dtype)], dim=1)

    def _encoded(self, tokens: Tensor) -> Tensor:
        for layer in self.blocks:
            tokens = layer(tokens)
        return self.norm(tokens)


def initialise(module: nn.Module) -> None:
    """Draw every linear layer as ViT-MAE does: Glorot's uniform weights, no bias."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
