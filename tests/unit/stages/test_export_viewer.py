from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from mistline.core.errors import ConfigError, InputError, ResourceError
from mistline.core.files import write_parquet
from mistline.core.hashing import hash_file
from mistline.mist.pyramid import Description, LevelWriter, create
from mistline.stages import export_viewer
from mistline.store.embeddings import EmbeddingWriter, Origin
from mistline.store.imputed import ImputedGenes, write_imputed
from mistline.store.manifest import write_manifest
from tests.unit.stages.images import Prepared, prepare

N = 200


@dataclass
class Exported:
    """A toy slide with everything the stage reads, and what it wrote."""

    made: Prepared
    version: str

    def run(self, out: Path, **options: Any) -> None:
        folder = self.made.folder
        inputs = {
            name.partition(".")[0]: folder / name
            for name in ("cells.parquet", "counts.h5ad", "splits.parquet", "metacells.parquet", "manifest.json")
        }
        embedding = [folder / "pca.parquet", folder / "image.parquet"]
        inputs |= {"image": folder / "image.ome.zarr", "image_summary": folder / "image.json", "embedding": embedding}
        outputs = {"store": out / "s1.zarr", "groups": out / "s1.groups"}
        export_viewer.run(**({"bundle": self.made.bundle, "slide": "s1"} | inputs | outputs | options))

    @property
    def cells(self) -> pd.DataFrame:
        return pd.read_parquet(self.made.folder / "cells.parquet")


def embed(path: Path, ids: list[str], model: str, version: str, seed: int = 0) -> Path:
    rng = np.random.default_rng(len(model))
    kind = np.arange(len(ids)) % 4
    points = 5 * np.eye(4)[kind] + rng.normal(0, 0.1, (len(ids), 4))
    with EmbeddingWriter(path, Origin(model, seed, "weights", version)) as writer:
        writer.put(ids, points.astype(np.float32))
    return path


def impute(path: Path, ids: list[str], version: str) -> Path:
    mean = np.full((len(ids), 2), 1.5, np.float32)
    own = ImputedGenes(
        slide=np.full(len(ids), "s1"), cell_id=np.array(ids), genes=("x0", "x1"), symbols=("X0", "X1"),
        fold=np.full(2, -1), mean=mean, sd=mean - 1, origin=Origin("net", 0, "weights", version), about={},
    )  # fmt: skip
    write_imputed(path, own)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    made = prepare(tmp_path_factory.mktemp("sl ïde"), n_stains=1, n_cells=N, aspect=1.6)
    made.project(made.folder, "{}")
    cells = pd.read_parquet(made.folder / "cells.parquet")
    kind = np.arange(N) % 4
    labels = np.array([f"type {k}" for k in kind], dtype=object)
    labels[::10] = None
    cells["label_cell type"], cells["label_size"] = labels, [f"{i / 7:.3f}" for i in range(N)]
    write_parquet(made.folder / "cells.parquet", cells)
    write_parquet(made.folder / "splits.parquet", cells[["cell_id"]].assign(split=np.where(kind == 0, "gap", "train")))
    groups = {"metacell": kind.astype(np.int32), "l1": kind % 3, "l2": kind % 2, "distance": np.float32(1)}
    write_parquet(made.folder / "metacells.parquet", cells[["cell_id"]].assign(**groups))
    version = write_manifest(made.folder / "manifest.json", {"slides": []})
    for model in ("pca", "image"):
        embed(made.folder / f"{model}.parquet", cells["cell_id"].tolist(), model, version)
    found = Exported(made, version)
    found.run(made.folder / "viewer")
    return found


@pytest.fixture(scope="module")
def store(exported: Exported) -> Any:
    spatialdata = pytest.importorskip("spatialdata", reason="the viewer extra is not installed")
    return spatialdata.read_zarr(exported.made.folder / "viewer" / "s1.zarr")


def full(element: Any) -> np.ndarray:
    return element["scale0"]["image"].to_numpy()


def test_the_store_opens_with_image_labels_and_a_table_that_describes_them(exported, store):
    assert set(store.images) == {"morphology"}
    assert set(store.labels) == {"cells", "nuclei"}
    table = store.tables["table"]
    assert table.uns["spatialdata_attrs"]["region"] == "cells"
    labels = full(store.labels["cells"])
    assert set(np.unique(labels)) == {0, *table.obs["instance_id"]}
    assert table.obs["cell_id"].tolist() == exported.cells["cell_id"].tolist()
    assert table.X.sum() == exported.cells["n_counts"].sum()
    assert store.attrs["mistline"]["dataset_version"] == exported.version


