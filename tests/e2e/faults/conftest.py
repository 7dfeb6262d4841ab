"""Toy bundles and a toy cohort to spoil, commands to run on them, and the tables of what came of it."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mistline.xenium.toy import ToySlide, write_bundle
from mistline.xenium.toy.cohort import plan_cohort, write_cohort
from mistline.xenium.toy.histology import write_he
from tests.conftest import REPOSITORY, Snakemake
from tests.e2e.faults.lines import Line, line_of_tables, whole_line
from tests.e2e.faults.runner import Ended, Job, Runner, planned
from tests.e2e.faults.toy import Toy

RULES = REPOSITORY / "workflow/rules"


def rules_of(*files: str) -> tuple[str, ...]:
    """Return the rules of some files of the workflow."""
    texts = [(RULES / f"{file}.smk").read_text() for file in files]
    return tuple(name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE))


DATASET_RULES = rules_of("dataset", "splits", "histology", "viewer")
LINE_RULES = rules_of("models", "generators", "cells", "perturbation", "imputation", "peers", "evaluation", "report")
TABLE_RULES = rules_of("tables")
QUICK_RULES = ("read_reference", "fold_genes", "train", "embed", "assign_folds", "evaluate", "compare")
FAULTS = ("kills", "full disks", "read-only places", "damaged inputs", "flipped bits", "late files", "refused calls")
TABLES = {
    "bad input": ("input", "exit", "what the user reads"),
    "kills": (
        "stage",
        "kills",
        "before it wrote",
        "in a part",
        "between outputs",
        "at its end",
        "states",
        "reruns",
    ),
}
NAME = "sl ïde 世界"  # a space and letters beyond ASCII, in the path of everything here
Row = Callable[..., None]


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("output"))
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, runner: Runner) -> Toy:
    """A bundle of four stains, taken as far as its shards; read it, do not write it."""
    toy = Toy(tmp_path_factory.mktemp("made") / NAME, runner)
    write_bundle(toy.bundle, ToySlide(n_cells=80, n_planes=2, transcripts=False))
    for stage in toy.STAGES:
        ended = toy.run(stage)
        assert ended.code == 0, ended.output
    return toy


@pytest.fixture
def toy(made: Toy, tmp_path: Path) -> Toy:
    """A copy with results, to spoil."""
    shutil.copytree(made.folder, tmp_path / NAME)
    return Toy(tmp_path / NAME, made.runner)


@pytest.fixture
def raw(made: Toy, tmp_path: Path) -> Toy:
    """A copy of the bundle alone."""
    shutil.copytree(made.bundle, tmp_path / NAME / "bundle")
    return Toy(tmp_path / NAME, made.runner)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small toy slides of three donors, the first with an H&E image, without results."""
    folder = tmp_path_factory.mktemp("cohort") / NAME
    slides = plan_cohort(3, 90, 0, ("3.0", "1.0", "4.0"), n_planes=2, transcripts=False)
    write_cohort(folder, slides)
    write_he(folder / "he.ome.tif", folder / "he.csv", slides[0])
    head, first, *others = (folder / "slides.tsv").read_text().splitlines()
    lines = [f"{head}\the_image\the_alignment", f"{first}\the.ome.tif\the.csv", *(f"{line}\t\t" for line in others)]
    (folder / "slides.tsv").write_text("\n".join(lines) + "\n")
    shutil.copy(folder / "config.yaml", folder / "whole.yaml")
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"models": {}, "tasks": {}, "imputation": {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="session")
def jobs(cohort: Path, snakemake: Snakemake) -> list[Job]:
    """Every job that the rules run for the dataset and its export."""
    return planned(cohort, snakemake, "dataset", "viewer")


@pytest.fixture(scope="session")
def finished(cohort: Path, jobs: list[Job], runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort after every job, each run once and undisturbed; read it, do not write it."""
    folder = tmp_path_factory.mktemp("finished") / NAME
    shutil.copytree(cohort, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
    for job in jobs:
        ended = runner(*job.words, cwd=folder)
        assert ended.code == 0, ended.output
    return folder


@pytest.fixture(scope="session")
def line(
    finished: Path, runner: Runner, snakemake: Snakemake, nightly: bool, tmp_path_factory: pytest.TempPathFactory
) -> Line:
    """The cohort with models that were trained, judged and shown; read it, do not write it."""
    folder = tmp_path_factory.mktemp("line") / NAME
    shutil.copytree(finished, folder)
    return whole_line(folder, runner, snakemake, nightly)


@pytest.fixture(scope="session")
def tables(runner: Runner, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Three tables with an image each, as far as the sealed dataset; read it, do not write it."""
    return line_of_tables(tmp_path_factory.mktemp("tables") / NAME, runner, snakemake)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    nightly = metafunc.config.getoption("--nightly")
    if "line_rule" in metafunc.fixturenames:
        metafunc.parametrize("line_rule", LINE_RULES if nightly else QUICK_RULES)
    if "table_rule" in metafunc.fixturenames:
        metafunc.parametrize("table_rule", TABLE_RULES if nightly else [])


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Count faults that a test injects; they are survived when the test passes."""

    def count(kind: str, n: int = 1) -> None:
        assert kind in FAULTS
        request.node.user_properties.append((f"fault: {kind}", n))

    return count


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """Add a row to one of the tables that are printed at the end."""

    def add(table: str, *cells: object) -> None:
        assert len(cells) == len(TABLES[table])
        request.node.user_properties.append((f"table: {table}", [str(cell) for cell in cells]))

    return add


@pytest.fixture
def told(row: Row, tmp_path: Path) -> Callable[[str, Ended], str]:
    """Add a command's end to the table; return its sentence with the test's folder left out."""

    def tell(what: str, ended: Ended) -> str:
        shown = re.sub(re.escape(str(tmp_path)) + r"/?(" + re.escape(NAME) + r")?/?", "", ended.sentence)
        row("bad input", what, ended.code, shown)
        return shown

    return tell


def _counted(terminalreporter: pytest.TerminalReporter, outcome: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for report in terminalreporter.getreports(outcome):
        for key, n in report.user_properties:
            if report.when == "call" and key.startswith("fault: "):
                found[key.removeprefix("fault: ")] += n
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    survived, not_survived = _counted(terminalreporter, "passed"), _counted(terminalreporter, "failed")
    injected = survived + not_survived
    rows: dict[str, list[list[str]]] = {}
    for report in terminalreporter.getreports("passed"):
        for key, cells in report.user_properties:
            if report.when == "call" and key.startswith("table: "):
                rows.setdefault(key.removeprefix("table: "), []).append(cells)
    for name, found in rows.items():
        terminalreporter.section(name)
        if name == "kills":
            found.append(["all", *(str(sum(int(cells[n]) for cells in found)) for n in range(1, len(TABLES[name])))])
        for cells in (list(TABLES[name]), ["---"] * len(TABLES[name]), *found):
            terminalreporter.write_line("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if injected:
        terminalreporter.section("faults")
        for kind in FAULTS:
            terminalreporter.write_line(f"{kind}: {injected[kind]} injected, {survived[kind]} survived")
        terminalreporter.write_line(f"{injected.total()} faults injected, {survived.total()} survived")
