"""Where nothing can be written: a full disk, a folder without permission; and where two write at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mistline.core.hashing import hash_file
from mistline.store.reader import ShardReader
from tests.e2e.faults.lines import Line
from tests.e2e.faults.runner import Runner, litter, tree
from tests.e2e.faults.toy import Toy

FULL = "the disk is full; free space or choose another --directory, then run again."


@pytest.mark.parametrize(
    ("stage", "kib", "what", "sentence"),
    [
        ("cut-crops", 8, "the first page of a shard", "shards/cell: "),
        ("cut-crops", 64, "half of a shard", "shards/cell: "),
        ("cut-tiles", 64, "a shard of tiles", "shards/niche: "),
        *(("project-image", kib, f"the image, {kib} KiB free", f"image.ome.zarr: {FULL}") for kib in (64, 300, 560)),
        ("read-cells", 4, "a table", f"cells.parquet: {FULL}"),
        *(("read-cells", kib, f"an h5ad, {kib} KiB free", f"counts.h5ad: {FULL}") for kib in (16, 24, 36, 52)),
        ("check-bundle", 0, "a json", f"bundle.json: {FULL}"),
    ],
)
def test_a_full_disk(stage: str, kib: int, what: str, sentence: str, toy: Toy, tmp_path: Path, told, fault) -> None:
    """The output lies on a disk of its own (a tmpfs), which holds so much and no more."""
    fault("full disks")
    disk = tmp_path / "disk"
    disk.mkdir()
    here = toy.words(stage, out=disk)
    listing = tmp_path / "listing.txt"
    ended = toy.runner(*here, cwd=toy.folder, tmpfs=[str(disk), max(kib, 4) * 1024], fill=kib == 0, list=str(listing))
    assert ended.code == 5, ended.output
    shown = told(f"a disk that is full at {what}", ended)
    assert shown.startswith(f"disk/{sentence}"), shown
    assert "free space" in shown
    left = listing.read_text().split()
    assert not [name for name in left if name.endswith(".part")]
    assert sentence.partition(":")[0] not in left


@pytest.mark.parametrize("stage", Toy.STAGES)
def test_a_folder_without_permission(stage: str, toy: Toy, tmp_path: Path, told, fault) -> None:
    """Mode bits are obeyed here even by root."""
    fault("read-only places")
    out = tmp_path / "closed"
    out.mkdir(mode=0o555)
    ended = toy.run(stage, out=out, without_privileges=True)
    assert ended.code == 5, ended.output
    shown = told(f"{stage}: a folder without permission", ended)
    assert shown.endswith("no permission to write here; choose a folder you may write to (--directory)."), shown
    assert list(out.iterdir()) == []


def test_a_read_only_disk(toy: Toy, tmp_path: Path, told, fault) -> None:
    fault("read-only places")
    out = tmp_path / "closed"
    out.mkdir()
    ended = toy.run("read-cells", out=out, read_only=str(out))
    assert ended.code == 5
    assert told("a disk mounted read-only", ended) == (
        "closed/cells.parquet: no permission to write here; choose a folder you may write to (--directory)."
    )
    assert list(out.iterdir()) == []


def test_a_file_in_place_of_the_folder(toy: Toy, tmp_path: Path, told) -> None:
    out = tmp_path / "results"
    out.write_text("mine")
    ended = toy.run("read-cells", out=out)
    assert ended.code == 5
    assert told("a file where the results' folder should be", ended) == (
        "results: file exists; remove what is there, or choose another."
    )
    assert out.read_text() == "mine"


def elsewhere(line: Line, rule: str, place: Path) -> list[str]:
    """Return the command of a job of the line that writes into another folder."""
    job = line.job(rule)
    return [str(place / Path(word).name) if word in job.outputs else word for word in job.words]


def test_a_full_disk_of_the_models_and_the_report(
    line_rule: str, line: Line, nightly: bool, runner: Runner, tmp_path: Path, told, fault
) -> None:
    disk, listing = tmp_path / "disk", tmp_path / "listing.txt"
    disk.mkdir()
    for kib in (0, 24, 96) if nightly else (0,):
        own = {"tmpfs": [str(disk), max(kib, 4) * 1024], "fill": kib == 0, "list": str(listing)}
        ended = runner(*elsewhere(line, line_rule, disk), cwd=line.folder, **own)
        if kib and ended.code == 0:
            break  # there was room enough
        fault("full disks")
        assert ended.code == 5, ended.output
        assert "the disk is full; free space" in told(f"{line_rule}: a disk that is full after {kib} KiB", ended)
        assert not [name for name in listing.read_text().split() if name.endswith(".part")]


def test_a_read_only_disk_of_the_models_and_the_report(
    line_rule: str, line: Line, runner: Runner, tmp_path: Path, told, fault
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    fault("read-only places")
    ended = runner(*elsewhere(line, line_rule, closed), cwd=line.folder, read_only=str(closed))
    assert ended.code == 5, ended.output
    assert "no permission to write here" in told(f"{line_rule}: a disk mounted read-only", ended)
    assert list(closed.iterdir()) == []


def test_two_processes_write_one_shard_folder(toy: Toy, row) -> None:
    """At once, several times over: each ends well, and the folder is whole and right."""
    shards = toy.folder / "shards/cell"
    words = toy.words("cut-crops")
    assert toy.runner(*words, cwd=toy.folder).code == 0
    expected = tree(toy.folder / "shards")
    for _ in range(4):
        shutil.rmtree(shards)
        ended = toy.runner.together([words] * 3, cwd=toy.folder)
        assert [item.code for item in ended] == [0, 0, 0], "\n".join(item.output for item in ended)
        assert tree(toy.folder / "shards") == expected
        assert not litter(toy.folder)
        assert len(ShardReader(shards)) == 80
    row(
        "bad input",
        "three processes that write one shard folder at once",
        0,
        "works: each ends well, the shards are whole",
    )


def test_a_writer_that_is_killed_leaves_the_others_alone(toy: Toy) -> None:
    expected = hash_file(toy.folder / "shards/cell")
    words = toy.words("cut-crops")
    killed = toy.runner(*words, cwd=toy.folder, kill_at_change=3)
    assert killed.code == -9
    assert litter(toy.folder)
    ended = toy.runner.together([words] * 2, cwd=toy.folder)
    assert [item.code for item in ended] == [0, 0]
    assert hash_file(toy.folder / "shards/cell") == expected
    assert not litter(toy.folder)
