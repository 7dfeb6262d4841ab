"""Resizing stored crops and tiles to the size a model wants, in a worker, on the consumer or on a device.

Everywhere the same two ways: area averaging when an image shrinks, bilinear when it grows. In main memory cv2 does
it, so that resizing late gives the very pixels of resizing at once. On a device it is two matrix products in
float32, which round once where cv2 rounds its weights: no pixel differs by more than 1 grey level.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.data.ragged import Ragged


def resize_into(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize every channel into `out`: area averaging when it shrinks, bilinear when it grows, a copy otherwise.

    Args:
        image: uint8 [C, H, W].
        out: uint8 [C, S, S], contiguous; written in place.
    """
    if image.shape == out.shape:
        out[:] = image
        return
    size = out.shape[-1]
    how = cv2.INTER_AREA if size < max(image.shape[1:]) else cv2.INTER_LINEAR
    for channel, target in zip(image, out, strict=True):
        cv2.resize(channel, (size, size), dst=target, interpolation=how)


def resize(images: Ragged, size: int) -> Tensor:
    """Resize images of different sides, where they lie.

    Args:
        images: of a batch at native size; in main memory, or moved to a device.
        size: S, pixels.

    Returns:
        uint8 [B, C, S, S] on the same device.
    """
    if images.pixels.device.type != "cpu":
        return resize_by_products(images, size)
    out = np.empty((len(images), images.n_channels, size, size), dtype=np.uint8)
    for image, target in zip(images, out, strict=True):
        resize_into(image.numpy(), target)
    return torch.from_numpy(out)


def resize_by_products(images: Ragged, size: int) -> Tensor:
    """Resize as `resize` does, with torch alone: W image W^T, a sparse row of weights W for each output pixel.

    Memory is 4 bytes times B, C and the square of the largest side; at most 1 grey level beside cv2.
    """
    device, sides = images.pixels.device, images.side
    if not len(images):
        return torch.empty((0, images.n_channels, size, size), dtype=torch.uint8, device=device)
    weights = _weights(sides, size).to(device)  # [B, S, M]
    padded = _padded(images).float()  # [B, C, M, M]
    high = torch.einsum("bsm,bcmn->bcsn", weights, padded)
    return torch.einsum("bcsn,btn->bcst", high, weights).round_().clamp_(0, 255).to(torch.uint8)


def normalise(image: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn grey levels into what a network reads; to be called where the batch is used, as bytes travel faster.

    Args:
        image: uint8 [B, C, S, S], on any device.
        mean: of each plane, in 0..1; one plane of the image is repeated for all of them.
        std: of each plane.
        dtype: of the result.

    Returns:
        [B, len(mean), S, S]: (image / 255 - mean) / std.
    """
    if image.shape[1] not in (1, len(mean)) or len(mean) != len(std):
        raise ValueError(f"{image.shape[1]} channels fit neither {len(mean)} means nor {len(std)} deviations")
    scale = 1 / (255 * torch.tensor(std, dtype=torch.float32))
    shift = -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32)
    shape = (1, len(mean), 1, 1)
    scale, shift = (part.view(shape).to(image.device, dtype) for part in (scale, shift))
    return torch.addcmul(shift, image.to(dtype), scale)


def _weights(sides: Tensor, size: int) -> Tensor:
    """Return float32 [B, S, M]: what each of the S output pixels takes of each of a side's pixels, M the largest."""
    pixel = torch.arange(int(sides.max()), dtype=torch.float64)  # [M]
    side = sides.to(torch.float64)[:, None, None]  # [B, 1, 1]
    place = torch.arange(size, dtype=torch.float64)[:, None]  # [S, 1]
    scale = side / size
    overlap = torch.minimum(pixel + 1, (place + 1) * scale) - torch.maximum(pixel, place * scale)  # [B, S, M]
    centre = torch.clamp((place + 0.5) * scale - 0.5, min=0).minimum(side - 1)  # [B, S, 1]; edge pixels go on outside
    linear = 1 - (pixel - centre).abs()
    return torch.where(scale > 1, overlap / scale, linear).clamp_(min=0).float()


def _padded(images: Ragged) -> Tensor:
    """Return uint8 [B, C, M, M]: images at the top left, below and right of them anything finite."""
    largest, n_channels = int(images.side.max()), images.n_channels
    if bool((images.side == largest).all()):
        return images.pixels.view(len(images), n_channels, largest, largest)
    device = images.pixels.device
    side = images.side.to(device)[:, None, None, None]
    first = images.offset[:-1].to(device)[:, None, None, None]
    channel = torch.arange(n_channels, device=device)[:, None, None]
    place = torch.arange(largest, device=device)
    row, col = place[:, None].minimum(side - 1), place[None, :].minimum(side - 1)
    return images.pixels[first + (channel * side + row) * side + col]
