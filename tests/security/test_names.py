"""Names and paths that a shell or Snakemake would obey go through a real run as nothing but text."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from mistline.config.load import load_config
from mistline.core.errors import ConfigError
from mistline.xenium.toy import ToySlide, write_bundle
from tests.conftest import REPOSITORY, Snakemake

OBEYED = "$(touch canary) `touch canary` ; touch canary & 'a\" \\ * ~ # ${HOME}"
BRACES = "{wildcards.slide} {x} }{"
PROFILE = ["--workflow-profile", "none", "--cores", "1", "--show-failed-logs", "--printshellcmds"]
FILE = OBEYED.replace("${HOME}", "$HOME")
NAMES = ["$(touch x)", "a;b", "`x`", "a b", "-rf", "..", "../a", "a/b", "{x}", "a\n", "", "a'b", "ä", "a\0", "<b>"]
SLIDE = {"slide": "s1", "bundle": "b", "donor": "d", "tissue": "t", "disease": "x"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["slide", "model", "scale", "task"])
def test_names_of_folders_are_plain(place: str, name: str) -> None:
    values = {
        "slide": {"slides": [SLIDE | {"slide": name}]},
        "model": {"slides": [SLIDE], "models": {name: {"model": "pca"}}},
        "scale": {"slides": [SLIDE], "scales": [{"name": name, "unit": "grid", "size_px": 64}]},
        "task": {"slides": [SLIDE], "tasks": {name: {"protocols": ["a"]}}},
    }
    if place == "task":  # its name is that of a module of the registry
        from mistline.workflow.registry import find

        with pytest.raises(ConfigError, match="unknown task"):
            find("tasks", name, "tasks")
        return
    with pytest.raises(ConfigError) as caught:
        load_config(values[place], root=REPOSITORY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["labels", "he_image", "table"])
def test_files_that_snakemake_would_take_for_wildcards(key: str) -> None:
    slide = SLIDE | {"he_alignment": "a.csv"} if key == "he_image" else SLIDE
    with pytest.raises(ConfigError, match=f"{key} of slide s1 has a brace in its path"):
        load_config({"slides": [slide | {key: "a{slide}"} | ({"bundle": None} if key == "table" else {})]}, root=Path())


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A slide whose every free text is hostile, and one beside it whose files are only named."""
    folder = tmp_path / "cohort"
    bundle = folder / f"{OBEYED} {BRACES}"
    write_bundle(bundle, ToySlide(n_cells=40, n_planes=1, n_stains=1, transcripts=False))
    free = {"donor": OBEYED + BRACES, "tissue": f"-{OBEYED}", "disease": f"{BRACES}\n{OBEYED}", "bundle": bundle.name}
    labels = folder / f"l {FILE}.csv"
    labels.write_text("cell_id,type\n")
    shutil.copytree(bundle, folder / f"{bundle.name} 2")
    second = {"he_image": f"h {FILE}.tif", "he_alignment": f"h {FILE}.csv", "labels": labels.name}
    for name in (second["he_image"], second["he_alignment"]):
        (folder / name).touch()
    slides = [{"slide": "s1", **free}, {"slide": "s2", **free, **second, "donor": "d2", "bundle": f"{bundle.name} 2"}]
    config = {"slides": slides, "models": {"pca": {"model": "pca"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _run(snakemake: Snakemake, cohort: Path, *words: str) -> str:
    files = ["--snakefile", REPOSITORY / "Snakefile", "--configfile", cohort / "config.yaml", "--directory", cohort]
    run = snakemake(*files, *PROFILE, *words)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_a_run_with_hostile_texts(cohort: Path, snakemake: Snakemake) -> None:
    told = _run(snakemake, cohort, "--dry-run", "all")
    commands = re.findall(r"^(?:Shell command:)? *(python -m mistline .*? &> [^\n]*)$", told, re.MULTILINE | re.DOTALL)
    assert len(commands) > 20
    for command in commands:
        _require_quoted(command)
    for name in (f"l {FILE}.csv", f"h {FILE}.tif"):
        assert any(name in shlex.split(command) for command in commands)
    _run(snakemake, cohort, "results/slides/s1/bundle.json")
    report = json.loads((cohort / "results/slides/s1/bundle.json").read_text())
    assert (report["donor"], report["tissue"]) == (OBEYED + BRACES, f"-{OBEYED}")
    assert report["disease"] == f"{BRACES}\n{OBEYED}"
    assert not list(cohort.parent.rglob("canary*"))


def _require_quoted(command: str) -> None:
    """Nothing outside of quotes is anything but a word, and the log."""
    bare = re.sub(r"'[^']*'|\"'\"", "", command.strip()).replace("${SLURM_GPUS_ON_NODE:-1}", "")
    assert re.fullmatch(r"[\w./:=,@%+ -]*&> [\w./-]+", bare), bare
