"""Everything that reads files which others made, with small good files for it to read."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd

import mistline.cli
from mistline.config.load import load_config, read_sheet
from mistline.config.scales import DEFAULT_SCALES
from mistline.models.weights import read as read_weights
from mistline.scrna.toy import write_pair
from mistline.spots.toy import toy_spots
from mistline.store.absent import read_absent
from mistline.store.embeddings import EmbeddingWriter, Origin, read_embedding, read_origin
from mistline.store.filled import read_filled, write_filled
from mistline.store.imputed import read_imputed, write_imputed
from mistline.store.manifest import read_manifest
from mistline.store.pictures import Pictures, read_pictures, write_pictures
from mistline.store.reader import ShardReader
from mistline.train.checkpoint import load as load_model
from mistline.xenium.toy import ToySlide, write_bundle, write_he
from tests.fuzz import oracles
from tests.fuzz.cases import Subject
from tests.unit.data.conftest import build
from tests.unit.spots.written import write_visium
from tests.unit.store.test_filled import filled
from tests.unit.store.test_imputed import own as imputed

ORIGIN = Origin("model", 0, "w" * 64, "v1")
SCALES = json.dumps([scale.model_dump(mode="json") for scale in DEFAULT_SCALES])
_APP = mistline.cli.app
_ABOUT = ["--slide", "s1", "--donor", "d1"]
_SAID = [*_ABOUT, "--tissue", "t", "--disease", "x"]
Read = Callable[[Path], Any]
Found = Callable[[Path, Any], Any]


def stage(name: str, *words: str) -> Read:
    """Return what runs a stage in a folder; paths among the words are relative to it."""

    def read(work: Path) -> Any:
        os.chdir(work)
        Path("out").mkdir(exist_ok=True)
        return _APP([name, *words], standalone_mode=False)

    return read


CHECK = stage("check-bundle", "--bundle", "bundle", *_SAID, "--report", "out/bundle.json")
PROJECT = stage(
    "project-image", "--bundle", "bundle", "--check", "bundle.json", "--image", "out/image.ome.zarr", "--summary",
    "out/image.json", "--params", "{}",
)  # fmt: skip
_CELLS_OUT = ("--cells", "out/cells.parquet", "--counts", "out/counts.h5ad", "--summary", "out/cells.json")
CELLS = stage("read-cells", "--bundle", "bundle", "--check", "bundle.json", *_CELLS_OUT, "--labels", "labels.csv")
CROPS = stage(
    "cut-crops", "--image", "image.ome.zarr", "--image-summary", "image.json", "--cells", "cells.parquet", "--counts",
    "counts.h5ad", "--shards", "out/shards/cell", "--index", "out/shards/cell.parquet", *_ABOUT, "--scales", SCALES,
    "--params", "{}",
)  # fmt: skip
REGISTER = stage(
    "register-he", "--he-image", "he.tif", "--he-alignment", "he.csv", "--dapi", "image.ome.zarr", "--image-summary",
    "image.json", "--cells", "cells.parquet", "--image", "out/he.ome.zarr", "--summary", "out/he.json", "--coverage",
    "out/coverage.parquet", "--params", "{}",
)  # fmt: skip
_TABLE = ("--table", "table", *_SAID, "--report", "out/bundle.json", *_CELLS_OUT, "--labels", "labels.csv")
VISIUM = stage("read-table", *_TABLE)
H5AD = stage("read-table", *(word.replace("table", "table.h5ad") if word == "table" else word for word in _TABLE))
REFERENCE = stage(
    "read-reference", "--reference", "reference.h5ad", "--counts", "out/counts.h5ad", "--summary", "out/reference.json"
)
DOCTOR = stage("doctor", "--dataset", "results")


def patches(picture: str) -> Read:
    """Return what cuts patches of a picture."""
    return stage(
        "cut-patches", "--image", picture, "--bundle-report", "bundle.json", "--cells", "cells.parquet", *_ABOUT,
        "--shards", "out/shards/cell", "--index", "out/shards/cell.parquet", "--summary", "out/patches.json",
        "--image-um-per-px", "1.0", "--params", '{"size_px": 32, "side_um": 40}',
    )  # fmt: skip


def bundle(folder: Path, layout: str) -> Iterator[Subject]:
    """A bundle of one layout and what is made of it."""
    _make_bundle(folder, layout)
    images = sorted((folder / "bundle").rglob("*.tif"))
    tables = [path for path in _files(folder / "bundle") if path not in images]
    for path in (*tables, *images):
        yield _of(layout, folder, path, "check-bundle", CHECK, oracles.bundle_report)
    for path in images if layout == "3.0" else images[:1]:
        yield _of(layout, folder, path, "project-image", PROJECT, oracles.image)
    for path in (*tables, folder / "labels.csv", folder / "bundle.json") if layout in ("1.0", "3.0") else ():
        yield _of(layout, folder, path, "read-cells", CELLS, oracles.kept_cells)
    if layout == "3.0":
        made = [folder / name for name in ("cells.parquet", "counts.h5ad", "image.json")]
        for path in (*made, *_files(folder / "image.ome.zarr")):
            yield _of(layout, folder, path, "cut-crops", CROPS, oracles.crops)
        for path in (folder / "he.tif", folder / "he.csv"):
            yield _of(layout, folder, path, "register-he", REGISTER, oracles.registered)


def _make_bundle(folder: Path, layout: str) -> None:
    """Write a bundle, an H&E where the layout is the one in most use, and what the first three stages make."""
    folder.mkdir(parents=True)
    slide = ToySlide(layout=layout, n_cells=40, n_planes=1, n_stains=4 if layout == "3.0" else 1, transcripts=False)
    write_bundle(folder / "bundle", slide, labels=folder / "labels.csv")
    (folder / "bundle/cells.zarr.zip").unlink(missing_ok=True)  # read by nobody
    if layout == "3.0":
        write_he(folder / "he.tif", folder / "he.csv", slide)
    CHECK(folder)
    shutil.copy(folder / "out/bundle.json", folder / "bundle.json")
    PROJECT(folder)
    CELLS(folder)
    for name in ("image.ome.zarr", "image.json", "cells.parquet", "counts.h5ad"):
        (folder / "out" / name).rename(folder / name)
    shutil.rmtree(folder / "out")


def tables(folder: Path) -> Iterator[Subject]:
    """Slides given as tables, their labels and pictures, and single cells."""
    for name in ("h5ad", "visium", "reference", "pictures"):
        (folder / name).mkdir(parents=True)
    spots = toy_spots(8, 200)[0].table()
    spots.write_h5ad(folder / "h5ad/table.h5ad")
    _labels(folder / "h5ad/labels.csv", spots.obs_names)
    write_visium(folder / "visium/table")
    positions = pd.read_csv(folder / "visium/table/spatial/tissue_positions.csv")
    _labels(folder / "visium/labels.csv", positions["barcode"][1:])
    write_pair(folder / "reference", n_cells=40, side=4, n_genes=20, n_graded=2, n_unmeasured=2)
    for name, read in (("h5ad", H5AD), ("visium", VISIUM)):
        for path in _files(folder / name):
            yield _of(name, folder / name, path, "read-table", read, oracles.kept_cells)
    path = folder / "reference/reference.h5ad"
    yield _of("reference", path.parent, path, "read-reference", REFERENCE, oracles.reference)
    yield from _pictures(folder / "pictures")


def _labels(path: Path, ids: Any) -> None:
    pd.DataFrame({"cell_id": list(ids), "type": "a b"}).to_csv(path, index=False)


def _pictures(folder: Path) -> Iterator[Subject]:
    pixels = np.random.default_rng(0).integers(0, 255, (150, 200, 3)).astype(np.uint8)
    (folder / "h.png").write_bytes(imagecodecs.png_encode(pixels))
    (folder / "h.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels))
    (folder / "bundle.json").write_text('{"has_coordinates": true, "um_per_unit": 1.0}')
    xy = np.linspace(30, 120, 5)
    pd.DataFrame({"cell_id": list("abcde"), "x_um": xy, "y_um": xy}).to_parquet(folder / "cells.parquet")
    for path in _files(folder):
        picture = path.name if path.name.startswith("h.") else "h.png"
        yield _of("pictures", folder, path, "cut-patches", patches(picture), oracles.crops)


def results(folder: Path) -> Iterator[Subject]:
    """What the line's own stages wrote, given from elsewhere."""
    folder.mkdir(parents=True)
    build(folder / "sealed/results")
    for path in _files(folder / "sealed/results"):
        if path.suffix in (".lmdb", ".parquet", ".json", ".h5ad") and not path.name.endswith(".meta.json"):
            named = "dataset" in path.parts or "shards" in path.parts
            if named and "s2" not in path.parts:
                yield _of("sealed", folder / "sealed", path, "doctor", DOCTOR, oracles.plain, guarded=True)
    shards = folder / "sealed/results/slides/s1/shards/cell/shards.json"
    yield _of("sealed", folder / "sealed", shards, "ShardReader", _shards, oracles.plain)
    manifest = folder / "sealed/results/dataset/manifest.json"
    yield _of("sealed", folder / "sealed", manifest, "read_manifest", _manifest, oracles.plain, guarded=True)
    stored = folder / "stored"
    stored.mkdir()
    with EmbeddingWriter(stored / "embedding.parquet", ORIGIN) as writer:
        writer.put([f"c{number}" for number in range(50)], np.random.default_rng(0).random((50, 4), np.float32))
    write_filled(stored / "filled.parquet", filled())
    write_imputed(stored / "imputed.parquet", imputed())
    write_pictures(stored / "pictures.safetensors", _drawn())
    for name, read, found in (
        ("embedding.parquet", _embedding, oracles.embedding),
        ("filled.parquet", lambda work: _fields(read_filled(work / "filled.parquet")), oracles.plain),
        ("imputed.parquet", lambda work: _fields(read_imputed(work / "imputed.parquet")), oracles.plain),
        ("pictures.safetensors", lambda work: _fields(read_pictures(work / "pictures.safetensors")), oracles.plain),
    ):
        yield _of("stored", stored, stored / name, name.split(".")[0], read, found)


