from __future__ import annotations

import numpy as np
import pytest

from mistline.mist.he_stain import haematoxylin


def test_haematoxylin_is_told_from_eosin():
    dyes = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
    amounts = np.array([[0, 0], [0.6, 0], [0, 0.6], [0.5, 0.3]])
    pixels = np.rint(256 * 10 ** -(amounts @ dyes) - 1).astype(np.uint8)
    assert haematoxylin(pixels) == pytest.approx(amounts[:, 0], abs=0.02)


def test_white_holds_none_and_black_is_finite():
    found = haematoxylin(np.array([[255, 255, 255], [0, 0, 0]], dtype=np.uint8))
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(found[1])
