"""A cohort that exists only on paper: dry runs need no bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

SLIDES = [
    {
        "slide": "s1",
        "bundle": "bundles/s1",
        "donor": "d1",
        "tissue": "breast",
        "disease": "cancer",
        "url": "https://h/z",
    },
    {"slide": "s2", "bundle": "bundles/s2", "donor": "d2", "tissue": "lung", "disease": 'it\'s "odd" {here}'},
    {"slide": "s3", "bundle": "bundles/s 3", "donor": "d3", "tissue": "skin", "disease": "healthy", "cells": 1_000_000},
]


@pytest.fixture
def paper_cohort(tmp_path: Path) -> Path:
    """A folder whose path has a space, with a config of three slides and a task."""
    folder = tmp_path / "a cohort"
    folder.mkdir()
    labels = folder / "labels.csv"
    labels.write_text("cell_id,cell_type\n")
    slides = [slide | {"labels": "labels.csv"} for slide in SLIDES]
    tasks = {"clustering": {"protocols": ["fixed_resolution"], "params": {"label": "cell_type"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"slides": slides, "tasks": tasks}))
    return folder


@pytest.fixture
def paper_options(paper_cohort: Path) -> list[str]:
    return ["--configfile", str(paper_cohort / "config.yaml"), "--directory", str(paper_cohort)]
