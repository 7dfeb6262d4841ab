"""A line's jobs run one after the other in this process: small ones take longer to start than to run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import yaml

from mistline.cli import app
from mistline.train.device import cpu_threads
from tests.conftest import Snakemake
from tests.e2e.conftest import options
from tests.e2e.faults.runner import Job, planned


def configure(folder: Path, **changes: Any) -> None:
    """Change settings of a cohort's configuration."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def run_here(folder: Path, snakemake: Snakemake, *targets: str) -> None:
    """Run what a dry run plans, on one thread."""
    with contextlib.chdir(folder), cpu_threads(1):
        for job in in_order(planned(folder, snakemake, *targets)):
            for output in job.outputs:
                Path(output).parent.mkdir(parents=True, exist_ok=True)
            words = ["0" if word.startswith("${") else word for word in job.words]  # no GPU
            app(words, standalone_mode=False)
            assert all(Path(output).exists() for output in job.outputs), job


def planned_again(folder: Path, snakemake: Snakemake, *targets: str) -> str:
    """Return what a dry run says after the records that Snakemake would have left were written."""
    touched = snakemake("--touch", "--forceall", *options(folder), *targets)
    assert touched.returncode == 0, touched.stdout + touched.stderr
    run = snakemake("--dry-run", *options(folder), *targets)
    return run.stdout + run.stderr


def in_order(jobs: list[Job]) -> Iterator[Job]:
    """Yield jobs after those that they read from: a dry run lists them in no order."""
    waiting = list(jobs)
    while waiting:
        unmade = {output for job in waiting for output in job.outputs}
        ready = [job for job in waiting if not unmade & set(job.inputs)]
        assert ready, "jobs wait for each other"
        yield from ready
        waiting = [job for job in waiting if job not in ready]


def slides_of(cohort: Path, *splits: str) -> Mapping[str, str]:
    """Return slide -> donor of the donors of some splits."""
    sheet = pd.read_csv(cohort / "slides.tsv", sep="\t")
    donors = dict(zip(sheet["slide"], sheet["donor"], strict=True))
    of = {
        slide: pd.read_parquet(cohort / f"results/dataset/splits/{slide}.parquet")["split"].iloc[0] for slide in donors
    }
    return {slide: donor for slide, donor in donors.items() if of[slide] in splits}


def embedded(cohort: Path, model: str, slide: str) -> np.ndarray:
    return anndata.read_h5ad(cohort / f"results/embeddings/{model}/seed-0/{slide}.h5ad").X
