"""What every level of tests shares: the repository, and Snakemake as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Tests run side by side, and their networks are tiny: a thread for each core in each of them would mostly wait. Set
# before torch is imported; what a test says of threads by itself holds.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]

Snakemake = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fix", action="store_true", help="renew generated files instead of comparing them")
    parser.addoption("--nightly", action="store_true", help="many more cases: hours, not minutes")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def nightly(request: pytest.FixtureRequest) -> bool:
    """Whether to try everything, rather than what CI has time for."""
    return request.config.getoption("--nightly")


@pytest.fixture(scope="session")
def snakemake() -> Snakemake:
    """Run Snakemake with this interpreter; returns the completed process with both streams as text."""

    def run(*words: str | Path, cwd: Path = REPOSITORY, timeout: int = 900) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
        command = [sys.executable, "-m", "snakemake", *map(str, words)]
        return subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True, timeout=timeout)

    return run
