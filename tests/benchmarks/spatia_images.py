"""SPATIA's image side: a training step of `small` against a plain masked autoencoder, and what hidden patches save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from mistline.models.spatia.image import ImageEncoder
from mistline.models.spatia.image_decoder import ImageDecoder, pixel_loss
from mistline.models.spatia.image_sizes import IMAGE_SIZES
from mistline.models.spatia.patches import draw_keep
from tests.benchmarks.bench import Bench, Gate, alternate
from tests.benchmarks.plain_mae import PlainMae

_BATCH = 32
_STEPS = 4  # in a round; each is timed by itself, so that both ways meet the same neighbours
_MASK_RATIO = 0.75
_SMALL = IMAGE_SIZES["small"]


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # CPU seconds of several threads count their waiting
    try:
        for channels, name in ((1, "one channel"), (3, "colours")):
            found = alternate(_steps(channels), bench.rounds * _STEPS)
            note = f"batch {_BATCH}, a quarter of the patches seen"
            yield Gate(f"CPU of a training step, {name}", "s", found["ours"], found["plain"], 1.0, note=note)
        found = alternate(_encodings(), bench.rounds)
        yield Gate("CPU of encoding 49 of 196 patches against all", "s", found["quarter"], found["all"], 3.3)
    finally:
        torch.set_num_threads(before)


def _images(channels: int, size: int = _SMALL.size) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (_BATCH, channels, size, size), dtype=torch.uint8, generator=draw)


def _steps(channels: int) -> dict[str, Callable[[], float]]:
    """Return both ways of a few steps: forward, backward and the optimiser, on the same bytes."""
    image, side = _images(channels), torch.full((_BATCH,), 20.0)
    torch.manual_seed(0)
    parts = nn.ModuleList([ImageEncoder(_SMALL, channels), ImageDecoder(_SMALL, channels)])
    plain = PlainMae(_SMALL)
    draw = torch.Generator().manual_seed(0)

    def ours() -> Tensor:
        keep = draw_keep(_BATCH, _SMALL.n_patches, _MASK_RATIO, draw)
        return pixel_loss(parts[1], parts[0](image, side, "cell", keep), image, keep)

    return {"ours": _timed(parts, ours), "plain": _timed(plain, lambda: plain(image, _MASK_RATIO))}


def _timed(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    step()  # allocates the optimiser's state

    def seconds() -> float:
        start = time.process_time()
        step()
        return time.process_time() - start

    return seconds


def _encodings() -> dict[str, Callable[[], float]]:
    """Return encoding with and without hidden patches, of images with as many patches as in the paper."""
    sizes = replace(_SMALL, size=224)
    encoder, image, side = ImageEncoder(sizes, 1), _images(1, 224), torch.full((_BATCH,), 20.0)
    keep = draw_keep(_BATCH, sizes.n_patches, _MASK_RATIO, torch.Generator().manual_seed(0))

    def seconds(kept: Tensor | None) -> float:
        start = time.process_time()
        with torch.inference_mode():
            encoder(image, side, "cell", kept)
        return time.process_time() - start

    return {"all": lambda: seconds(None), "quarter": lambda: seconds(keep)}