def test_pixels_and_levels_are_those_of_the_slide(exported, store):
    ours = zarr.open_group(exported.made.folder / "image.ome.zarr", mode="r")
    image, labels = store.images["morphology"], store.labels["cells"]
    assert len(image) == len(labels) == len(list(ours.array_keys())) > 1
    for level in range(len(image)):
        pixels = image[f"scale{level}"]["image"]
        assert (pixels.to_numpy() == ours[str(level)][:]).all()
        assert labels[f"scale{level}"]["image"].shape == pixels.shape[1:]
    assert image["scale0"]["image"].coords["c"].to_numpy().tolist() == ["DAPI"]


def test_everything_aligns_in_micrometres(exported, store):
    from spatialdata.transformations import get_transformation

    scale = exported.made.slide.pixel_size_um
    for element in (store.images["morphology"], store.labels["cells"], store.labels["nuclei"]):
        matrix = get_transformation(element, "global").to_affine_matrix(("x", "y"), ("x", "y"))
        assert np.allclose(matrix, np.diag([scale, scale, 1]))
    labels, table = full(store.labels["cells"]), store.tables["table"]
    row, column = np.nonzero(labels)
    size = np.bincount(labels[row, column], minlength=N + 1)[1:]
    for pixels, name in ((column, "x_um"), (row, "y_um")):
        centre_um = (np.bincount(labels[row, column], pixels + 0.5, N + 1)[1:] / size) * scale
        assert np.median(np.abs(centre_um - table.obs[name])) < 2 * scale
        low, high = table.obs[name.replace("_", "_min_")], table.obs[name.replace("_", "_max_")]
        assert ((centre_um > low) & (centre_um < high)).all()
    assert np.abs(size * scale**2 / table.obs["cell_area_um2"] - 1).median() < 0.1
    assert (table.obsm["spatial"] == table.obs[["x_um", "y_um"]].to_numpy()).all()


def test_nuclei_lie_on_what_dapi_stains_and_carry_their_cell(store):
    pixels, cells, nuclei = (
        full(store.images["morphology"])[0],
        *(full(store.labels[name]) for name in ("cells", "nuclei")),
    )
    assert pixels[nuclei > 0].mean() > 2 * pixels[(cells > 0) & (nuclei == 0)].mean()
    inside = nuclei > 0
    assert (cells[inside] == nuclei[inside]).mean() > 0.9


def test_the_table_holds_what_is_known_of_a_cell(exported, store):
    obs = store.tables["table"].obs
    assert set(obs["split"].cat.categories) == {"train", "val", "test", "gap"}
    assert obs["label_cell_type"].isna().sum() == N // 10
    assert np.issubdtype(obs["label_size"].dtype, np.floating)
    assert obs["l1"].cat.categories.tolist() == ["0", "1", "2"]
    assert obs["cluster_pca"].cat.categories.tolist() == ["1", "2", "3"]
    assert set(store.tables["table"].obsm) == {"X_pca", "X_image", "spatial"}


def test_explorer_gets_a_file_for_every_grouping(exported):
    folder = exported.made.folder / "viewer" / "s1.groups"
    names = {"label_cell_type", "l1", "l2", "split", "cluster_pca", "cluster_image"}
    assert {path.stem for path in folder.iterdir()} == names
    found = pd.read_csv(folder / "label_cell_type.csv", dtype=str)
    assert found.columns.tolist() == ["cell_id", "group"]
    known = exported.cells.dropna(subset="label_cell type")
    assert found["cell_id"].tolist() == known["cell_id"].tolist()
    assert found["group"].tolist() == known["label_cell type"].tolist()


def test_a_second_run_gives_the_same_bytes_for_any_threads(exported, tmp_path):
    exported.run(tmp_path, threads=3)
    for name in ("s1.zarr", "s1.groups"):
        assert hash_file(tmp_path / name) == hash_file(exported.made.folder / "viewer" / name)
    noted = json.loads((tmp_path / "s1.zarr.meta.json").read_text())
    assert noted["stage"] == "export_viewer"
    assert {"bundle", "manifest", "embedding[1]"} <= set(noted["inputs"])


