"""Every stage of the dataset is killed (-9) again and again; what a rerun then makes is what was made undisturbed.

Half of the moments are random shares of the time that the stage's undisturbed work takes, imports not counted; the
other half are random changes of the file system (a file opened for writing, a folder made, something renamed), since
the short time in which a stage writes is rarely met by chance.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mistline.core.provenance import sidecar
from mistline.store.manifest import read_manifest
from tests.e2e.faults.conftest import DATASET_RULES
from tests.e2e.faults.runner import Job, Runner, litter, tree

N_BY_TIME, N_BY_CHANGE = 5, 6
LEAST = 10  # kills that came before the stage had ended; more are tried until there are so many
EVERY = 4  # kills before a rerun
KILLED = -9
PLACES = ("before it wrote", "in a part", "between outputs", "at its end")
TOO_LATE = "too late"


@pytest.mark.parametrize("rule", DATASET_RULES)
def test_killed_and_run_again(rule: str, jobs: list[Job], finished: Path, runner: Runner, tmp_path: Path, row) -> None:
    job = next((job for job in jobs if job.rule == rule), None)
    assert job is not None, f"no target makes {rule}: it would go unkilled"
    folder = tmp_path / "cohort"
    shutil.copytree(finished, folder)
    expected = tree(finished / "results")
    found: Counter[str] = Counter()
    states = set()
    n_reruns = 0
    for number, moment in enumerate(_moments(rule, job, runner, folder)):
        if number % EVERY == 0:
            _remove_outputs(job, folder)  # as Snakemake does; the next kills meet what the first one left
        ended = runner(*job.words, cwd=folder, **moment)
        assert ended.code in (KILLED, 0), ended.output
        found[_place(job, folder) if ended.code == KILLED else TOO_LATE] += 1
        states.add(_state(folder))
        is_done = number + 1 >= N_BY_TIME + N_BY_CHANGE and found.total() - found[TOO_LATE] >= LEAST
        if is_done or number % EVERY == EVERY - 1:
            again = runner(*job.words, cwd=folder)
            n_reruns += 1
            assert again.code == 0, again.output
            assert tree(folder / "results") == expected
            assert not litter(folder)
        if is_done:
            break
    del found[TOO_LATE]
    n_kills = found.total()
    assert len(states) >= 3, f"the kills met few moments: {found}"
    assert found["in a part"], "no kill met an output half-written"
    _seal_again(jobs, folder, finished, runner)
    row("kills", rule, n_kills, *(found[place] for place in PLACES), len(states), n_reruns)


def _moments(rule: str, job: Job, runner: Runner, folder: Path) -> Iterator[dict[str, float | int]]:
    """Yield when to kill: by the clock, spread over the stage's work, and by its changes, in a random order."""
    random = np.random.default_rng([ord(letter) for letter in rule])
    runs = [runner(*job.words, cwd=folder) for _ in range(2)]
    assert all(run.code == 0 for run in runs), runs[0].output
    seconds, n_changes = min(run.seconds for run in runs), runs[0].n_changes
    shares = (np.arange(N_BY_TIME) + random.random(N_BY_TIME)) / N_BY_TIME
    changes = random.choice(np.arange(1, n_changes + 1), size=N_BY_CHANGE, replace=n_changes < N_BY_CHANGE)
    moments: list[dict[str, float | int]] = [{"kill_after_s": float(share * seconds * 0.95)} for share in shares]
    moments += [{"kill_at_change": int(change)} for change in changes]
    for number in random.permutation(len(moments)):
        yield moments[number]
    while True:
        yield {"kill_at_change": int(random.integers(1, n_changes + 1))}


def _outputs(job: Job, folder: Path) -> list[Path]:
    return [path for name in job.outputs for path in (folder / name, sidecar(folder / name))]


def _remove_outputs(job: Job, folder: Path) -> None:
    for path in _outputs(job, folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _place(job: Job, folder: Path) -> str:
    """Say how far a killed stage had come."""
    if litter(folder):
        return "in a part"
    there = [path.exists() for path in _outputs(job, folder)]
    return "at its end" if all(there) else "between outputs" if any(there) else "before it wrote"


def _state(folder: Path) -> frozenset[tuple[str, int]]:
    """Return what is there: names, without the numbers of processes, and sizes."""
    paths = (folder / "results").rglob("*")
    return frozenset(
        (re.sub(r"\.[-0-9a-f]+\.part\b", ".part", str(path)), path.stat().st_size if path.is_file() else 0)
        for path in paths
    )


def _seal_again(jobs: list[Job], folder: Path, finished: Path, runner: Runner) -> None:
    seal = next(job for job in jobs if job.rule == "seal_dataset")
    _remove_outputs(seal, folder)
    ended = runner(*seal.words, cwd=folder)
    assert ended.code == 0, ended.output
    assert read_manifest(folder / "results").version == read_manifest(finished / "results").version
