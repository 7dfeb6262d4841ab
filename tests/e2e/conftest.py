"""One toy cohort for the whole session: written, run from bundle to report, never changed by a test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, Snakemake

# One thread a job, as in profiles/toy: jobs take longer to start than to run here.
THREADS = [f"{rule}=1" for rule in ("project_image", "cut_crops", "cut_tiles", "fit_metacells", "assign_metacells")]
THREADS += [f"{rule}=1" for rule in ("train", "embed", "predict", "evaluate", "export_viewer")]
THREADS += [
    f"{rule}=1"
    for rule in ("encode_cells", "train_generator", "generate", "edit", "sweep", "generate_cells", "perturb")
]
THREADS += [f"{rule}=1" for rule in ("impute_folds", "impute_slide")]
PROFILE = ["--workflow-profile", "none", "--set-threads", *THREADS, "--resources", "gpu=2"]
PROFILE += ["--cores", "2", "--show-failed-logs"]


def options(folder: Path, snakefile: Path = REPOSITORY / "Snakefile") -> list[str]:
    """How a run of a toy cohort in `folder` is started."""
    return [
        "--snakefile",
        str(snakefile),
        "--configfile",
        str(folder / "config.yaml"),
        "--directory",
        str(folder),
        *PROFILE,
    ]


# Enough steps to be killed between two of them, too few to learn much.
SHORT = {"epochs": 3, "warmup_steps": 5, "save_every": 2}

# Every task, but not every model in each: jobs take longer to start than to run here.
JUDGED = {
    "annotation": ["pca", "fusion", "spatia"],
    "clustering": ["pca", "image"],
    "composition": ["pca"],
    "crossmodal": ["encoder"],
    "domains": ["fusion"],
    "expression": ["image"],
    "generation": ["diffusion"],
    "imputation": ["spadit"],
    "retrieval": ["pca"],
}


@pytest.fixture(scope="session")
def toy_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three toy slides of three donors, in a folder whose path has a space and a letter beyond ASCII."""
    folder = tmp_path_factory.mktemp("toy bundles") / "kohörte"
    command = [sys.executable, "-m", "mistline", "toy", "--out", str(folder), "--slides", "3", "--cells", "250"]
    subprocess.run([*command, "--layouts", "1.0,3.0,4.0"], check=True)
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for task, models in JUDGED.items():
        config["tasks"][task]["models"] = models
    config["models"]["spatia"]["params"] |= SHORT
    for model in ("flow", "niche"):  # the line of the one is run among the truths, that of the other is fusion's
        del config["models"][model]
    config["models"]["gest"]["params"]["steps"] = 20
    for model in ("vae", "diffusion", "spadit"):
        config["models"][model]["params"]["steps"] = 4
    config["generation"] = {"sampling": {"steps": 2}, "edits": [{"genes": ["NUCSIZE"], "n_cells": 2}]}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


# What Snakemake makes of a line whose other jobs were run without it: some twenty jobs of the usual kinds. The first
# are left to it, what others read is removed and made again. The dataset's are all run by it in `test_line`, those of
# generators among the faults.
LEFT = ("--omit-from", "report", "export_viewer")
REMOVED = ("models/pca", "embeddings/pca")


@pytest.fixture(scope="session")
def toy_run(toy_bundles: Path, snakemake: Snakemake) -> Path:
    """The cohort after `snakemake all`; read it, do not write it.

    Jobs of which there are many are run in this process, from the commands that Snakemake would run.
    """
    from tests.e2e.in_process import run_here

    run_here(toy_bundles, snakemake, "all", *LEFT)
    touched = snakemake("--touch", "--forceall", *options(toy_bundles), "all", *LEFT)
    assert touched.returncode == 0, touched.stdout + touched.stderr
    for name in REMOVED:
        shutil.rmtree(toy_bundles / "results" / name)
    run = snakemake(*options(toy_bundles), "all")
    assert run.returncode == 0, run.stdout + run.stderr
    return toy_bundles


@pytest.fixture
def toy_copy(toy_run: Path, tmp_path: Path) -> Path:
    """A cohort that is done, to be changed freely."""
    folder = tmp_path / "copy"
    shutil.copytree(toy_run, folder, symlinks=True)
    return folder


@pytest.fixture
def fresh_toy(toy_bundles: Path, tmp_path: Path) -> Path:
    """The same bundles without results."""
    folder = tmp_path / "fresh"
    shutil.copytree(toy_bundles, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    return folder
