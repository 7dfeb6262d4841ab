"""What a cluster does to jobs: memory limits, cancelled jobs, a Snakemake that is gone."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from mistline.core.hashing import hash_file
from tests.conftest import Snakemake
from tests.e2e.test_line import dataset_hashes
from tests.slurm.cluster import LONGEST_S, ask
from tests.slurm.conftest import Start, options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * LONGEST_S)]

LONGEST_POLL_S = 180  # the plugin asks less and less often, at last so


def test_a_job_over_its_memory_is_retried_with_more(copy: Path, start: Start) -> None:
    """Asks for its GPU as gres, as some sites want it: both ways are seen to work."""
    weights = copy / "results/models/spatia/seed-0/weights.safetensors"
    before = hash_file(weights)
    weights.unlink()
    # Naming one resource replaces the profile's whole list, so the partition is said again.
    gpu = ["train:slurm_partition=gpu", "train:gres=gpu:1", "train:gpu=0"]
    run = start(copy, "--set-resources", *gpu, "train:mem_mb=400*attempt**3", "--", "models")
    assert run.finish() == 0, run.output
    first, second = run.of("train")
    assert (first.memory_mb, second.memory_mb) == (400, 3200)
    assert first.state in ("FAILED", "OUT_OF_MEMORY")
    assert second.state == "COMPLETED"
    log = next((copy / "results/logs/slurm/rule_train").rglob(f"{first.number}.log")).read_text().lower()
    assert "memory limit" in log or "oom" in log
    assert "--devices ${SLURM_GPUS_ON_NODE:-0}" in run.output
    assert re.search("GPU|cuda", (copy / "results/logs/train/spatia.seed-0.log").read_text())
    assert hash_file(weights) == before


def test_a_cancelled_job_is_reported_and_a_rerun_finishes(unfinished: Path, bundles: Path, start: Start) -> None:
    run = start(unfinished, "--retries", "0", "dataset")
    job = run.running("cut_crops")
    ask("scancel", str(job.number))
    cancelled = time.monotonic()
    assert run.finish(LONGEST_POLL_S + 120) != 0
    assert time.monotonic() - cancelled < LONGEST_POLL_S + 120
    assert "Error in rule cut_crops" in run.output
    assert f"SLURM-job '{job.number}' failed, SLURM status is: 'CANCELLED'" in run.output
    assert not (unfinished / "results/dataset/manifest.json").exists()

    rerun = start(unfinished, "dataset")
    assert rerun.finish() == 0, rerun.output
    assert dataset_hashes(unfinished) == dataset_hashes(bundles)


def test_a_killed_snakemake_leaves_jobs_that_can_be_ended_and_a_folder_that_can_be_unlocked(
    unfinished: Path, bundles: Path, start: Start, snakemake: Snakemake
) -> None:
    target = "results/slides/toy1/shards/cell.parquet"
    run = start(unfinished, target)
    job = run.running("cut_crops")
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    run.look()
    assert run.jobs[job.number].state == "RUNNING"
    # Forced: on a slow machine the job has ended before this looks, and nothing would be left to do.
    locked = snakemake("--profile", "slurm", *options(unfinished), "--forcerun", "cut_crops", "--", target)
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout + locked.stderr

    ask("scancel", f"--name={run.name}")
    unlocked = snakemake("--profile", "slurm", *options(unfinished), "--unlock")
    assert unlocked.returncode == 0, unlocked.stderr
    rerun = start(unfinished, target)
    assert rerun.finish() == 0, rerun.output
    before = dataset_hashes(bundles)
    after = dataset_hashes(unfinished)
    assert after == {path: before[path] for path in after}
    assert target in after
