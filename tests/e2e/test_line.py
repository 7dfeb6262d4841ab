"""From bundle to report on the toy cohort: complete, repeatable, resumable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from mistline.core.hashing import hash_file
from tests.conftest import Snakemake
from tests.e2e.conftest import JUDGED, options


def dataset_hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file that belongs to the dataset; sidecars name absolute inputs and are left out."""
    roots = [folder / "results/dataset", folder / "results/slides"]
    others = (".meta.json", ".snakemake_timestamp")  # the second: in folders, where Snakemake ran the job
    files = (path for root in roots for path in root.rglob("*") if path.is_file() and not path.name.endswith(others))
    return {str(path.relative_to(folder)): hash_file(path) for path in sorted(files)}


def test_all_targets_are_made(toy_run: Path) -> None:
    results = toy_run / "results"
    manifest = json.loads((results / "dataset/manifest.json").read_text())
    assert len(manifest["slides"]) == 3
    for name in (
        "report/index.html",
        "dataset/card.md",
        "dataset/genes.parquet",
        "models/pca/seed-0/weights.safetensors",
    ):
        assert (results / name).stat().st_size > 0
    for task, judged in JUDGED.items():
        for protocol in yaml.safe_load((toy_run / "config.yaml").read_text())["tasks"][task]["protocols"]:
            folder = results / "evaluation" / task / protocol
            rows = {path.name for path in folder.glob("*.json") if not path.name.endswith(".meta.json")}
            assert rows == {f"{name}.seed-0.json" for name in [*judged, "controls"]}
            assert folder.with_name(f"{protocol}.json").is_file()


def test_a_second_dry_run_has_nothing_to_do(toy_run: Path, snakemake: Snakemake) -> None:
    run = snakemake("--dry-run", *options(toy_run), "all")
    assert "Nothing to be done" in run.stdout + run.stderr


def test_nothing_half_written_is_left(toy_run: Path) -> None:
    assert not [path for path in (toy_run / "results").rglob(".*") if path.name.endswith(".part")]


def test_killed_in_the_middle_and_rerun_gives_the_same_bytes(
    toy_run: Path, fresh_toy: Path, snakemake: Snakemake
) -> None:
    command = [sys.executable, "-m", "snakemake", *options(fresh_toy), "dataset"]
    with open(os.devnull, "w") as silence:
        process = subprocess.Popen(command, stdout=silence, stderr=silence, start_new_session=True)
        deadline = time.monotonic() + 300
        while not list((fresh_toy / "results/slides").glob("*/shards/*.parquet")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (fresh_toy / "results/dataset/manifest.json").exists()

    assert snakemake(*options(fresh_toy), "--unlock").returncode == 0
    run = snakemake(*options(fresh_toy), "--cores", "1", "--rerun-incomplete", "dataset")
    assert run.returncode == 0, run.stdout + run.stderr
    assert dataset_hashes(fresh_toy) == dataset_hashes(toy_run)
