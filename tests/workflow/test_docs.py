"""What the documentation says is there: links, commands, options, settings, examples, and a notebook with outputs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from mistline.cli import COMMANDS
from mistline.config.load import load_config
from mistline.store.manifest import read_manifest
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "workflow/docs"
PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "profiles/README.md")),
        *DOCS.rglob("*.md"),
        *REPOSITORY.glob("src/mistline/**/README.md"),
    ]
)
EXAMPLES = DOCS / "examples"
NOTEBOOK = DOCS / "tutorial.ipynb"
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|mnt|Users|scratch)/")  # where somebody's files lie
SLIDE = {"slide": "s", "bundle": "b", "donor": "d", "tissue": "t", "disease": "x", "labels": "l.csv"}


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def anchors(page: Path) -> set[str]:
    """Return the names that headings can be linked by."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", head)).lower().replace(" ", "-") for head in heads
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), target


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command of ours that a page shows; several lines may be one command."""
    text = "\n".join([*(block for kind, block in FENCE.findall(page.read_text()) if kind in ("", "bash"))])
    text += "\n" + "\n".join(re.findall(r"`((?:mistline|make|snakemake) [^`\n]*)`", page.read_text()))
    found = re.findall(r"^ *(?:\S*/)?(mistline|make|snakemake) ([^#\n]+)", text.replace("\\\n", " "), re.MULTILINE)
    return [[program, *words.split()] for program, words in found]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for program, command, *words in commands(page):
        if program == "make":
            assert command in targets
        if program == "snakemake":
            behind = re.findall(r"(?<=--config )[^-]+", " ".join([command, *words]))
            assert all("=" in word for part in behind for word in part.split()), (
                "a target behind --config is no setting"
            )
        if program != "mistline":
            continue
        assert command in COMMANDS
        source = (REPOSITORY / f"src/mistline/stages/{command.replace('-', '_')}.py").read_text()
        (run,) = [item for item in ast.parse(source).body if isinstance(item, ast.FunctionDef) and item.name == "run"]
        known = {"help"} | {item.arg for item in [*run.args.args, *run.args.kwonlyargs]}
        for option in (word.removeprefix("--") for word in words if word.startswith("--")):
            option = option.partition("=")[0]
            assert option.replace("-", "_") in known or f'"--{option}"' in source, f"{command} --{option}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_are_known(page: Path) -> None:
    for kind, block in FENCE.findall(page.read_text()):
        values = yaml.safe_load(block) if kind == "yaml" else None
        if isinstance(values, dict) and not {"max-threads", "set-resources"} & set(values):
            load_config({"slides": [SLIDE], **values}, root=REPOSITORY)


def test_every_section_of_the_report_is_explained() -> None:
    # Read, not imported: the page's module imports all that draws.
    source = ast.parse((REPOSITORY / "src/mistline/report/page.py").read_text())
    (sections,) = [
        item.value for item in source.body if isinstance(item, ast.Assign) and item.targets[0].id == "SECTIONS"
    ]
    heads = re.findall(r"^### (.*)$", (DOCS / "figures.md").read_text(), re.MULTILINE)
    assert heads == list(ast.literal_eval(sections).values())


def test_examples_are_of_one_dataset_small_and_of_no_machine() -> None:
    version = read_manifest(EXAMPLES / "manifest.json").version
    assert version in (EXAMPLES / "card.md").read_text()
    scores = json.loads((EXAMPLES / "clustering.fixed_resolution.pca.seed-0.json").read_text())
    assert scores["dataset_version"] == version
    files = [path for path in EXAMPLES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_500_000
    assert max(path.stat().st_size for path in files if path.suffix == ".png") <= 100_000
    assert not [path for path in files if path.suffix != ".png" and ABSOLUTE.search(path.read_text())]


def test_the_notebook_is_kept_as_it_was_run() -> None:
    text = NOTEBOOK.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 6
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert not ABSOLUTE.search(text)
    assert len(text) < 400_000
