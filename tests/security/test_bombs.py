"""Small files that claim to be huge, and links that lead elsewhere: a sentence, before memory or time is taken.

Each is read in a child that may take 1.5 GB and a minute, by the stage that would meet it.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

from mistline.mist.pyramid import Level
from mistline.stages.check_bundle import run as check_bundle
from mistline.store.manifest import read_manifest
from mistline.xenium.toy import ToySlide, write_bundle
from tests.fuzz.subjects import CELLS, CHECK, VISIUM, patches
from tests.unit.spots.written import write_visium

HUGE = 2**31
Sentence = Callable[..., str]
ZSTACK, MATRIX = "bundle/morphology.ome.tif", "bundle/cell_feature_matrix.h5"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good bundle and its bundle.json; read it, do not write it."""
    folder = tmp_path_factory.mktemp("good") / "all"
    write_bundle(folder / "bundle", ToySlide(n_cells=40, n_planes=1, n_stains=1, transcripts=False))
    about = {"slide": "s", "donor": "d", "tissue": "t", "disease": "x"}
    check_bundle(bundle=folder / "bundle", report=folder / "bundle.json", **about)
    (folder / "labels.csv").write_text("cell_id,type\naaaaaaaa-1,a\n")
    return folder


@pytest.fixture
def given(bundle: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(bundle, tmp_path / "given/all")
    return tmp_path / "given/all"


def _tiff(path: Path, shape: tuple[int, int], tile: int) -> None:
    """Write one tile, then overwrite what the tags say of the image."""
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), tile=(64, 64), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages[0].tags
        for name, value in zip(
            ("ImageLength", "ImageWidth", "TileLength", "TileWidth"), (*shape, tile, tile), strict=True
        ):
            tag = tags[name]
            with path.open("r+b") as stream:
                stream.seek(tag.offset + 2)
                stream.write(struct.pack("<HII", 4, 1, value))


@pytest.mark.parametrize(
    ("shape", "tile", "said"),
    [
        ((HUGE, HUGE), 64, "tiles of 64 x 64 px and has 1"),
        ((HUGE, HUGE), HUGE, "its tiles are 2147483648 x 2147483648 px"),
        ((0, 64), 64, "it has no pixels"),
    ],
)
def test_an_image_of_a_kilobyte_that_claims_to_be_huge(
    shape: tuple[int, int], tile: int, said: str, given: Path, sentence: Sentence
) -> None:
    (given / ZSTACK).unlink()
    _tiff(given / ZSTACK, shape, tile)
    assert (given / ZSTACK).stat().st_size < 1500
    assert said in sentence(given, CHECK)


def test_xml_that_unfolds(given: Path, sentence: Sentence) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    xml = f'<!DOCTYPE x [<!ENTITY e0 "{"x" * 100}">{entities}]><OME><Image><Pixels>&e11;</Pixels></Image></OME>'
    tifffile.imwrite(given / ZSTACK, np.ones((64, 64), np.uint16), tile=(64, 64), description=xml, metadata=None)
    assert "damaged OME-XML (limit on input amplification" in sentence(given, CHECK)


@pytest.mark.parametrize("name", ["data", "indices", "barcodes", "features/name"])
def test_a_matrix_of_values_that_are_nowhere(name: str, given: Path, sentence: Sentence) -> None:
    with h5py.File(given / MATRIX, "r+") as file:
        kind = file["matrix"][name].dtype
        del file["matrix"][name]
        file["matrix"].create_dataset(
            name, (2**40,), kind if kind.kind != "O" else "S9", chunks=(1024,), fillvalue=None
        )
    assert "GB and the file stores 0 bytes of it" in sentence(given, CELLS)


def test_a_matrix_that_unpacks_to_a_thousand_times_its_size(given: Path, sentence: Sentence) -> None:
    with h5py.File(given / MATRIX, "r+") as file:
        del file["matrix/data"]
        file["matrix"].create_dataset("data", data=np.zeros(2**26, np.int32), compression="gzip", chunks=(2**20,))
    assert "claims to hold 0.268 GB" in sentence(given, CELLS)


@pytest.mark.parametrize("how", ["external link", "external values", "virtual", "soft link"])
def test_a_matrix_that_leads_into_another_file(how: str, given: Path, tmp_path: Path, sentence: Sentence) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = np.ones(10, np.int32)
    with h5py.File(given / MATRIX, "r+") as file:
        n = len(file["matrix/data"])
        del file["matrix/data"]
        if how == "external link":
            file["matrix/data"] = h5py.ExternalLink(str(secret), "data")
        elif how == "soft link":
            file["matrix/data"] = h5py.SoftLink("/matrix/indices")
        elif how == "virtual":
            layout = h5py.VirtualLayout((n,), "i4")
            layout[:10] = h5py.VirtualSource(str(secret), "data", (10,))
            file["matrix"].create_virtual_dataset("data", layout)
        else:
            file["matrix"].create_dataset("data", (n,), "i4", external=[(str(secret), 0, n * 4)])
    assert "link" in sentence(given, CELLS) if "link" in how else "lie in another file" in sentence(given, CELLS)