def _drawn() -> Pictures:
    images = {name: np.full((3, 2, 8, 8), number, np.uint8) for number, name in enumerate(("generated", "dealt"))}
    return Pictures(np.array(["s1"] * 3), np.array(["a", "b", "c"]), images, ORIGIN, {"steps": 2})


def _shards(work: Path) -> Any:
    reader = ShardReader(work / "results/slides/s1/shards/cell")
    return [len(reader), [reader[key].image for key in range(len(reader))]]


def _manifest(work: Path) -> Any:
    return dict(read_manifest(work / "results").content)


def _embedding(work: Path) -> Any:
    path = work / "embedding.parquet"
    read_absent(path)
    return (dataclasses.asdict(read_origin(path)), *read_embedding(path))


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def models(folder: Path) -> Iterator[Subject]:
    """A trained model and pretrained weights."""
    import torch

    from mistline.models.pca.model import Model
    from mistline.models.pca.params import Params
    from mistline.train.checkpoint import Identity, ModelFiles, save
    from mistline.train.run import Trained

    model = folder / "model"
    model.mkdir(parents=True)
    genes = tuple(f"g{number}" for number in range(8))
    fitted = Model.restore(Params(n_components=3), _pca_arrays(), genes)
    names = ("config.json", "weights.safetensors", "genes.txt", "metrics.jsonl", "card.md")
    identity = Identity("pca", "pca", Params(n_components=3).model_dump(), 0, "v1")
    save(ModelFiles(*(model / name for name in names)), identity, Trained(fitted, ()), {})
    for name in names[:3]:
        yield _of("model", model, model / name, "load", _model, oracles.plain, guarded=name != "config.json")
    weights = folder / "weights"
    weights.mkdir()
    torch.save({"state_dict": {"a.weight": torch.arange(60.0)}}, weights / "w.pt")
    yield _of("weights", weights, weights / "w.pt", "read", lambda work: _tensors(work / "w.pt"), oracles.plain)
    shutil.copy(model / "weights.safetensors", weights / "w.safetensors")
    path = weights / "w.safetensors"
    yield _of("weights", weights, path, "read", lambda work: _tensors(work / "w.safetensors"), oracles.plain)


