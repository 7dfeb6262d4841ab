from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import InputError
from mistline.data.order import Order, Plan
from mistline.models.contract import Needs
from mistline.store.latents import Encoded, LatentOrigin, LatentWriter
from mistline.train.latents import LatentSource

ORIGIN = LatentOrigin(0, "a" * 64, "c" * 64, "d" * 64, 16, ((True,) * 4,) * 2)


def _write(root: Path, slide: str, first: int, n: int, origin: LatentOrigin = ORIGIN) -> Path:
    """Write cells whose numbers, and the numbers in their latents and tokens, are first, first + 1, ..."""
    numbers = np.arange(first, first + n)
    cells = pd.DataFrame({"slide": slide, "donor": f"of {slide}", "cell_id": [f"c{i}" for i in numbers]})
    cells["row"] = numbers - first
    cells["split"] = np.where(numbers % 4 == 0, "test", "train")
    cells = cells.assign(x_um=numbers * 1.0, y_um=numbers * 2.0, side_um=8.0)
    value = numbers.astype(np.float32)[:, None, None, None]
    with LatentWriter(root / slide, origin, n) as writer:
        parts = np.tile(value, (1, 2, 3, 3)), np.tile(value / 2, (1, 2, 3, 3)), np.tile(-value, (1, 2, 4, 5))
        writer.put(cells, Encoded(*parts))
    return root / slide


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("latents")
    return {slide: _write(root, slide, first, n) for slide, first, n in (("s1", 0, 21), ("s2", 100, 30))}


def _ids(source: LatentSource, *args, **part) -> list[list[str]]:
    return [batch.record_id for batch in source.batches(*args, **part)]


def test_a_batch_holds_what_belongs_to_its_cells(folders):
    source = LatentSource(folders, "train")
    assert (source.count(), source.slides) == (15 + 22, ("s1", "s2"))
    assert (source.latent_shape, source.token_shape, source.present) == ((2, 3, 3), (2, 4, 5), ORIGIN.present)
    for batch in source.batches(Needs(batch_size=8), shuffle=3):
        number = torch.tensor([float(name[1:]) for name in batch.record_id])
        assert batch.slide == ["s1" if value < 100 else "s2" for value in number]
        assert batch.donor == [f"of {slide}" for slide in batch.slide]
        assert torch.equal(batch.mean, number[:, None, None, None].expand(-1, 2, 3, 3))
        assert torch.equal(batch.std, batch.mean / 2)
        assert torch.equal(batch.tokens, -number[:, None, None, None].expand(-1, 2, 4, 5))
        assert torch.equal(batch.xy_um, torch.stack([number, 2 * number], 1))
        assert (number % 4 != 0).all()
    assert LatentSource(folders, "test").count() == 6 + 8
    assert LatentSource(folders, "val").count() == 0


@pytest.mark.parametrize("shuffle", [None, 5])
def test_order_is_that_of_any_dataset(folders, shuffle):
    source, needs = LatentSource(folders, "train"), Needs(batch_size=4)
    names = source.cells["cell_id"].to_numpy()
    for rank in (0, 1):
        plan = Plan(4, shuffle is not None, shuffle or 0, rank=rank, world=2, even=None if shuffle is None else "cut")
        expected = [names[rows].tolist() for rows in Order([37], plan)]
        part = {"rank": rank, "world": 2}
        assert _ids(source, needs, shuffle, **part) == expected
        assert source.n_batches(needs, shuffle, **part) == len(expected)
        assert _ids(source, needs, shuffle, skip=2, **part) == expected[2:]


def test_an_epoch_holds_every_cell_once(folders):
    source, needs = LatentSource(folders, "train"), Needs(batch_size=5)
    epochs = [[name for batch in _ids(source, needs, shuffle) for name in batch] for shuffle in (1, 2, 1, None)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert {frozenset(epoch) for epoch in epochs} == {frozenset(source.cells["cell_id"])}
    assert epochs[3] == source.cells["cell_id"].tolist()


def test_folders_that_do_not_belong_together_are_refused(folders, tmp_path):
    other = _write(tmp_path, "s3", 0, 5, replace(ORIGIN, autoencoder_sha256="b" * 64))
    with pytest.raises(InputError, match=r"s3: made by other models, or of another dataset, than .*s1"):
        LatentSource({**folders, "s3": other}, "train")
    with pytest.raises(InputError, match="holds cells of s2, not of s1"):
        LatentSource({"s1": folders["s2"]}, "train")
    with pytest.raises(ValueError, match="encoded cells give latents and tokens"):
        LatentSource(folders, "train").n_batches(Needs(image_size=24))
