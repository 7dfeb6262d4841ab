"""How an image of any channels becomes what a patch kernel of three colours reads.

`C` channels, `D` width, `P` side of a patch, `N` patches.

Three channels are colours; one is shown in all three; others are mixed to colours by learned weights. All three are
linear, and so is the scaling by mean and deviation of the colours: they are folded into the kernel, which then reads
the image's bytes as they are. The result is that of mixing, scaling and convolving, up to rounding, at a cost that
does not depend on the number of images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue in 0..1 (ImageNet)
_CENTRE = 128.0  # bytes minus this are exact in bfloat16, and leave next to no offset to the bias


class Channels(nn.Module):
    """Folds an image's channels into a kernel of three colours.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)
        if channels == 3:
            self.register_buffer("mix", torch.eye(3), persistent=False)
        elif channels == 1:
            self.register_buffer("mix", torch.ones(3, 1), persistent=False)
        else:
            self.mix = nn.Parameter(torch.full((3, channels), 1 / channels))

    def kernel(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return [D, P * P * C] and [D] for patches as `centred` gives them.

        Args:
            weight: [D, 3, P, P], of scaled colours.
            bias: [D].
        """
        with torch.autocast(weight.device.type, enabled=False):
            scaled = weight.permute(0, 2, 3, 1) / self.std  # [D, P, P, 3]
            shift = self.mix.sum(dim=1) * (_CENTRE / 255) - self.mean  # [3]
            folded = (scaled @ self.mix / 255).flatten(1)  # [D, P * P * C]
            return folded, bias + scaled.sum(dim=(1, 2)) @ shift


def centred(patches: Tensor) -> Tensor:
    """Return float32 patches around 0, of bytes or of light in 0..1; for `Channels.kernel`."""
    if patches.dtype == torch.uint8:
        return patches.float() - _CENTRE
    return patches.float() * 255 - _CENTRE


def light(patches: Tensor, channels: int) -> Tensor:
    """Return float32 [..., P * P * C] as pixel losses compare them: light in 0..1, and colours scaled."""
    found = patches.float() / 255 if patches.dtype == torch.uint8 else patches.float()
    if channels != 3:
        return found
    mean, std = (torch.tensor(values, device=found.device) for values in (MEAN, STD))
    return ((found.unflatten(-1, (-1, 3)) - mean) / std).flatten(-2)
