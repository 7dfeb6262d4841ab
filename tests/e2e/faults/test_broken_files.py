"""Truncated, empty, missing and foreign files: of a bundle, and between any two stages of the line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.faults.lines import Line
from tests.e2e.faults.runner import Job, Runner, tree
from tests.e2e.faults.spoil import FOCUS, MATRIX, ZSTACK

DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda data: None,
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "of another kind": lambda data: b"<html>404 not found</html>\n" * 100,
}
BUNDLE = (
    "experiment.xenium", "cells.parquet", "cell_boundaries.parquet", "nucleus_boundaries.parquet", MATRIX,
    "gene_panel.json", ZSTACK, FOCUS.format(2), "cells.zarr.zip",
)  # fmt: skip
MAY_BE_MISSING = {
    "nucleus_boundaries.parquet": "works, with a warning: no nucleus_boundaries.parquet: the number of nuclei is",
    "gene_panel.json": "works: the ids are those of the matrix",
    ZSTACK: "works, with a warning: no z-stack: DAPI is taken from the focus image",
    FOCUS.format(2): "works: only a channel that is asked for must be there",
}
REMEDIES = ("copy", "download", "restore", "use the", "run ", "remove ")


def spoilt(path: Path, damage: str) -> None:
    """Damage a file."""
    data = DAMAGE[damage](path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)


# The last byte of a JSON file is an end of line: without it the file is whole.
SPOILT = [
    (name, damage)
    for name in BUNDLE
    for damage in DAMAGE
    if not (damage == "one byte short" and name.endswith((".xenium", ".json")))
]


@pytest.mark.parametrize(("name", "damage"), SPOILT)
def test_a_file_of_the_bundle(name, damage, raw, told, row, fault):
    fault("damaged inputs")
    spoilt(raw.bundle / name, damage)
    what = f"{name} {damage}"
    if name == "cells.zarr.zip" or (damage == "missing" and name in MAY_BE_MISSING):
        outputs = [raw.run(stage) for stage in raw.STAGES[:3]]
        assert [ended.code for ended in outputs] == [0, 0, 0]
        works = MAY_BE_MISSING.get(name, "works: nothing is read from it")
        assert works.partition("warning: ")[2] in outputs[0].output
        row("bad input", what, 0, works)
        return
    stage, ended = raw.refused()
    assert (stage, ended.code) == ("check-bundle", 3)
    shown = told(what, ended)
    assert shown.startswith(f"bundle/{name}"), shown
    assert any(word in shown.partition("; ")[2] for word in REMEDIES), shown


def test_no_bundle_at_all(raw, told):
    shutil.rmtree(raw.bundle)
    _, ended = raw.refused()
    assert told("no bundle", ended).startswith("bundle: no such bundle; download and unzip it")
    raw.bundle.mkdir()
    _, ended = raw.refused()
    assert told("an empty folder", ended).startswith("bundle: not a Xenium bundle: found nothing; looked for exp")
    raw.bundle.rmdir()
    raw.bundle.touch()
    _, ended = raw.refused()
    assert told("a file in place of the bundle", ended).startswith("bundle: a file, not a bundle's folder; unzip it")


@pytest.fixture
def damaged(runner: Runner, tmp_path: Path, fault, row) -> Callable[..., int]:
    """Damage each input of a job in turn, in a copy; its command must say so and leave what is there alone."""

    def run(folder: Path, jobs: Sequence[Job], damages: Sequence[str]) -> int:
        between = tmp_path / "cohort"
        shutil.copytree(folder, between)
        wrong, n_damages = [], 0
        for job, path, damage in list(_damages(jobs, between, damages)):
            n_damages += 1
            fault("damaged inputs")
            data = path.read_bytes()
            spoilt(path, damage)
            before = tree(between / "results")
            ended = runner(*job.words, cwd=between)
            name = path.relative_to(between).as_posix()
            try:
                sentence = ended.sentence
                assert ended.code == 3, f"exit {ended.code}"
                assert tree(between / "results") == before, "something was written"
                assert any(part in sentence for part in (name, *_folders(name))), f"not named: {sentence}"
                if damage == "cut in half":
                    row("bad input", f"{job.rule}: {path.name} {damage}", ended.code, sentence)
            except AssertionError as error:
                wrong.append(f"{job.rule}: {name} {damage}: {error}"[:300])
            path.unlink(missing_ok=True)
            path.write_bytes(data)
        assert not wrong, "\n".join(wrong)
        return n_damages

    return run


def test_every_input_of_every_stage(finished: Path, jobs: list[Job], damaged: Callable[..., int]) -> None:
    first = {job.rule: job for job in reversed(jobs)}
    assert damaged(finished, list(first.values()), ("missing", "empty", "cut in half")) > 80


def test_every_input_of_a_stage_of_the_models(
    line_rule: str, line: Line, nightly: bool, damaged: Callable[..., int]
) -> None:
    """Weights, embeddings, predictions, latents, scores: what training, judging and the report read."""
    damages = ("missing", "empty", "cut in half") if nightly else ("cut in half",)
    job = line.job(line_rule)
    assert damaged(line.folder, [job], damages) > 0 or all(Path(name).is_absolute() for name in job.inputs)


def _damages(jobs: Sequence[Job], folder: Path, damages: Sequence[str]) -> Iterator[tuple[Job, Path, str]]:
    for job in jobs:
        for path in _files(folder, job):
            for damage in damages:
                if not _goes_unseen(job, folder, path, damage):
                    yield job, path, damage


# What the report depends on and does not open: the card is its own source, of H&E it shows cells and places, of a table
# some rows on maps (`tests/unit/report` has damaged answers), of a method that was not run the first file says so.
_NOT_SHOWN = re.compile(
    r"/dataset/card\.md|/he/(coverage\.parquet|shards/(niche|region)/)|/evaluation/.*\.parquet|/embeddings/banksy/.*[23]\."
)


def _goes_unseen(job: Job, folder: Path, path: Path, damage: str) -> bool:
    """Tell what a stage cannot know: a csv that ends with a field, pixels, counts or all that it does not read."""
    if job.rule in ("assign_folds", "evaluate") and path.name == "counts.h5ad":
        return True
    if job.rule in ("peer_predict", "peer_impute") and path.parent.name != "peers":
        (state,) = (
            folder / name for name in job.inputs if name.startswith("results/peers/") and name.endswith(".json")
        )
        return json.loads(state.read_text())["reason"] is not None  # the method is not run here, and reads nothing
    if job.rule == "report" and (_NOT_SHOWN.search(path.as_posix()) or (path.suffix, damage) == (".jsonl", "empty")):
        return True  # a training may have had no steps
    if damage != "missing" and path.stat().st_size == 0:
        return True
    if damage != "cut in half":
        return False
    return path.suffix == ".csv" or (job.rule == "register_he" and "/0/c/" in path.as_posix())


def _files(folder: Path, job: Job) -> Iterator[Path]:
    """Yield the files that a job reads: of the first slide and of the cohort, one of each name."""
    seen = set()
    for name in job.inputs:
        if Path(name).is_absolute():
            continue  # the lock of an environment: a file of the repository, and no copy of it
        path = folder / name
        inside = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        for item in inside:
            inner = item.relative_to(path).as_posix() if path.is_dir() else ""
            if path.suffix == ".zarr" and not inner.startswith("0/"):
                continue  # a stage reads the full resolution alone
            kind = (path.name, "chunk" if "/c/" in inner else inner)
            if kind not in seen:
                seen.add(kind)
                yield item


def _folders(name: str) -> list[str]:
    """Return the folders of an image or of shards, which a sentence may name in place of a file inside."""
    return [str(parent) for parent in Path(name).parents if parent.suffix == ".zarr" or parent.parent.name == "shards"]
