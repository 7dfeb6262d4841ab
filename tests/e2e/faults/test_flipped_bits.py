"""A bit of a shard flips: a record is refused by name, never read wrongly, and `mistline doctor` finds every flip."""

from __future__ import annotations

import faulthandler
import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mistline.core.errors import InputError
from mistline.store.reader import ShardReader
from mistline.store.verify import verify
from tests.e2e.faults.runner import Runner

UNHARMED, REFUSED, WRONG = "unharmed", "refused", "wrong data"
BEYOND = "ended by SIGBUS"
REMEDY = "remove the shard folder and run its stage again."


class Shard:
    """A shard folder of 80 cells, in which one bit at a time is flipped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "0000.lmdb"
        self.path.chmod(0o644)
        self.data = self.path.read_bytes()
        reader = ShardReader(folder)
        self.records = [reader.raw(key) for key in range(len(reader))]

    def flip(self, position: int, bit: int) -> None:
        """Make the file anew with one bit other than it was."""
        changed = bytearray(self.data)
        changed[position] ^= 1 << bit
        self.path.unlink()  # another file: what is mapped stays as it was
        self.path.write_bytes(changed)

    def outcome(self) -> str:
        """Read every record in a child, which a damaged file may end; say what came of it."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            faulthandler.disable()
            signal.alarm(20)
            os.write(writing, self._read().encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as stream:
            told = stream.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return told if code == 0 else f"ended by {signal.Signals(-code).name}"

    def _read(self) -> str:
        seen = set()
        try:
            reader = ShardReader(self.folder)
        except InputError:
            return REFUSED
        for key, expected in enumerate(self.records):
            try:
                reader[key]
                seen.add(UNHARMED if reader.raw(key) == expected else WRONG)
            except InputError:
                seen.add(REFUSED)
        return next(item for item in (WRONG, REFUSED, UNHARMED) if item in seen)


@pytest.fixture
def shard(made, tmp_path: Path) -> Shard:
    shutil.copytree(made.folder / "shards/cell", tmp_path / "cell")
    return Shard(tmp_path / "cell")


def test_a_flip_within_a_record_is_refused_by_name(shard: Shard, row, fault) -> None:
    fault("flipped bits", 60)
    chance = random.Random(0)
    sentence = ""
    for _ in range(60):
        key = chance.randrange(len(shard.records))
        start = shard.data.find(shard.records[key])
        assert start >= 0, "a record does not lie in one piece"
        place = start + chance.choice([0, 4, 5, 8, 17, 21, chance.randrange(len(shard.records[key]))])
        shard.flip(min(place, start + len(shard.records[key]) - 1), chance.randrange(8))
        reader = ShardReader(shard.folder)
        with pytest.raises(InputError, match=f"{re.escape(str(shard.path))}, key {key}: .*; {REMEDY}") as caught:
            reader[key]
        sentence = str(caught.value)
        others = [other for other in range(len(reader)) if other != key]
        assert [reader.raw(other) for other in others] == [shard.records[other] for other in others]
        reader.packed(others)
    row(
        "bad input",
        "a flipped bit in a record of a shard",
        "3 (60 of 60)",
        sentence.replace(str(shard.folder), "shards/cell"),
    )


def test_flips_anywhere_never_give_wrong_data(shard: Shard, row, fault) -> None:
    fault("flipped bits", 200)
    chance = random.Random(1)
    found: Counter[str] = Counter()
    for _ in range(200):
        shard.flip(chance.randrange(len(shard.data)), chance.randrange(8))
        found[shard.outcome()] += 1
    assert set(found) <= {UNHARMED, REFUSED}, found
    assert found[REFUSED] > 100
    told = f"{found[REFUSED]} of 200 refused; {found[UNHARMED]} lay in no record: all read right"
    row("bad input", "a flipped bit anywhere in a shard", "3 or 0", told)


def _links(shard: Shard) -> Iterator[int]:
    """Yield where LMDB's own key, size and page number of records lie: low bytes of each."""
    for key in range(len(shard.records)):
        stored = key.to_bytes(8, "big")
        place = shard.data.find(stored)
        while place >= 0:
            node = shard.data[place - 8 : place]
            if node[6:] == b"\x08\0" and node[5] == 0 and node[4] in (0, 1):
                yield from (place + 7, place - 8, place - 6)
                if node[4] == 1:
                    yield from (place + 8, place + 10)
            place = shard.data.find(stored, place + 1)


def test_flips_in_the_links_to_records(shard: Shard, row, fault) -> None:
    """LMDB trusts its links: one that leads beyond the file ends the process, one to another record is refused."""
    fault("flipped bits", 150)
    chance = random.Random(2)
    links = list(_links(shard))
    assert len(links) > 100
    found: Counter[str] = Counter()
    for place in chance.sample(links, 150):
        shard.flip(place, chance.randrange(8))
        found[shard.outcome()] += 1
    assert set(found) <= {UNHARMED, REFUSED, BEYOND}, found
    assert found[REFUSED] > 100
    told = f"{found[REFUSED]} of 150 refused; {found[UNHARMED]} read right; {found[BEYOND]} ended by SIGBUS; none wrong"
    row("bad input", "a flipped bit in LMDB's links to records", "3, 0 or -7", told)


def test_doctor_finds_every_flip(
    finished: Path, runner: Runner, tmp_path: Path, told: Callable[..., str], row, fault
) -> None:
    fault("flipped bits", 25)
    shutil.copytree(finished / "results", tmp_path / "results")
    ended = runner("doctor", "--dataset", tmp_path / "results", cwd=tmp_path)
    assert ended.code == 0
    assert "all as they were sealed" in ended.output
    row(
        "bad input", "mistline doctor --dataset, nothing flipped", 0, ended.output.strip().replace(str(tmp_path), "...")
    )
    chance = random.Random(3)
    files = sorted((tmp_path / "results/slides").rglob("*.lmdb"))
    files += sorted((tmp_path / "results/slides").glob("*/*.parquet"))
    for number in range(25):
        path = chance.choice(files)
        data = path.read_bytes()
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.chmod(0o644)
        path.write_bytes(changed)
        with pytest.raises(InputError, match=f"{re.escape(str(path))}: its bytes are not those that were sealed"):
            verify(tmp_path / "results")
        if number == 0:
            ended = runner("doctor", "--dataset", tmp_path / "results", cwd=tmp_path)
            assert ended.code == 3
            assert told("mistline doctor --dataset, one bit flipped", ended).startswith("results/slides/")
        path.write_bytes(data)
    verify(tmp_path / "results")
