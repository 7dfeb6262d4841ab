from __future__ import annotations

import numpy as np
import pytest
import torch

from mistline.data import Ragged, images, normalise, open_dataset, resize
from mistline.data.images import resize_by_products


def _ragged(sides: list[int], n_channels: int = 1) -> Ragged:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, n_channels * side**2, dtype=np.uint8) for side in sides]
    return Ragged(torch.from_numpy(np.concatenate(pixels)), torch.tensor(sides), n_channels)


def test_native_images_are_one_tensor_and_views_of_it():
    crops = _ragged([5, 9, 1], 3)
    assert crops.pixels.shape == (3 * (25 + 81 + 1),)
    assert [tuple(image.shape) for image in crops] == [(3, 5, 5), (3, 9, 9), (3, 1, 1)]
    assert torch.equal(crops[-2], crops[1])
    crops[1][:] = 7
    assert (crops.pixels[75:318] == 7).all()
    with pytest.raises(IndexError):
        crops[3]


@pytest.mark.parametrize("size", [6, 14, 40])
def test_resizing_late_gives_the_pixels_of_resizing_at_once(sealed, size):
    wanted = [3, 400, 17, 240]
    at_once = open_dataset(sealed, image_size=size).__getitems__(wanted)
    late = open_dataset(sealed).__getitems__(wanted).resized(size)
    assert torch.equal(late.image, at_once.image)
    assert torch.equal(late.gene_index, at_once.gene_index)
    with pytest.raises(ValueError, match="image_size='native'"):
        late.resized(size)


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("size", [7, 24, 64, 224])
def test_the_device_s_way_differs_by_one_grey_level_at_most(size, n_channels):
    crops = _ragged([24, 54, 64, 31, 124, 7, 1], n_channels)
    by_cv2, by_torch = resize(crops, size), resize_by_products(crops, size)
    assert by_torch.dtype == torch.uint8
    difference = (by_cv2.int() - by_torch.int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).float().mean()) < 0.15  # of noise; of tissue it is fewer


def test_the_device_s_way_of_equal_sides_and_of_none():
    crops = _ragged([32, 32])
    assert torch.equal(resize_by_products(crops, 32).flatten(), crops.pixels)
    assert resize_by_products(Ragged(crops.pixels[:0], crops.side[:0], 1), 8).shape == (0, 1, 8, 8)
    assert resize(Ragged(crops.pixels[:0], crops.side[:0], 1), 8).shape == (0, 1, 8, 8)


def test_images_elsewhere_are_resized_there(monkeypatch):
    called = []
    monkeypatch.setattr(images, "resize_by_products", lambda ragged, size: called.append((ragged.pixels.device, size)))
    resize(_ragged([4, 4]).each(lambda pixels: pixels.to("meta")), 9)
    assert called == [(torch.device("meta"), 9)]


def test_bytes_become_normalised_planes():
    image = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    found = normalise(image, mean=(0.5, 0.4, 0.0), std=(0.5, 0.2, 1.0))
    assert found.shape == (1, 3, 2, 2)
    torch.testing.assert_close(found[0, 1], torch.tensor([[-2.0, 3.0], [-1.0, 0.0]]))
    torch.testing.assert_close(found[0, 2], torch.tensor([[0.0, 1.0], [0.2, 0.4]]))
    with pytest.raises(ValueError, match="1 channels fit neither 3 means nor 2"):
        normalise(image, (0, 0, 0), (1, 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_resizes_as_main_memory_does(sealed):
    batch = open_dataset(sealed).__getitems__(range(50))
    there = batch.to("cuda").resized(40).image
    assert there.device.type == "cuda"
    assert int((there.cpu().int() - batch.resized(40).image.int()).abs().max()) <= 1