def test_a_picture_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path, sentence: Sentence) -> None:
    folder = tmp_path / "given/all"
    folder.mkdir(parents=True)
    side = 60_000
    lines = zlib.compressobj(9)
    packed = b"".join(lines.compress(bytes(1 + 3 * side)) for _ in range(side // 100)) + lines.flush()
    (folder / "h.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunks(side, packed)))
    (folder / "bundle.json").write_text('{"has_coordinates": true, "um_per_unit": 1.0}')
    pq.write_table(pa.table({"cell_id": ["a"], "x_um": [50.0], "y_um": [50.0]}), folder / "cells.parquet")
    assert "60000 x 60000 px" in sentence(folder, patches("h.png"))


def _chunks(side: int, packed: bytes) -> Iterator[bytes]:
    for name, data in (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    ):
        yield struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_a_zarr_that_claims_to_be_huge(tmp_path: Path, sentence: Sentence) -> None:
    folder = tmp_path / "given/all"
    (folder / "0").mkdir(parents=True)
    chunks = {"name": "regular", "configuration": {"chunk_shape": [1, HUGE, HUGE]}}
    inner = {"chunk_shape": [1, HUGE, HUGE], "codecs": [{"name": "bytes"}], "index_codecs": [{"name": "bytes"}]}
    about = {
        "zarr_format": 3, "node_type": "array", "shape": [1, HUGE, HUGE], "data_type": "uint8", "chunk_grid": chunks,
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "attributes": {},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
    }  # fmt: skip
    (folder / "0/zarr.json").write_text(json.dumps(about))
    sentence(folder, lambda work: Level(work))
    (folder / "0/c/0/0").mkdir(parents=True)
    (folder / "0/c/0/0/0").write_bytes(b"1" * 100)
    sentence(folder, lambda work: Level(work).read(0, slice(0, 10)))


def test_json_without_an_end(given: Path, sentence: Sentence) -> None:
    (given / "bundle/experiment.xenium").write_text('{"pixel_size": ' + "[" * 10**6)
    assert "truncated or not JSON" in sentence(given, CHECK)
    (given / "bundle/experiment.xenium").write_text('{"pixel_size": ' + "9" * 10**6 + "}")
    assert "truncated or not JSON" in sentence(given, CHECK)


def test_an_archive_member_that_unfolds(tmp_path: Path, sentence: Sentence) -> None:
    folder = tmp_path / "given/all"
    write_visium(folder / "table")
    (folder / "labels.csv").write_text("barcode,a\n")
    name = folder / "table/spatial/tissue_positions.csv"
    name.write_text(name.read_text().replace(",", "," + "1" * 200_000, 1))
    sentence(folder, VISIUM)


@pytest.mark.parametrize("name", ["cells.parquet", "experiment.xenium", "morphology.ome.tif", "cell_feature_matrix.h5"])
@pytest.mark.parametrize("kind", ["nothing", "itself", "pipe", "device", "folder", "another file"])
def test_a_member_that_is_no_file(name: str, kind: str, given: Path, sentence: Sentence) -> None:
    path = given / "bundle" / name
    path.unlink()
    to = {
        "nothing": "nowhere",
        "itself": str(path),
        "device": "/dev/zero",
        "folder": "/",
        "another file": "/etc/passwd",
    }
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(to[kind])
    shutil.rmtree(given / "bundle/morphology_focus")
    assert sentence(given, CHECK).startswith(f"error: bundle/{name}" if kind == "another file" else "error: bundle")


def test_a_bundle_of_links_is_a_bundle_and_stays_as_it_is(given: Path, tmp_path: Path) -> None:
    """Data often lie elsewhere: what a link leads to is read, and never written."""
    outside = tmp_path / "elsewhere"
    (given / "bundle").rename(outside)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    (given / "bundle").mkdir()
    for path in outside.iterdir():
        (given / "bundle" / path.name).symlink_to(path)
    report = given / "again.json"
    check_bundle(bundle=given / "bundle", slide="s", donor="d", tissue="t", disease="x", report=report)
    found, good = (json.loads(path.read_text()) for path in (report, given / "bundle.json"))
    assert found == good
    assert {path: path.stat().st_mtime_ns for path in outside.rglob("*")} == before


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd"])
def test_a_manifest_cannot_be_made_to_name_files_elsewhere(path: str, tmp_path: Path, sentence: Sentence) -> None:
    folder = tmp_path / "given/all"
    folder.mkdir(parents=True)
    content = {"format": "mist", "format_version": 1, "slides": [{"path": path, "sha256": "0" * 64}], "version": "0"}
    (folder / "manifest.json").write_text(json.dumps(content))
    assert "changed after it was sealed" in sentence(folder, lambda work: read_manifest(work))
