"""A run with a missing bundle, killed half-way; `test_dag` shows that none is fetched unless it is asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mistline.fetch.copy import BLOCK
from tests.conftest import REPOSITORY, Snakemake
from tests.unit.fetch.server import Served, serving, zipped
from tests.unit.xenium.conftest import make
from tests.workflow.test_dag import jobs

OF = {"donor": "d", "tissue": "t", "disease": "x"}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A bundle with something that is not read in it, as a zip on a server."""
    monkeypatch.setenv("no_proxy", "*")
    original = make("3.0").write(tmp_path / "original")
    (original / "transcripts.parquet").write_bytes(os.urandom(10 * BLOCK))
    with serving(Served(zipped(original, tmp_path / "outs.zip", "outs/").read_bytes())) as served:
        yield served


@pytest.fixture
def options(tmp_path: Path, served: Served) -> list[str]:
    """Two slides: of one the bundle is missing, of the other it is on disk."""
    slides = [
        {"slide": "s1", "bundle": "bundles/it's {here}", "url": f"{served.url}?a='b'&c=$HOME", **OF},
        {"slide": "s2", "bundle": "original", "url": served.url, **OF},
    ]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"slides": slides}))
    return ["--configfile", str(tmp_path / "config.yaml"), "--directory", str(tmp_path), "--nolock"]


def test_killed_and_run_again_it_goes_on_and_the_bundle_is_as_from_disk(
    snakemake: Snakemake, options: list[str], served: Served, tmp_path: Path
) -> None:
    served.hold_after = 4 * BLOCK
    words = [sys.executable, "-m", "snakemake", "--cores", "1", *options, "--config", "fetch=true", "--", "check"]
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(words, cwd=REPOSITORY, start_new_session=True, stdout=output, stderr=output)
        is_held = served.held.wait(120)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert is_held, (tmp_path / "output").read_text()
    bundle = tmp_path / "bundles/it's {here}"
    assert not bundle.exists()
    served.hold_after = None
    served.release.set()
    again = snakemake("--cores", "1", *options, "--config", "fetch=true", "--", "check")
    assert again.returncode == 0, again.stdout + again.stderr
    assert jobs(again.stdout + again.stderr)["fetch_bundle"] == 1
    assert served.sent_twice() < BLOCK
    assert served.n_sent < len(served.data) - 8 * BLOCK  # without what is not read
    first, second = (json.loads((tmp_path / f"results/slides/{name}/bundle.json").read_text()) for name in ("s1", "s2"))
    assert first == second | {"slide": "s1"}
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    assert not (tmp_path / "original/mistline-fetch.json").exists()
    run = snakemake("--dry-run", *options, "check")  # no longer asked for: nothing depends on that
    assert "Nothing to be done" in run.stdout + run.stderr
