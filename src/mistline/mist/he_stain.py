"""How much haematoxylin a pixel of an H&E holds: colour deconvolution.

Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution", Anal Quant Cytol Histol
23:291-299, 2001: a dye's optical density in red, green and blue is proportional to its amount, so amounts follow
from densities by one matrix. The vectors are theirs; no scanner has them exactly, which blurs the amounts but keeps
nuclei apart from the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HAEMATOXYLIN = (0.650, 0.704, 0.286)
_EOSIN = (0.072, 0.990, 0.105)


def _weights() -> NDArray[np.float32]:
    """Return the share of each colour's density in the amount of haematoxylin."""
    dyes = np.array([_HAEMATOXYLIN, _EOSIN, np.cross(_HAEMATOXYLIN, _EOSIN)])
    dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
    return np.asarray(np.linalg.inv(dyes)[:, 0], dtype=np.float32)


_WEIGHTS = _weights()
_DENSITY = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)


def haematoxylin(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the amount of haematoxylin [...] of RGB pixels [..., 3]: 0 on white, about 1 in a dark nucleus."""
    amount = _DENSITY[pixels[..., 0]] * _WEIGHTS[0]
    amount += _DENSITY[pixels[..., 1]] * _WEIGHTS[1]
    amount += _DENSITY[pixels[..., 2]] * _WEIGHTS[2]
    return np.asarray(amount)
