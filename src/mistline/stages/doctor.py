"""Command doctor: what this machine has, what is missing and what to do about it."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from mistline.store.verify import verify

PACKAGES = (
    "anndata", "diffusers", "h5py", "igraph", "imagecodecs", "jinja2", "lmdb", "matplotlib", "numpy",
    "opencv-python-headless", "pandas", "pillow", "pot", "pyarrow", "pydantic", "pyyaml", "rich", "safetensors",
    "scikit-learn", "scipy", "snakemake", "snakemake-executor-plugin-slurm", "threadpoolctl", "tifffile", "timm",
    "tomesd", "torch", "torch-geometric", "typer", "umap-learn", "xgboost", "zarr", "zstandard",
)  # fmt: skip
OPTIONAL_PACKAGES = ("spatialdata", "spatialdata-io")
MIN_MEMORY_GB = 4
MIN_DISK_GB = 5
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SYNC = "run `make` in the repository, or install the lock envs/requirements.lock"


@dataclass(frozen=True)
class Finding:
    """A line of the table.

    Args:
        name: what was looked for.
        state: ok, absent (optional) or missing (required).
        found: what there is.
        remedy: what to do where it is not ok.
    """

    name: str
    state: Literal["ok", "absent", "missing"]
    found: str
    remedy: str = ""


def run(
    dataset: Annotated[
        Path | None, typer.Option(help="hash the files of this sealed dataset instead: are they as they were sealed?")
    ] = None,
) -> None:
    """Say what this machine has and what is missing; or whether a dataset is whole."""
    if dataset is not None:
        found = verify(dataset)
        typer.echo(f"{dataset}: {found.n_files} files, {found.n_bytes / 1e9:.3g} GB, all as they were sealed.")
        return
    findings = examine(Path.cwd())
    typer.echo(render(findings))
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def examine(folder: Path) -> list[Finding]:
    """Look at Python, the packages, the machine and the folder results would go to."""
    return [
        _python(),
        *(_package(name, required=True) for name in PACKAGES),
        *(_package(name, required=False) for name in OPTIONAL_PACKAGES),
        Finding("cores", "ok", str(len(os.sched_getaffinity(0)))),
        _memory(),
        _gpu(),
        _disk(folder),
        _writable("results folder", folder, "change to a folder you may write to, or use snakemake --directory"),
        _writable("temporary folder", Path(tempfile.gettempdir()), "set TMPDIR to a folder you may write to"),
        _locks(folder),
        _program("sbatch", ("sbatch",), "only needed for snakemake --profile slurm"),
        _program("chromium", _BROWSERS, "only needed to take pictures of the report"),
    ]


def render(findings: list[Finding]) -> str:
    """Return the table as text; what is not ok carries its remedy."""
    width = max(len(finding.name) for finding in findings)
    lines = [
        f"{finding.state:<7}  {finding.name:<{width}}  {finding.found}"
        + (f"  -> {finding.remedy}" if finding.state != "ok" else "")
        for finding in findings
    ]
    n_missing = sum(finding.state == "missing" for finding in findings)
    last = f"{n_missing} required things are missing." if n_missing else "Everything required is here."
    return "\n".join([*lines, "", last])


def _python() -> Finding:
    state: Literal["ok", "missing"] = "ok" if sys.version_info >= (3, 11) else "missing"
    return Finding("python", state, f"{platform.python_version()} ({sys.executable})", "install Python 3.11 or newer")


def _package(name: str, *, required: bool) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        if required:
            return Finding(name, "missing", "not installed", _SYNC)
        return Finding(name, "absent", "not installed", "only needed for the viewer: install mistline[viewer]")


def _memory() -> Finding:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    state: Literal["ok", "missing"] = "ok" if gigabytes >= MIN_MEMORY_GB else "missing"
    return Finding("memory", state, f"{gigabytes:.1f} GB", f"at least {MIN_MEMORY_GB} GB are needed")


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("gpu", "absent", "no nvidia-smi", "GPU rules run on CPU, slower")
    try:
        told = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("gpu", "absent", f"nvidia-smi does not answer ({error})", "GPU rules run on CPU, slower")
    names = [line.split(" (UUID")[0] for line in told.stdout.splitlines() if line.startswith("GPU")]
    if told.returncode or not names:
        return Finding("gpu", "absent", "nvidia-smi finds no device", "GPU rules run on CPU, slower")
    return Finding("gpu", "ok", "; ".join(names))


def _disk(folder: Path) -> Finding:
    gigabytes = shutil.disk_usage(folder).free / 2**30
    state: Literal["ok", "missing"] = "ok" if gigabytes >= MIN_DISK_GB else "missing"
    return Finding("free disk", state, f"{gigabytes:.0f} GB", f"free at least {MIN_DISK_GB} GB, or use --directory")


def _writable(name: str, folder: Path, remedy: str) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return Finding(name, "ok", f"{folder} (writable)")
    except OSError as error:
        return Finding(name, "missing", f"{folder}: {error.strerror}", remedy)


def _locks(folder: Path) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Finding("file locks", "absent", f"{error.strerror}", "mistline needs none; other programs may")
    return Finding("file locks", "ok", "supported")


def _program(name: str, commands: tuple[str, ...], purpose: str) -> Finding:
    path = next((found for command in commands if (found := shutil.which(command))), None)
    return Finding(name, "ok", path) if path else Finding(name, "absent", "not found", purpose)
