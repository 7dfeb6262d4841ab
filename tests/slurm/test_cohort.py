"""`snakemake --profile slurm all`, literally, on a real cluster."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mistline.core.hashing import hash_file
from tests.conftest import Snakemake
from tests.e2e.test_line import dataset_hashes
from tests.slurm.cluster import LONGEST_S, Run
from tests.slurm.conftest import GPU_RULES, options

# Of the tests alone: the run they look at has its own limit.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(LONGEST_S, func_only=True)]


def version(folder: Path) -> str:
    return json.loads((folder / "results/dataset/manifest.json").read_text())["version"]


def test_the_dataset_is_the_one_that_one_process_makes(here: Path, there: Run, bundles: Path) -> None:
    assert version(bundles) == version(here)
    assert dataset_hashes(bundles) == dataset_hashes(here)


def test_every_target_is_made(there: Run, bundles: Path) -> None:
    assert (bundles / "results/report/index.html").stat().st_size > 0
    assert {job.state for job in there.jobs.values()} == {"COMPLETED"}
    for rule, n in sorted(Counter(job.rule for job in there.jobs.values()).items()):
        print(f"{rule:20}{n:4}")
    print(f"{len(there.jobs)} jobs, all COMPLETED")


def test_every_model_is_trained_and_judged(there: Run, bundles: Path, nightly: bool) -> None:
    models = set(yaml.safe_load((bundles / "config.yaml").read_text())["models"])
    judged = {path.name.split(".seed-")[0] for path in (bundles / "results/evaluation").glob("*/*/*.seed-0.json")}
    assert judged - {"controls"} == models - {"vae"}  # an autoencoder is judged by what is drawn with it
    made = {"train": "models", "predict": "predictions", "impute_folds": "imputed"}
    made |= {"embed": "embeddings", "generate": "generated", "perturb": "perturbed"} if nightly else {}
    for rule, folder in made.items():
        assert there.of(rule), rule
        assert list((bundles / "results" / folder).rglob("*.meta.json")), folder


def test_gpu_jobs_get_a_gpu_and_the_others_none(there: Run) -> None:
    by_partition = {name: {job.rule for job in there.jobs.values() if job.partition == name} for name in ("gpu", "cpu")}
    assert by_partition["gpu"] <= GPU_RULES
    assert {"train", "embed", "predict", "impute_folds"} <= by_partition["gpu"]
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
    logs = [path for rule in GPU_RULES for path in (bundles / "results/logs" / rule).glob("*.log")]
    assert len(logs) == sum(job.partition == "gpu" for job in there.jobs.values())
    for path in logs:
        assert re.search(r"CUDA_VISIBLE_DEVICES=\d", path.read_text()), path


def test_jobs_copy_shards_to_the_disk_of_their_node_when_told(
    there: Run, bundles: Path, scratch: Path, nightly: bool
) -> None:
    """The variable reaches the jobs from the shell that Snakemake was started in; nothing is copied in vain."""
    scales = ["cell", "niche", "region"] if nightly else ["cell"]
    read = [path for scale in scales for path in (bundles / "results/slides").glob(f"*/shards/{scale}/*.lmdb")]
    assert {hash_file(path) for path in scratch.rglob("*.lmdb")} == {hash_file(path) for path in read}


def test_what_the_cluster_finished_is_finished_here(there: Run, bundles: Path, snakemake: Snakemake) -> None:
    run = snakemake("--dry-run", *options(bundles), "all")
    assert "Nothing to be done" in run.stdout + run.stderr
