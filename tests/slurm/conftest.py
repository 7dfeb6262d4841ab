"""A toy cohort run twice: job by job in this process, and on the SLURM cluster that answers here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, Snakemake
from tests.e2e.in_process import run_here
from tests.slurm.cluster import LONGEST_NIGHTLY_S, LONGEST_S, Run, ask

PARTITIONS = {"cpu", "gpu"}
PROFILE = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
GPU_RULES = set(PROFILE["set-resources"])

Start = Callable[..., Run]


def missing() -> str:
    """Say why there is nothing to test on; empty where a cluster answers."""
    if " " in sys.executable:
        return "Snakemake's SLURM jobs cannot start an interpreter whose path has a space"
    if not (shutil.which("sbatch") and shutil.which("sinfo")):
        return "SLURM's commands (sbatch, sinfo) are not installed"
    try:
        usable = ask("timeout", "20", "sinfo", "--noheader", "--states=idle,mixed,allocated", "-o", "%R").split()
    except subprocess.CalledProcessError as error:
        return f"no SLURM cluster answers: {error.stderr.strip()}"
    if PARTITIONS.difference(usable):
        return f"the shipped profile needs nodes in the partitions cpu and gpu; usable here: {usable}"
    return ""


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """Skip everything here where no cluster answers."""
    if reason := missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def bundles(cluster: None, nightly: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two toy slides in a folder whose path has a space; nightly three, with all models and tasks of the toy line."""
    folder = tmp_path_factory.mktemp("toy cluster") / "kohörte"
    command = [sys.executable, "-m", "mistline", "toy", "--out", str(folder), "--layouts", "1.0,4.0"]
    size = ["--slides", "3"] if nightly else ["--slides", "2", "--cells", "200"]
    subprocess.run([*command, *size], check=True)
    if not nightly:
        shorten(folder / "config.yaml")
    return folder


def shorten(path: Path) -> None:
    """Keep one model of each family, with as few jobs and steps as show that it works."""
    config = yaml.safe_load(path.read_text())
    tasks = config["tasks"]
    config["scales"] = [{"name": "cell", "unit": "cell"}, {"name": "niche", "unit": "grid", "size_px": 256}]
    changes = {
        "spatia": {"preset": "cell_only"},
        "gest": {"steps": 10},
        "spadit": {"steps": 5, "sampling_steps": 2},
        "fusion": {"preset": "expr_only", "width": 16, "epochs": 2, "min_epochs": 1},
    }
    config["models"] = {name: config["models"][name] for name in changes}
    for name, change in changes.items():
        config["models"][name]["params"] |= change
    domains = {"protocols": ["random_spot"], "models": ["spatia", "gest", "fusion"], "params": {"label": "domain"}}
    config["tasks"] = {"domains": domains, "imputation": tasks["imputation"]}
    config["imputation"] = {"reference": config["imputation"]["reference"]}
    config["generation"] = {}
    path.write_text(yaml.safe_dump(config))


def options(folder: Path) -> list[str]:
    """How a user names the cohort in a folder."""
    return ["--configfile", str(folder / "config.yaml"), "--directory", str(folder)]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start `snakemake --profile slurm` on a cohort; nothing it left is there after the tests.

    The nodes of a small cluster share a machine: toy networks are the slower the more threads wait for each other.
    """
    profile = ["--profile", "slurm", "--set-threads", *(f"{rule}=1" for rule in sorted(GPU_RULES))]
    logs = tmp_path_factory.mktemp("logs")
    runs: list[Run] = []

    def begin(folder: Path, *words: str, **variables: str) -> Run:
        run = Run((*profile, *options(folder), *words), logs / f"{len(runs)}.log", variables)
        runs.append(run)
        return run

    yield begin
    for run in runs:
        run.close()


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the own disk of a node."""
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="session")
def begun(bundles: Path, scratch: Path, start: Start) -> Run:
    """`snakemake --profile slurm all`, started."""
    return start(bundles, "all", MISTLINE_SCRATCH=str(scratch))


@pytest.fixture(scope="session")
def here(bundles: Path, begun: Run, tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """The cohort's dataset as one process makes it, while the cluster is at work."""
    folder = tmp_path_factory.mktemp("this machine") / "cohort"
    shutil.copytree(bundles, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    run_here(folder, snakemake, "dataset")
    return folder


@pytest.fixture(scope="session")
def there(begun: Run, here: Path, nightly: bool) -> Run:
    """The run on the cluster, ended well; read its folder (`bundles`), do not write it."""
    assert begun.finish(LONGEST_NIGHTLY_S if nightly else LONGEST_S) == 0, begun.output
    return begun


@pytest.fixture
def copy(there: Run, bundles: Path, tmp_path: Path) -> Path:
    """The cohort that the cluster finished, to be changed freely."""
    folder = tmp_path / "a copy"
    shutil.copytree(bundles, folder, symlinks=True)
    return folder


@pytest.fixture
def unfinished(copy: Path) -> Path:
    """The same without the cell shards of one slide and without the seal: two jobs are to be done."""
    for path in [*(copy / "results/slides/toy1/shards").glob("cell*"), copy / "results/dataset/manifest.json"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return copy
