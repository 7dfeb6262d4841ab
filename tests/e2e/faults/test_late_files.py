"""What network file systems do: files that are seen late and out of order, reads that fail, locks that are refused."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Snakemake
from tests.e2e.conftest import options
from tests.e2e.faults import late
from tests.e2e.faults.lines import Line
from tests.e2e.faults.runner import Job, Runner, tree

SLIDE = "results/slides/toy1"
TARGETS = {False: f"{SLIDE}/cells.parquet", True: f"{SLIDE}/shards/cell.parquet"}


@pytest.fixture
def slow_checkout(tmp_path: Path) -> Path:
    """A copy of the line's code whose jobs end before others see what they made."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(REPOSITORY / "Snakefile", folder)
    for name in ("workflow", "src", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(late.__file__, folder / "src/mistline/__main__.py")
    return folder / "Snakefile"


def _all_seen(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while any((folder / late.HIDDEN).iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_outputs_that_are_seen_late(
    cohort: Path, finished: Path, slow_checkout: Path, snakemake: Snakemake, nightly: bool, tmp_path: Path, fault, row
) -> None:
    """Snakemake waits for them, or says so; a run after that ends as if nothing had happened."""
    folder, target = tmp_path / "cohort", TARGETS[nightly]
    shutil.copytree(cohort, folder)
    hasty = snakemake(*options(folder, slow_checkout), "--latency-wait", "0", target)
    said = hasty.stdout + hasty.stderr
    assert hasty.returncode != 0
    assert "completed successfully, but some output files are missing" in said, said
    assert "Traceback" not in said
    _all_seen(folder)
    run, n_runs = hasty, 0
    while run.returncode and n_runs < 3:  # a folder that is seen before what is in it fails the next job
        n_runs += 1
        run = snakemake(*options(folder, slow_checkout), "--rerun-incomplete", "--latency-wait", "60", target)
        _all_seen(folder)
    assert run.returncode == 0, run.stdout + run.stderr
    made = tree(folder / SLIDE)
    made = {name: of for name, of in made.items() if not name.endswith(".snakemake_timestamp")}
    expected = tree(finished / SLIDE)
    assert made == {name: expected[name] for name in made}
    fault("late files", len(made))
    row(
        "bad input",
        f"{len(made)} files that are seen late",
        1,
        "Job completed successfully, but some output files are missing",
    )
    row("bad input", f"{len(made)} files that are seen late, --latency-wait 60", 0, f"works, after {n_runs} run(s)")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("rule", ["read_cells", "assign_metacells"])
def test_a_read_that_fails(
    rule: str,
    number: int,
    jobs: list[Job],
    finished: Path,
    runner: Runner,
    tmp_path: Path,
    told: Callable[..., str],
    fault,
) -> None:
    """The kernel refuses what h5py and pyarrow read with: a bad disk, or a file that was replaced on a server."""
    folder = tmp_path / "cohort"
    shutil.copytree(finished, folder)
    before = tree(folder / "results")
    fault("refused calls")
    ended = runner(*Line(folder, jobs).job(rule).words, cwd=folder, refuse=[["pread64", number]])
    assert ended.code == 3, ended.output
    assert os.strerror(number) in told(f"{rule}: reading fails", ended)
    assert tree(folder / "results") == before


@pytest.mark.parametrize("rule", ["read_cells", "cut_crops", "seal_dataset"])
def test_no_locks(rule: str, jobs: list[Job], finished: Path, runner: Runner, tmp_path: Path, fault) -> None:
    folder = tmp_path / "cohort"
    shutil.copytree(finished, folder)
    refused = [["flock", errno.ENOLCK], ["fcntl", errno.ENOLCK]]
    fault("refused calls", len(refused))
    ended = runner(*Line(folder, jobs).job(rule).words, cwd=folder, refuse=refused)
    assert ended.code == 0, ended.output
    assert tree(folder / "results") == tree(finished / "results")
