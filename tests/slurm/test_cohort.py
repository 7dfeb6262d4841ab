"""`snakemake --profile slurm all`, literally, on a real cluster."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Snakemake
from tests.e2e.test_line import dataset_hashes
from tests.slurm.cluster import LONGEST_S, Run
from tests.slurm.conftest import options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LONGEST_S)]

GPU_RULES = {"train", "embed", "predict"}


def version(folder: Path) -> str:
    return json.loads((folder / "results/dataset/manifest.json").read_text())["version"]


def test_the_dataset_is_the_one_that_one_process_makes(here: Path, there: Run, bundles: Path) -> None:
    assert version(bundles) == version(here)
    assert dataset_hashes(bundles) == dataset_hashes(here)


def test_every_target_is_made(there: Run, bundles: Path) -> None:
    assert (bundles / "results/report/index.html").stat().st_size > 0
    assert {job.state for job in there.jobs.values()} == {"COMPLETED"}


def test_gpu_jobs_get_a_gpu_and_the_others_none(there: Run) -> None:
    by_partition = {name: {job.rule for job in there.jobs.values() if job.partition == name} for name in ("gpu", "cpu")}
    assert by_partition["gpu"] == GPU_RULES
    assert {"check_bundle", "cut_crops", "fit_metacells", "evaluate", "report"} <= by_partition["cpu"]
    assert not by_partition["cpu"] & GPU_RULES
    for job in there.jobs.values():
        assert ("gpu:1" in job.gpus) == (job.rule in GPU_RULES), job


def test_jobs_get_the_threads_and_the_memory_their_rules_ask_for(there: Run) -> None:
    """Not what the machine that Snakemake runs on has."""
    assert {(job.cpus, job.memory_mb) for job in there.of("project_image")} == {(4, 2000)}
    assert {job.cpus for job in there.of("cut_crops")} == {2}


def test_gpu_jobs_see_the_device_slurm_gives_them(there: Run, bundles: Path) -> None:
    command = ["srun", "--partition=gpu", "--gpus=1", "--time=1", "printenv", "CUDA_VISIBLE_DEVICES"]
    if subprocess.run(command, text=True, capture_output=True, timeout=120).returncode != 0:
        pytest.skip("this cluster counts GPUs and sets no CUDA_VISIBLE_DEVICES")
    logs = [path for rule in GPU_RULES for path in (bundles / "results/logs" / rule).iterdir()]
    assert len(logs) == 4
    for path in logs:
        assert re.search(r"CUDA_VISIBLE_DEVICES=\d", path.read_text()), path


def test_jobs_copy_shards_to_the_disk_of_their_node_when_told(there: Run, scratch: Path) -> None:
    """The variable reaches the jobs from the shell that Snakemake was started in."""
    assert list(scratch.rglob("*.lmdb"))


def test_what_the_cluster_finished_is_finished_here(there: Run, bundles: Path, snakemake: Snakemake) -> None:
    run = snakemake("--dry-run", *options(bundles), "all")
    assert "Nothing to be done" in run.stdout + run.stderr
