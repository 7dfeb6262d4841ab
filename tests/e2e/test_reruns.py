"""A change reruns what descends from it and nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, Snakemake
from tests.e2e.conftest import options

# One of the toy slides has an H&E, which is cut by the index of each scale.
DOWNSTREAM_OF_SHARDS = {"cut_he", "seal_dataset", "train", "embed", "export_viewer", "evaluate", "report"}
DOWNSTREAM_OF_SHARDS |= {"assign_folds", "predict", "compare"}
DOWNSTREAM_OF_SHARDS |= {"encode_cells", "train_generator", "generate", "edit", "generate_cells", "perturb"}
DOWNSTREAM_OF_SHARDS |= {"impute_folds", "impute_slide"}


def planned(output: str) -> set[str]:
    """Return the rules of a dry run's job table."""
    if "Nothing to be done" in output:
        return set()
    table = output.split("Job stats:")[1].split("\n\n")[0]
    return {match[1] for match in re.finditer(r"^(\w+) +\d+$", table, re.MULTILINE)} - {"total", "all"}


def change_config(folder: Path, section: str, **values: object) -> None:
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of the line's code that a test may edit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(REPOSITORY / "Snakefile", folder)
    for name in ("workflow", "src"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_task_parameter(toy_copy: Path, snakemake: Snakemake) -> None:
    path = toy_copy / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["tasks"]["clustering"]["params"]["n_neighbors"] = 11
    path.write_text(yaml.safe_dump(config))
    run = snakemake("--dry-run", *options(toy_copy), "all")
    assert planned(run.stdout + run.stderr) == {"evaluate", "compare", "report"}


def test_a_report_parameter(toy_copy: Path, snakemake: Snakemake) -> None:
    change_config(toy_copy, "report", title="Another title")
    run = snakemake("--dry-run", *options(toy_copy), "all")
    assert planned(run.stdout + run.stderr) == {"report"}


def test_how_images_are_sampled(toy_copy: Path, snakemake: Snakemake) -> None:
    change_config(toy_copy, "generation", sampling={"steps": 3})
    run = snakemake("--dry-run", *options(toy_copy), "all")
    assert planned(run.stdout + run.stderr) == {"generate", "edit", "evaluate", "compare", "report"}


def test_a_crop_parameter(toy_copy: Path, snakemake: Snakemake) -> None:
    change_config(toy_copy, "crops", context=1.5)
    run = snakemake("--dry-run", *options(toy_copy), "all")
    assert planned(run.stdout + run.stderr) == {"cut_crops"} | DOWNSTREAM_OF_SHARDS


def test_a_line_of_crops(toy_copy: Path, checkout: Path, snakemake: Snakemake) -> None:
    module = checkout / "src/mistline/mist/crops.py"
    module.write_text(module.read_text() + "\n_UNUSED = 1\n")
    run = snakemake("--dry-run", *options(toy_copy, checkout / "Snakefile"), "all")
    # tiles are cut by the same function
    assert planned(run.stdout + run.stderr) == {"cut_crops", "cut_tiles"} | DOWNSTREAM_OF_SHARDS


def test_a_comment_reruns_nothing(toy_copy: Path, checkout: Path, snakemake: Snakemake) -> None:
    module = checkout / "src/mistline/mist/crops.py"
    module.write_text(module.read_text() + "\n# a remark\n")
    run = snakemake("--dry-run", *options(toy_copy, checkout / "Snakefile"), "all")
    assert planned(run.stdout + run.stderr) == set()
