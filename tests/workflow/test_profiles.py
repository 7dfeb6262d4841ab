"""profiles/README.md against the profiles: every line is explained, and every rule that takes a GPU is sent to one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

Words = dict[str, Any]


def section(text: str, title: str) -> str:
    """Return what a README says under `## title`, up to the next section of that level."""
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def explained(text: str) -> set[str]:
    """Return every word that stands as code in the first column of a table."""
    cells = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"[\w-]+", " ".join(re.findall(r"`(.+?)`", cell)))}


def keys(profile: Words, *, within: tuple[str, ...]) -> set[str]:
    """Return a profile's keys, and those inside of some."""
    return set(profile) | {key for name in within for key in profile.get(name, {})}


@pytest.mark.parametrize("name", ["toy", "slurm"])
def test_every_line_of_a_profile_is_explained(repository: Path, name: str) -> None:
    profile = yaml.safe_load((repository / f"profiles/{name}/config.yaml").read_text())
    told = explained(section((repository / "profiles/README.md").read_text(), name))
    within = ("default-resources", "resources") if name == "toy" else ("default-resources", "set-resources")
    assert keys(profile, within=within) <= told


def test_every_rule_that_takes_a_gpu_is_sent_to_the_partition_that_has_some(repository: Path) -> None:
    profile = yaml.safe_load((repository / "profiles/slurm/config.yaml").read_text())
    rules = "\n".join(path.read_text() for path in sorted((repository / "workflow/rules").glob("*.smk")))
    parts = re.split(r"^rule (\w+):$", rules, flags=re.MULTILINE)[1:]
    takes = {name for name, body in zip(parts[::2], parts[1::2], strict=True) if re.search(r"\bgpu=1\b", body)}
    assert {name for name, asked in profile["set-resources"].items() if asked["slurm_partition"] == "gpu"} == takes
