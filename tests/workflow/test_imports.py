"""What a dry run imports stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "dask", "zarr", "scanpy", "anndata", "pandas", "matplotlib", "sklearn", "tifffile"}


@pytest.mark.parametrize(
    "modules",
    [
        "mistline.config.load, mistline.config.schema",
        "mistline.workflow.digest, mistline.workflow.memory, mistline.workflow.registry",
        "mistline.models, mistline.tasks",
        "mistline.cli, mistline.stages.plan",
    ],
)
def test_light(modules: str) -> None:
    program = f"import {modules}, sys; print(*sorted(set(name.split('.')[0] for name in sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_help_imports_no_stage() -> None:
    program = (
        "import sys; from mistline.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: print(*[name for name in sys.modules if name.startswith('mistline.stages')])"
    )
    run = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert run.stdout.strip().splitlines()[-1].split() in ([], ["mistline.stages"]) or "cut-crops" in run.stdout
    assert "mistline.stages." not in run.stdout
