"""A small bundle made by hand: every table can be spoilt before it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import sparse

PIXEL_UM = 0.5
SHAPE_PX = (240, 320)  # rows, cols: 120 um high, 160 um wide
CONTROLS = ("Negative Control Probe", "Unassigned Codeword")
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "xenium"
FOCUS_NAMES = {
    "1.0": "morphology_focus.ome.tif",
    "1.3": "morphology_focus.ome.tif",
    "2.0": "morphology_focus/morphology_focus_0000.ome.tif",
    "3.0": "morphology_focus/morphology_focus_0000.ome.tif",
    "4.0": "morphology_focus/ch0000_dapi.ome.tif",
}
LAYOUTS = tuple(FOCUS_NAMES)


@dataclass
class Bundle:
    """The parts of a bundle, before they are files."""

    layout: str
    cells: pd.DataFrame
    cell_boundaries: pd.DataFrame
    nucleus_boundaries: pd.DataFrame
    counts: sparse.csr_matrix  # cells x features
    barcodes: list[str]
    features: pd.DataFrame  # id, name, feature_type
    image: np.ndarray
    experiment: dict
    ome_pixel_um: float = PIXEL_UM
    images: tuple[str, ...] = ("zstack", "mip", "focus")
    panel: dict | None = field(default=None)

    def write(self, root: Path) -> Path:
        root.mkdir(parents=True)
        (root / "experiment.xenium").write_text(json.dumps(self.experiment))
        for name in ("cells", "cell_boundaries", "nucleus_boundaries"):
            getattr(self, name).to_parquet(root / f"{name}.parquet", index=False, row_group_size=100)
        write_matrix(root / "cell_feature_matrix.h5", self.counts, self.barcodes, self.features)
        if self.panel is not None:
            (root / "gene_panel.json").write_text(json.dumps(self.panel))
        self._write_images(root)
        return root

    def _write_images(self, root: Path) -> None:
        if "zstack" in self.images:
            write_image(root / "morphology.ome.tif", np.stack([self.image // 2, self.image]), self.ome_pixel_um)
        if "mip" in self.images and self.layout.startswith("1"):
            write_image(root / "morphology_mip.ome.tif", self.image, self.ome_pixel_um)
        if "focus" in self.images:
            write_image(root / FOCUS_NAMES[self.layout], self.image, self.ome_pixel_um)


def make(layout: str = "3.0") -> Bundle:
    """Six rows of eight cells, each a bright nucleus in an octagon; cell 0 has two nuclei, cell 1 none."""
    rng = np.random.default_rng(7)
    row, col = np.divmod(np.arange(48), 8)
    x = 8 + 19.5 * col + rng.uniform(-3, 3, 48)
    y = 14 + 19.0 * row + rng.uniform(-3, 3, 48)
    ids = (
        np.arange(1, 49) * 7
        if layout == "1.0"
        else np.array([f"aaaa{'abcdefgh'[i // 6]}b{'ijklmn'[i % 6]}c-1" for i in range(48)])
    )
    features = pd.DataFrame(
        {
            "id": [f"ENSG{i:011d}" for i in (5, 3, 9, 1)] + ["probe", "codeword"],
            "name": ["GENE5", "GENE3", "GENE9", "GENE1", "probe", "codeword"],
            "feature_type": ["Gene Expression"] * 4 + list(CONTROLS),
        }
    )
    counts = sparse.csr_matrix(rng.poisson([3.0, 1.0, 0.5, 2.0, 0.1, 0.1], (48, 6)) + np.eye(1, 6, dtype=int))
    cells = pd.DataFrame(
        {
            "cell_id": ids,
            "x_centroid": x,
            "y_centroid": y,
            "transcript_counts": counts[:, :4].sum(axis=1).A1.astype(np.int64),
            "cell_area": rng.uniform(60, 90, 48),
            "nucleus_area": np.where(np.arange(48) == 1, np.nan, 28.0),
        }
    )
    if layout in ("3.0", "4.0"):
        cells["genomic_control_counts"] = 0
    since_2 = layout not in ("1.0", "1.3")
    return Bundle(
        layout=layout,
        cells=cells,
        cell_boundaries=polygons(ids, x, y, 5.0, np.arange(48) if since_2 else None),
        nucleus_boundaries=_nuclei(ids, x, y, since_2),
        counts=counts.astype(np.int32),
        barcodes=[str(value) for value in ids],
        features=features,
        image=_image(x, y),
        experiment={
            "num_cells": 48,
            "panel_name": "Test panel",
            "panel_tissue_type": "Breast",
            "slide_id": "0001234",
            "pixel_size": PIXEL_UM,
            "analysis_sw_version": f"xenium-{layout}.0.1",
        },
    )


def polygons(ids: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float, labels: np.ndarray | None) -> pd.DataFrame:
    angle = np.linspace(0, 2 * np.pi, 9)
    table = pd.DataFrame(
        {
            "cell_id": np.repeat(ids, 9),
            "vertex_x": (x[:, None] + radius * np.cos(angle)).ravel().astype(np.float32),
            "vertex_y": (y[:, None] + radius * np.sin(angle)).ravel().astype(np.float32),
        }
    )
    if labels is not None:
        table["label_id"] = np.repeat(labels + 1, 9).astype(np.uint32)
    return table


def write_matrix(path: Path, counts: sparse.csr_matrix, barcodes: list[str], features: pd.DataFrame) -> None:
    """Write cells x features as 10x does: features x barcodes by columns."""
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        for name in ("data", "indices", "indptr"):
            group.create_dataset(name, data=getattr(counts, name), compression="gzip" if name != "indptr" else None)
        group["shape"] = np.array(counts.shape[::-1], dtype=np.int32)
        for name in features:
            group[f"features/{name}"] = features[name].to_numpy().astype("S")


def write_image(path: Path, planes: np.ndarray, pixel_um: float) -> None:
    path.parent.mkdir(exist_ok=True)
    metadata = {
        "axes": "ZYX" if planes.ndim == 3 else "YX",
        "PhysicalSizeX": pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_um,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": "DAPI"},
    }
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(planes, subifds=1, tile=(64, 64), compression="zlib", metadata=metadata)
        file.write(planes[..., ::2, ::2], subfiletype=1, tile=(64, 64), compression="zlib")


def _nuclei(ids: np.ndarray, x: np.ndarray, y: np.ndarray, since_2: bool) -> pd.DataFrame:
    has = np.arange(48) != 1
    single = polygons(ids[has], x[has], y[has], 3.0, np.arange(48)[has] if since_2 else None)
    if not since_2:
        return single
    return pd.concat([single, polygons(ids[:1], x[:1] + 1, y[:1], 2.0, np.array([100]))], ignore_index=True)


def _image(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row, col = np.mgrid[: SHAPE_PX[0], : SHAPE_PX[1]]
    image = np.random.default_rng(1).integers(80, 120, SHAPE_PX).astype(np.uint16)
    for centre_x, centre_y in zip(x / PIXEL_UM, y / PIXEL_UM, strict=True):
        image[(row - centre_y) ** 2 + (col - centre_x) ** 2 < 36] += 2000
    return image


@pytest.fixture
def bundle() -> Bundle:
    return make()


@pytest.fixture
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip("the real crops beside the repository (../shared) are missing")
    return REAL