def _pca_arrays() -> dict[str, np.ndarray]:
    axes = np.random.default_rng(0).normal(size=(3, 8))
    one = np.ones(8)
    return {"depth": one[:1], "values": np.zeros(1, int), "mean": one, "scale": one, "axes": axes, "share": one[:3]}


def _model(work: Path) -> Any:
    found = load_model(work / "config.json")
    return [dataclasses.asdict(found.identity), found.model.arrays(), found.weights_sha256]


def _tensors(path: Path) -> Any:
    return {name: tensor.float().numpy() for name, tensor in read_weights(path).items()}


def sheets(folder: Path) -> Iterator[Subject]:
    """The slide sheet."""
    folder.mkdir(parents=True)
    head = "slide\tbundle\tdonor\ttissue\tdisease\tcells\the_image\the_alignment\n"
    rows = "".join(f"s{n}\tbundles/s{n}\td{n % 2}\tbreast\thealthy\t{n}00\the {n}.tif\the.csv\n" for n in range(1, 5))
    (folder / "slides.tsv").write_text(head + rows)
    yield _of("sheet", folder, folder / "slides.tsv", "load_config", _sheet, oracles.plain)


def _sheet(work: Path) -> Any:
    read_sheet(work / "slides.tsv")
    found = load_config({"slides": str(work / "slides.tsv")}, root=work)
    return [slide.model_dump() for slide in found.slides]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _of(group: str, base: Path, path: Path, reader: str, read: Read, found: Found, guarded: bool = False) -> Subject:
    target = str(path.relative_to(base))
    return Subject(f"{group}: {target}, {reader}", base, target, read, found, guarded)


GROUPS: dict[str, Callable[[Path], Iterator[Subject]]] = {
    **{f"bundle {layout}": (lambda folder, layout=layout: bundle(folder, layout)) for layout in
       ("1.0", "1.3", "2.0", "3.0", "4.0")},
    "tables": tables,
    "results": results,
    "models": models,
    "sheets": sheets,
}  # fmt: skip