def test_settings_are_followed_and_a_he_image_is_shown_in_colour(exported, tmp_path):
    spatialdata = pytest.importorskip("spatialdata", reason="the viewer extra is not installed")
    shape_px = tuple(json.loads((exported.made.folder / "image.json").read_text())["shape_px"])
    arrays = create(tmp_path / "he.ome.zarr", Description("s1", ["red", "green", "blue"], shape_px, 0.2125))
    for channel in range(3):
        writer = LevelWriter(arrays, channel)
        writer.append(np.full(shape_px, 60 * channel, dtype=np.uint8))
        writer.finish()
    ids = exported.cells["cell_id"].tolist()
    seeds = [embed(tmp_path / f"{seed}.parquet", ids, "pca", exported.version, seed) for seed in (0, 1)]
    added = impute(tmp_path / "imputed.parquet", ids, exported.version)
    exported.run(tmp_path, he=tmp_path / "he.ome.zarr", embedding=seeds, imputed=[added], params='{"n_clusters": 2}')
    store = spatialdata.read_zarr(tmp_path / "s1.zarr")
    assert store.images["he"]["scale0"]["image"].coords["c"].to_numpy().tolist() == ["r", "g", "b"]
    assert full(store.images["he"])[:, 0, 0].tolist() == [0, 60, 120]
    assert {"X_pca.seed-0", "X_pca.seed-1"} < set(store.tables["table"].obsm)
    assert store.tables["table"].obs["cluster_pca.seed-1"].nunique() == 2
    layer = store.tables["imputed_net"]  # what was imputed lies apart from what was measured
    assert layer.uns["spatialdata_attrs"]["region"] == "cells"
    assert layer.obs["cell_id"].tolist() == ids
    assert (layer.X == 1.5).all()
    assert (layer.layers["sd"] == 0.5).all()
    assert set(layer.var_names).isdisjoint(store.tables["table"].var_names)
    assert "imputed[0]" in json.loads((tmp_path / "s1.zarr.meta.json").read_text())["inputs"]


def test_an_embedding_of_another_dataset_or_of_other_cells_is_refused(exported, tmp_path):
    ids = exported.cells["cell_id"].tolist()
    old = embed(tmp_path / "old.parquet", ids, "pca", "another version")
    other = embed(tmp_path / "other.parquet", ids[::-1], "pca", exported.version)
    for path, sentence in ((old, "another version of the dataset"), (other, "lists other cells")):
        with pytest.raises(InputError, match=sentence):
            exported.run(tmp_path / "out", embedding=[path])
    assert not (tmp_path / "out").exists()


def test_polygons_that_went_away_are_an_error(exported, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in exported.made.bundle.iterdir():
        (bundle / path.name).symlink_to(path)
    polygons = pd.read_parquet(bundle / "cell_boundaries.parquet")
    (bundle / "cell_boundaries.parquet").unlink()
    lost = polygons["cell_id"] == exported.cells["cell_id"][0]
    polygons[~lost].to_parquet(bundle / "cell_boundaries.parquet")
    with pytest.raises(InputError, match=r"1 cells of .* have no polygon any more"):
        exported.run(tmp_path / "out", bundle=bundle)


def test_a_damaged_image_is_an_error_and_leaves_nothing(exported, tmp_path):
    damaged = tmp_path / "image.ome.zarr"
    shutil.copytree(exported.made.folder / "image.ome.zarr", damaged)
    chunk = next(path for path in sorted((damaged / "1").rglob("*")) if path.is_file() and path.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(InputError, match="of level 1 are damaged"):
        exported.run(tmp_path / "out", image=damaged)
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_setting_is_an_error(exported, tmp_path):
    with pytest.raises(ConfigError, match="did you mean n_clusters"):
        exported.run(tmp_path, params='{"n_cluster": 3}')


def test_without_the_viewer_extra_one_sentence_says_so(exported, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "spatialdata"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("sys.meta_path", [_Hidden(), *sys.meta_path])
    with pytest.raises(ResourceError, match=r"spatialdata is not installed; install mistline\[viewer\]"):
        exported.run(tmp_path)
    assert not list(tmp_path.iterdir())


class _Hidden:
    """Says of spatialdata what Python says of a package that is not there."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "spatialdata":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
