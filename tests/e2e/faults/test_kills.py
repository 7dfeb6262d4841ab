"""Every stage is killed (-9) again and again; what a rerun then makes is what was made undisturbed.

Half of the moments are random shares of the time that the stage's undisturbed work takes, imports not counted; the
other half are random changes of the file system (a file opened for writing, a folder made, something renamed), since
the short time in which a stage writes is rarely met by chance.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mistline.core.provenance import sidecar
from mistline.store.manifest import read_manifest
from tests.e2e.faults.conftest import DATASET_RULES
from tests.e2e.faults.lines import Line, unlike
from tests.e2e.faults.runner import Job, Runner, litter

EVERY = 4  # kills before a rerun
KILLED = -9
PLACES = ("before it wrote", "in a part", "between outputs", "at its end")
TOO_LATE = "too late"


@dataclass(frozen=True)
class Kills:
    """How often a stage is killed.

    Args:
        by_time: moments by the clock.
        by_change: moments by changes of the file system.
        least: kills that came before the stage had ended; more are tried until there are so many.
    """

    by_time: int
    by_change: int
    least: int


MANY, SOME, FEW = Kills(5, 6, 10), Kills(2, 4, 5), Kills(0, 2, 2)


@dataclass
class Attack:
    """One job of a line that is done, run again and again in a copy of it."""

    line: Line
    job: Job
    runner: Runner
    folder: Path

    def run(self, kills: Kills, fault: Callable[..., None], row: Callable[..., None]) -> Counter[str]:
        """Kill, run again and compare; return how far the killed runs had come."""
        found: Counter[str] = Counter()
        states = set()
        n_reruns = 0
        for number, moment in enumerate(self._moments(kills)):
            if number % EVERY == 0:
                self.remove_outputs()  # as Snakemake does; the next kills meet what the first one left
            ended = self.runner(*self.job.words, cwd=self.folder, **moment)
            assert ended.code in (KILLED, 0), ended.output
            place = self._place() if ended.code == KILLED else TOO_LATE
            found[place] += 1
            fault("kills", int(place != TOO_LATE))
            states.add(self._state())
            is_done = number + 1 >= kills.by_time + kills.by_change and found.total() - found[TOO_LATE] >= kills.least
            if is_done or number % EVERY == EVERY - 1:
                self.finish()
                n_reruns += 1
            if is_done:
                break
        del found[TOO_LATE]
        assert len(states) >= 3 or kills is not MANY, f"the kills met few moments: {found}"
        row("kills", self.job.rule, found.total(), *(found[place] for place in PLACES), len(states), n_reruns)
        return found

    def finish(self) -> None:
        """Run undisturbed; the results are those of a line that was never disturbed, and nothing else is left."""
        saved = list(self.folder.rglob("resume/*/training.safetensors"))
        again = self.runner(*self.job.words, cwd=self.folder)
        assert again.code == 0, again.output
        assert not saved or "going on after step" in again.output, again.output
        assert unlike(self.folder / "results", self.line.folder / "results") == []
        assert not litter(self.folder)

    def _moments(self, kills: Kills) -> Iterator[dict[str, float | int]]:
        """Yield when to kill: by the clock, spread over the stage's work, and by its changes, in a random order."""
        random = np.random.default_rng([ord(letter) for letter in self.job.rule])
        runs = [self.runner(*self.job.words, cwd=self.folder) for _ in range(2 if kills.by_time else 1)]
        assert all(run.code == 0 for run in runs), runs[0].output
        seconds, n_changes = min(run.seconds for run in runs), runs[0].n_changes
        shares = (np.arange(kills.by_time) + random.random(kills.by_time)) / max(1, kills.by_time)
        changes = random.choice(np.arange(1, n_changes + 1), size=kills.by_change, replace=n_changes < kills.by_change)
        moments: list[dict[str, float | int]] = [{"kill_after_s": float(share * seconds * 0.95)} for share in shares]
        moments += [{"kill_at_change": int(change)} for change in changes]
        for number in random.permutation(len(moments)):
            yield moments[number]
        while True:
            yield {"kill_at_change": int(random.integers(1, n_changes + 1))}

    def _outputs(self) -> list[Path]:
        return [path for name in self.job.outputs for path in (self.folder / name, sidecar(self.folder / name))]

    def remove_outputs(self) -> None:
        for path in self._outputs():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _place(self) -> str:
        """Say how far a killed stage had come."""
        if litter(self.folder):
            return "in a part"
        there = [path.exists() for path in self._outputs()]
        return "at its end" if all(there) else "between outputs" if any(there) else "before it wrote"

    def _state(self) -> frozenset[tuple[str, int]]:
        """Return what is there: names, without the numbers of processes, and sizes."""
        paths = (self.folder / "results").rglob("*")
        return frozenset(
            (re.sub(r"\.[-0-9a-f]+\.part\b", ".part", str(path)), path.stat().st_size if path.is_file() else 0)
            for path in paths
        )


@pytest.fixture
def attack(runner: Runner, tmp_path: Path) -> Callable[[Line, str], Attack]:
    """Choose a rule of a line; its first job is attacked in a copy."""

    def choose(line: Line, rule: str) -> Attack:
        shutil.copytree(line.folder, tmp_path / "cohort")
        return Attack(line, line.job(rule), runner, tmp_path / "cohort")

    return choose


@pytest.mark.parametrize("rule", DATASET_RULES)
def test_a_stage_of_the_dataset(rule, jobs, finished, attack, nightly, fault, row) -> None:
    line = Line(finished, jobs)
    attacked = attack(line, rule)
    found = attacked.run(MANY if nightly else SOME, fault, row)
    assert found["in a part"] or not nightly, "no kill met an output half-written"
    attacked.job = line.job("seal_dataset")
    attacked.remove_outputs()
    attacked.finish()
    assert read_manifest(attacked.folder / "results").version == read_manifest(finished / "results").version


def test_a_stage_of_the_models_and_the_report(line_rule, line, attack, nightly, fault, row) -> None:
    """A training goes on from its saved state, to the same bytes."""
    attack(line, line_rule).run(MANY if nightly else FEW, fault, row)


def test_a_stage_of_tables(table_rule, tables, attack, fault, row) -> None:
    attack(tables, table_rule).run(MANY, fault, row)
