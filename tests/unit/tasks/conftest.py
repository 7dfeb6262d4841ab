"""A small cohort on disk with planted types: what the tasks read, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.files import write_parquet
from mistline.store.embeddings import EmbeddingWriter, Origin
from mistline.tasks.files import FileInputs, SlideFiles

N_TYPES = 4
N_GENES = 12


@dataclass
class Cohort:
    """Writes slides; every argument that a test wants wrong can be given."""

    root: Path
    slides: list[SlideFiles]

    def add(self, slide: str, donor: str, *, n: int = 150, labels: bool = True, noise: float = 0.3) -> SlideFiles:
        rng = np.random.default_rng(len(self.slides))
        kind = rng.integers(0, N_TYPES, n)
        folder = self.root / slide
        folder.mkdir(parents=True)
        ids = [f"{slide}-{i}" for i in range(n)]
        item = SlideFiles(
            slide, donor, *(folder / name for name in ("e.parquet", "cells.parquet", "counts.h5ad", "s.parquet"))
        )
        xy_um = rng.uniform(0, 500, (n, 2))
        table = pd.DataFrame({"cell_id": ids, "x_um": xy_um[:, 0], "y_um": xy_um[:, 1]})
        if labels:
            names = np.array([f"type{k}" for k in kind], dtype=object)
            names[::10] = None
            table["label_cell_type"] = names
        write_parquet(item.cells, table)
        split = np.where(np.arange(n) % 3 == 0, "train", "test")
        write_parquet(item.splits, pd.DataFrame({"cell_id": ids, "split": split}))
        rate = np.ones((N_TYPES, N_GENES)) + 20 * (np.arange(N_GENES) % N_TYPES == np.arange(N_TYPES)[:, None])
        counts = sparse.csr_matrix(rng.poisson(rate[kind]).astype(np.int32))
        genes = pd.DataFrame(index=[f"g{i:02d}" for i in range(N_GENES)])
        anndata.AnnData(counts, obs=pd.DataFrame(index=ids), var=genes).write_h5ad(item.counts)
        points = 3 * np.eye(N_TYPES)[kind] + noise * rng.normal(size=(n, N_TYPES))
        self.embed(item, ids, points.astype(np.float32))
        self.slides.append(item)
        return item

    def embed(self, item: SlideFiles, ids: list[str], points: np.ndarray, version: str = "v1") -> None:
        with EmbeddingWriter(item.embedding, Origin("good", 0, "weights", version)) as writer:
            writer.put(ids, points)

    def inputs(self, version: str = "v1") -> FileInputs:
        return FileInputs(self.slides, "good", 0, version)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path / "sl ïdes", [])
