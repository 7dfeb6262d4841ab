"""One toy slide and the commands that are run on it, as the rules run them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mistline.config.scales import DEFAULT_SCALES
from tests.e2e.faults.runner import Ended, Runner, tree

SCALES = json.dumps([scale.model_dump(mode="json") for scale in DEFAULT_SCALES])


@dataclass(frozen=True)
class Toy:
    """A folder with `bundle`, and the results of its stages beside it."""

    folder: Path
    runner: Runner
    STAGES: ClassVar[tuple[str, ...]] = ("check-bundle", "project-image", "read-cells", "cut-crops", "cut-tiles")

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    def run(self, stage: str, params: str = "{}", out: Path | None = None, **confined: Any) -> Ended:
        """Run one stage; `out`: where it writes instead of into the folder."""
        return self.runner(*self.words(stage, params, out), cwd=self.folder, **confined)

    def words(self, stage: str, params: str = "{}", out: Path | None = None) -> list[str | Path]:
        here, out = self.folder, out or self.folder
        scale = {"cut-crops": "cell", "cut-tiles": "niche"}.get(stage, "")
        cut = [
            "--image", here / "image.ome.zarr", "--image-summary", here / "image.json", "--cells",
            here / "cells.parquet", "--counts", here / "counts.h5ad", "--shards", out / "shards" / scale, "--index",
            out / "shards" / f"{scale}.parquet", "--slide", "s1", "--donor", "d1", "--scales", SCALES,
        ]  # fmt: skip
        files: dict[str, list[str | Path]] = {
            "check-bundle": [
                "--bundle", self.bundle, "--slide", "s1", "--donor", "d1", "--tissue", "t", "--disease", "x",
                "--report", out / "bundle.json",
            ],
            "project-image": [
                "--bundle", self.bundle, "--check", here / "bundle.json", "--image", out / "image.ome.zarr",
                "--summary", out / "image.json",
            ],
            "read-cells": [
                "--bundle", self.bundle, "--check", here / "bundle.json", "--cells", out / "cells.parquet",
                "--counts", out / "counts.h5ad", "--summary", out / "cells.json",
            ],
            "cut-crops": cut,
            "cut-tiles": ["--scale", scale, *cut],
        }  # fmt: skip
        return [stage, *files[stage], "--params", params]

    def refused(self, params: dict[str, str] | None = None) -> tuple[str, Ended]:
        """Run stage after stage until one refuses; check that it left everything as it was.

        Args:
            params: stage -> its settings.
        """
        for stage in self.STAGES:
            before = tree(self.folder)
            ended = self.run(stage, (params or {}).get(stage, "{}"))
            if ended.code:
                assert tree(self.folder) == before, "something was left behind"
                return stage, ended
        raise AssertionError("every stage took it")
