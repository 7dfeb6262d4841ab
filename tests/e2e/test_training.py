"""A training killed in the middle and run again ends as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from mistline.core.hashing import hash_file
from tests.conftest import Snakemake
from tests.e2e.conftest import options

FOLDER = "results/models/spatia/seed-0"
FILES = ("config.json", "weights.safetensors", "genes.txt", "metrics.jsonl", "card.md")


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of each file of the trained model."""
    return {name: hash_file(folder / FOLDER / name) for name in FILES}


def test_killed_in_the_middle_and_rerun_gives_the_same_model(
    toy_run: Path, toy_copy: Path, snakemake: Snakemake
) -> None:
    """Kill -9 of Snakemake and its job, after a state was saved and before the last step."""
    shutil.rmtree(toy_copy / FOLDER)
    target = f"{FOLDER}/weights.safetensors"
    command = [sys.executable, "-m", "snakemake", *options(toy_copy), target]
    with open(os.devnull, "w") as silence:
        process = subprocess.Popen(command, stdout=silence, stderr=silence, start_new_session=True)
        deadline = time.monotonic() + 300
        while not list((toy_copy / FOLDER).glob("resume/*/training.safetensors")):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not [name for name in FILES if (toy_copy / FOLDER / name).exists()]

    assert snakemake(*options(toy_copy), "--unlock").returncode == 0
    run = snakemake(*options(toy_copy), "--rerun-incomplete", target)
    assert run.returncode == 0, run.stdout + run.stderr
    log = (toy_copy / "results/logs/train/spatia.seed-0.log").read_text()
    assert "going on after step" in log
    assert hashes(toy_copy) == hashes(toy_run)
    assert not (toy_copy / FOLDER / "resume").exists()
