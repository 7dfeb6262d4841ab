"""A toy bundle taken as far as the cells, for the stages that cut its image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.config.scales import DEFAULT_SCALES
from mistline.stages import check_bundle, cut_crops, cut_tiles, project_image, read_cells
from mistline.xenium.toy import ToySlide, write_bundle

SCALES = json.dumps([scale.model_dump() for scale in DEFAULT_SCALES])


@dataclass
class Prepared:
    """A checked bundle and where its stages write."""

    folder: Path
    slide: ToySlide

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def check(self) -> Path:
        return self.folder / "bundle.json"

    def project(self, out: Path, params: str = '{"channels": ["DAPI", "18S"]}', threads: int = 1) -> dict[str, Any]:
        summary = out / "image.json"
        project_image.run(
            bundle=self.bundle, check=self.check, image=out / "image.ome.zarr", summary=summary, params=params,
            threads=threads,
        )  # fmt: skip
        return json.loads(summary.read_text())

    def crops(self, out: Path, params: str = "{}", **options: Any) -> None:
        files = {"shards": out / "shards" / "cell", "index": out / "shards" / "cell.parquet"}
        cut_crops.run(**self._inputs(out), **files, params=params, scales=SCALES, **options)

    def tiles(self, out: Path, scale: str = "niche", **options: Any) -> None:
        files = {"shards": out / "shards" / scale, "index": out / "shards" / f"{scale}.parquet"}
        options = {"params": "{}", "scales": SCALES} | options
        cut_tiles.run(scale=scale, **self._inputs(out), **files, **options)

    def _inputs(self, out: Path) -> dict[str, Any]:
        return {
            "image": out / "image.ome.zarr", "image_summary": out / "image.json",
            "cells": self.folder / "cells.parquet", "counts": self.folder / "counts.h5ad", "slide": "s1", "donor": "d1",
        }  # fmt: skip


def prepare(folder: Path, **settings: Any) -> Prepared:
    """Write a toy bundle and read its cells."""
    settings = {"layout": "3.0", "n_planes": 2, "transcripts": False} | settings
    prepared = Prepared(folder, ToySlide(**settings))
    write_bundle(prepared.bundle, prepared.slide)
    check_bundle.run(
        bundle=prepared.bundle, slide="s1", donor="d1", tissue="t", disease="x", report=prepared.check, params="{}"
    )
    paths = {"cells": folder / "cells.parquet", "counts": folder / "counts.h5ad", "summary": folder / "cells.json"}
    read_cells.run(bundle=prepared.bundle, check=prepared.check, **paths, params="{}")
    return prepared
