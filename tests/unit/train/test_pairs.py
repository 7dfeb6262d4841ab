from __future__ import annotations

import logging
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import InputError
from mistline.models.contract import Needs
from mistline.store.latents import Encoded, LatentOrigin, LatentWriter
from mistline.store.pairs import States, write_pairs
from mistline.train.pairs import PairSource

ORIGIN = LatentOrigin(0, "a" * 64, "c" * 64, "d" * 64, 16, ((True,) * 4,) * 2)
STATES = States("kind", {"A": 10, "B": 10})
SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
NEEDS = Needs(batch_size=2)


def encode(folder: Path, slide: str, first: int) -> Path:
    """Write 12 cells c0 .. c11; every latent of cell i is first + i, every token -(first + i)."""
    n = len(SPLITS)
    cells = pd.DataFrame({"slide": slide, "donor": "d", "cell_id": [f"c{i}" for i in range(n)], "row": range(n)})
    cells = cells.assign(split=SPLITS, x_um=1.0, y_um=2.0, side_um=5.0)
    value = (first + np.arange(n, dtype=np.float32)).reshape(-1, 1, 1, 1)
    shape = (n, 2, 3, 3)
    encoded = Encoded(np.broadcast_to(value, shape), np.full(shape, 0.1, np.float32), np.tile(-value, (1, 2, 4, 5)))
    with LatentWriter(folder / slide, ORIGIN, n) as writer:
        writer.put(cells, encoded)
    return folder / slide


def write(path: Path, rows: list[tuple[str, str, str, str, float]]) -> Path:
    """Write pairs of (slide, split, control, target, confidence)."""
    table = pd.DataFrame(rows, columns=["slide", "split", "control_id", "target_id", "confidence"])
    write_pairs(path, table.assign(transition="A -> B", group="0_0"), STATES)
    return path


@pytest.fixture(scope="module")
def latents(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("latents")
    return {slide: encode(folder, slide, first) for slide, first in (("s1", 0), ("s2", 100))}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pairs")
    one = [("s1", "train", f"c{i}", f"c{i + 1}", 0.1 * (i + 1)) for i in range(5)] + [("s1", "test", "c8", "c9", 0.5)]
    two = [("s2", "train", "c0", "c5", 1.0), ("s2", "val", "c6", "c7", 0.25), ("s2", "train", "c0", "unknown", 0.9)]
    return [write(folder / "s1", one), write(folder / "s2", two)]


def test_a_record_is_the_target_with_its_control_cell_as_the_start(latents, pairs):
    source = PairSource(latents, pairs, "train")
    assert (source.count(), source.slides, source.latent_shape) == (6, ("s1", "s2"), (2, 3, 3))
    batches = list(source.batches(NEEDS))
    batch = batches[-1]
    assert (batch.slide, batch.record_id) == (["s1", "s2"], ["c5", "c5"])
    assert batch.mean.shape == batch.start.shape == (2, 2, 3, 3)
    assert batch.mean[:, 0, 0, 0].tolist() == [5, 105]
    assert batch.start[:, 0, 0, 0].tolist() == [4, 100]
    assert batch.tokens[:, 1, 2, 3].tolist() == [-5, -105]
    torch.testing.assert_close(batch.weight, torch.tensor([0.5, 1.0]))
    assert len(batch.xy_um) == 2


def test_no_cell_of_another_split_is_read_whatever_the_file_says(latents, pairs, tmp_path, caplog):
    wrong = write(tmp_path / "s1", [("s1", "train", "c0", "c9", 0.5), ("s1", "train", "c1", "c2", 0.5)])
    with caplog.at_level(logging.INFO, "mistline.train"):
        source = PairSource(latents, [wrong], "train")
    assert source.pairs["target_id"].tolist() == ["c2"]
    assert "1 of 2 train pairs are left out: a cell of them was not encoded" in caplog.text
    places = {name: PairSource(latents, pairs, name).pairs for name in ("train", "val", "test")}
    for name, table in places.items():
        used = {int(cell[1:]) for side in ("control_id", "target_id") for cell in table[side]}
        assert {SPLITS[cell] for cell in used} == {name}


def test_an_epoch_is_shuffled_entered_anywhere_and_shared_by_ranks(latents, pairs):
    source = PairSource(latents, pairs, "train")

    def read(**part):
        return [f"{batch.slide} {batch.record_id}" for batch in source.batches(NEEDS, 3, **part)]

    def records(*batches):
        return sorted(cell for batch in chain(*batches) for cell in zip(batch.slide, batch.record_id, strict=True))

    whole = read()
    assert len(whole) == source.n_batches(NEEDS, 3) == 3
    assert records(source.batches(NEEDS, 3)) == sorted(map(tuple, source.pairs[["slide", "target_id"]].to_numpy()))
    assert whole != [f"{batch.slide} {batch.record_id}" for batch in source.batches(NEEDS)]
    assert read(skip=2) == whole[2:]
    ranks = [source.batches(NEEDS, 3, rank=rank, world=2) for rank in (0, 1)]
    assert records(*ranks) == records(source.batches(NEEDS, 3))


def test_of_several_pairs_with_one_target_the_surest_leads_to_it(latents, tmp_path):
    rows = [("s1", "test", f"c{i}", "c11", confidence) for i, confidence in ((8, 0.2), (9, 0.6), (10, 0.6))]
    path = write(tmp_path / "s1", [("s1", "test", "c11", "c8", 1.0), *rows])
    source = PairSource(latents, [path], "test")
    assert len(source.cells) == 8
    turned = source.cells.iloc[::-1]
    found = source.read(source.reaching(turned))
    assert found.record_id == ["c11", "c8"]  # no other cell is anyone's target
    assert found.start[:, 0, 0, 0].tolist() == [10, 11]  # of c9 and c10 the first by name: c10


def test_a_split_without_pairs_is_refused_for_training_alone(latents, tmp_path):
    path = write(tmp_path / "s1", [("s1", "val", "c6", "c7", 0.5)])
    with pytest.raises(InputError, match="none of 1 pairs has two encoded cells of the train split"):
        PairSource(latents, [path], "train")
    assert PairSource(latents, [path], "test").count() == 0
    assert list(PairSource(latents, [path], "test").batches(NEEDS)) == []
    with pytest.raises(ValueError, match="encoded cells give latents and tokens"):
        PairSource(latents, [path], "val").n_batches(Needs(scale="niche"))
