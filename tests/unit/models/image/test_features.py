from __future__ import annotations

import pytest
import torch

from mistline.models.image import features


def _disc(radius: float, size: int = 32) -> torch.Tensor:
    axis = torch.linspace(-1, 1, size)
    return (torch.hypot(axis[:, None], axis[None]) < radius).float()[None, None]


def test_groups_are_finite_and_of_fixed_width():
    image = (torch.cat([_disc(0.5), torch.zeros(1, 1, 32, 32)]) * 255).to(torch.uint8)
    parts = features.groups(image, torch.tensor([8.0, 12.0]), 20.0)
    assert [part.shape[1] for part in parts] == [256, 256, 7, 10, 1]
    assert all(torch.isfinite(part).all() for part in parts)


def test_common_scale_shows_a_larger_crop_larger():
    light = _disc(0.8).repeat(2, 1, 1, 1)
    shown = features.at_common_scale(light, torch.tensor([10.0, 20.0]), 20.0)
    areas = shown.sum(dim=(1, 2, 3))
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.15)


def test_common_scale_is_zero_outside_the_crop():
    shown = features.at_common_scale(torch.ones(1, 1, 32, 32), torch.tensor([10.0]), 20.0)[0, 0]
    assert shown[:3].max() == 0
    assert shown[6:10, 6:10].min() == 1


def test_orientation_of_stripes_is_seen():
    stripes = (torch.arange(32) // 4 % 2).float().expand(1, 1, 32, 32).contiguous()
    across = features.gradients(stripes)[0, :8]
    along = features.gradients(stripes.transpose(2, 3).contiguous())[0, :8]
    torch.testing.assert_close(across, torch.tensor([1.0, 0, 1, 0, 1, 0, 1, 0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(along, torch.tensor([-1.0, 0, 1, 0, -1, 0, 1, 0]), atol=1e-4, rtol=0)


def test_intensities_of_a_flat_image():
    found = features.intensities(torch.full((1, 2, 32, 32), 0.25))
    torch.testing.assert_close(found, torch.tensor([[0.25] * 6 + [0.0]] * 2).reshape(1, 14))
