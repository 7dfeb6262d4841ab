"""What rooms share: a dataset in memory (`models.contract.Source`), and a small cohort on disk for the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.files import write_parquet
from mistline.store.embeddings import EmbeddingWriter, Origin
from mistline.tasks.files import FileInputs, SlideFiles, Subject

N_TYPES = 4
N_GENES = 12


class MemorySource:
    """Cells of planted types: each type has its own genes and its own size and brightness of nucleus."""

    channels = ("DAPI",)
    values = "counts"

    def __init__(self, n: int = 120, n_genes: int = 20, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.kind = rng.integers(0, N_TYPES, n)
        self.genes = tuple(f"ENSG{i:04d}" for i in range(n_genes))
        self.symbols = tuple(f"GENE{i}" for i in range(n_genes))
        self.common_genes = self.genes[:-2]  # the last two are missing on some slide
        self.panels = {"s": np.arange(n_genes) < n_genes - 2}
        self.slides = ("s",)
        rate = 1 + 15 * (np.arange(n_genes) % N_TYPES == np.arange(N_TYPES)[:, None])
        self.counts = rng.poisson(rate[self.kind]).astype(np.int32)
        self.side_um = 5 + 3 * self.kind + rng.uniform(0, 1, n)
        yx = np.mgrid[-1:1:32j, -1:1:32j]
        radius = np.hypot(*yx)[None] / rng.uniform(0.7, 0.9, n)[:, None, None]
        light = np.clip(1.2 - radius, 0, 1) * (90 + 45 * self.kind)[:, None, None] + rng.uniform(0, 20, (n, 32, 32))
        self.image = light.astype(np.uint8)[:, None]
        self.reads = 0

    def count(self, scale: str = "cell") -> int:
        return len(self.kind)

    def n_batches(self, needs, shuffle: int | None = None, *, rank: int = 0, world: int = 1) -> int:
        return -(-(len(self.kind) // world) // needs.batch_size)

    def batches(self, needs, shuffle: int | None = None, *, skip: int = 0, rank: int = 0, world: int = 1) -> Iterator:
        import torch

        self.reads += 1
        rows = np.arange(len(self.kind))
        if shuffle is not None:
            rows = np.random.default_rng(shuffle).permutation(rows)
        rows = rows[rank::world][: len(self.kind) // world]
        for start in range(skip * needs.batch_size, len(rows), needs.batch_size):
            part = rows[start : start + needs.batch_size]
            yield SimpleNamespace(
                slide=["s"] * len(part),
                record_id=[f"cell-{i}" for i in part],
                xy_um=torch.zeros(len(part), 2),
                side_um=torch.tensor(self.side_um[part], dtype=torch.float32),
                image=torch.tensor(self.image[part]) if needs.image_size else None,
                genes=torch.tensor(self.counts[part]).float() if needs.genes == "dense" else None,
                measured=None,
                gene_index=None,
                labels={},
                context={},
            )


@pytest.fixture
def memory_source() -> Callable[..., MemorySource]:
    return MemorySource


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
            slide, donor, *(folder / name for name in ("cells.parquet", "counts.h5ad", "s.parquet", "e.parquet"))
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
        ids_of_genes = [f"g{i:02d}" for i in range(N_GENES)]
        genes = pd.DataFrame({"symbol": [name.upper() for name in ids_of_genes]}, index=ids_of_genes)
        anndata.AnnData(counts, obs=pd.DataFrame(index=ids), var=genes).write_h5ad(item.counts)
        points = 3 * np.eye(N_TYPES)[kind] + noise * rng.normal(size=(n, N_TYPES))
        self.embed(item, ids, points.astype(np.float32))
        self.slides.append(item)
        return item

    def embed(self, item: SlideFiles, ids: list[str], points: np.ndarray, version: str = "v1") -> None:
        with EmbeddingWriter(item.embedding, Origin("good", 0, "weights", version)) as writer:
            writer.put(ids, points)

    def inputs(self, version: str = "v1") -> FileInputs:
        return FileInputs(self.slides, Subject("good", 0, version))

    def controls(self, version: str = "v1") -> FileInputs:
        return FileInputs([replace(item, embedding=None) for item in self.slides], Subject(None, 0, version))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path / "sl ïdes", [])
