"""register_he and cut_he on a toy slide: what they write, what they refuse, and that nothing half-written is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.core.provenance import sidecar
from mistline.mist.crops import square
from mistline.mist.he_crops import squares_of
from mistline.stages import cut_he, register_he
from mistline.store.reader import ShardReader
from mistline.xenium.toy import write_he
from tests.unit.stages.images import Prepared, prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    made = prepare(tmp_path_factory.mktemp("hé"), n_cells=150, n_planes=1, n_stains=1, aspect=0.7)
    made.project(made.folder, '{"channels": ["DAPI"]}')
    made.crops(made.folder)
    for scale in ("niche", "region"):
        made.tiles(made.folder, scale)
    write_he(made.folder / "an h&e.ome.tif", made.folder / "he matrix.csv", made.slide)
    return made


def register(prepared: Prepared, out: Path, **changes: Any) -> dict[str, Any]:
    options = {
        "he_image": prepared.folder / "an h&e.ome.tif", "he_alignment": prepared.folder / "he matrix.csv",
        "dapi": prepared.folder / "image.ome.zarr", "image_summary": prepared.folder / "image.json",
        "cells": prepared.folder / "cells.parquet", "image": out / "image.ome.zarr", "summary": out / "image.json",
        "coverage": out / "coverage.parquet", "params": "{}", "threads": 1,
    }  # fmt: skip
    register_he.run(**(options | changes))
    return json.loads((out / "image.json").read_text())


@pytest.fixture(scope="module")
def he(prepared) -> Path:
    register(prepared, prepared.folder / "he")
    return prepared.folder / "he"


def cut(prepared: Prepared, he: Path, out: Path, scale: str, threads: int = 1) -> ShardReader:
    index = prepared.folder / "shards" / f"{scale}.parquet"
    cut_he.run(image=he / "image.ome.zarr", index=index, shards=out / scale, params="{}", threads=threads)
    return ShardReader(out / scale)


def test_the_image_has_the_grid_of_dapi(prepared, he):
    summary, dapi = (json.loads((folder / "image.json").read_text()) for folder in (he, prepared.folder))
    assert summary["channels"] == ["red", "green", "blue"]
    for name in ("slide", "shape_px", "pixel_size_um", "levels"):
        assert summary[name] == dapi[name]
    for level in range(summary["levels"]):
        pair = [
            zarr.open_array(folder / "image.ome.zarr", path=str(level), mode="r") for folder in (he, prepared.folder)
        ]
        assert pair[0].shape[1:] == pair[1].shape[1:]
        assert (pair[0].dtype, pair[0].shape[0]) == (np.uint8, 3)


def test_the_summary_says_how_well_it_fits(he):
    found = json.loads((he / "image.json").read_text())
    assert found["check"]["dapi"]["correlation"] > 0.85
    assert found["check"]["dapi"]["offset_um"] == [0, 0]
    assert max(found["check"]["other_readings"].values()) < 0.5
    assert found["check"]["landmarks"] is None
    assert found["covered_share"] == 1
    assert found["cells"] == {"n": 150, "not_covered": 0}
    assert found["source"]["alignment"] == "matrix"
    assert found["warnings"] == []
    assert pd.read_parquet(he / "coverage.parquet")["covered"].all()


def test_nuclei_of_the_cells_table_are_purple_in_it(prepared, he):
    pixels = zarr.open_array(he / "image.ome.zarr", path="0", mode="r")[:].astype(int)
    dapi = zarr.open_array(prepared.folder / "image.ome.zarr", path="0", mode="r")[0]
    bright, dark = dapi > 180, dapi < 15
    assert np.median(pixels[0][bright]) < 140
    assert np.median(pixels[0][dark]) > 210


@pytest.mark.parametrize("scale", ["cell", "niche", "region"])
def test_every_record_is_the_square_of_the_same_key(prepared, he, tmp_path, scale):
    reader = cut(prepared, he, tmp_path, scale)
    index = pd.read_parquet(prepared.folder / "shards" / f"{scale}.parquet")
    own = ShardReader(prepared.folder / "shards" / scale)
    pixels = zarr.open_array(he / "image.ome.zarr", path="0", mode="r")[:]
    assert len(reader) == len(index) == len(own) > 0
    for key, (row, column, side) in enumerate(squares_of(index).tolist()):
        record = reader[key]
        np.testing.assert_array_equal(record.image, square(pixels, row, column, side))
        assert record.image.shape[1:] == own[key].image.shape[1:]
        assert len(record.gene_index) == len(record.gene_count) == 0


def test_padding_is_where_the_dapi_record_has_it(prepared, he, tmp_path):
    reader, own = cut(prepared, he, tmp_path, "region"), ShardReader(prepared.folder / "shards/region")
    padded = own[len(own) - 1].image[0] == 0
    assert padded[-1].all()
    assert (reader[len(own) - 1].image[:, -1] == 0).all()


def test_the_same_bytes_for_any_number_of_threads(prepared, he, tmp_path):
    register(prepared, tmp_path / "he", threads=3)
    assert hash_file(tmp_path / "he/image.ome.zarr") == hash_file(he / "image.ome.zarr")
    assert (tmp_path / "he/image.json").read_bytes() == (he / "image.json").read_bytes()
    for threads in (1, 3):
        cut(prepared, he, tmp_path / str(threads), "cell", threads)
    assert hash_file(tmp_path / "1/cell") == hash_file(tmp_path / "3/cell")


def test_the_outputs_know_what_made_them(prepared, he, tmp_path):
    for name in ("image.ome.zarr", "image.json", "coverage.parquet"):
        made = json.loads(sidecar(he / name).read_text())
        assert made["stage"] == "register_he"
        assert set(made["inputs"]) == {"he_image", "he_alignment", "dapi", "image_summary", "cells"}
    cut(prepared, he, tmp_path, "cell")
    assert json.loads(sidecar(tmp_path / "cell").read_text())["stage"] == "cut_he"


def test_keypoints_and_stripped_images_do_as_well(prepared, he, tmp_path):
    matrix = np.loadtxt(prepared.folder / "he matrix.csv", delimiter=",")
    on_he = np.array([[60, 80], [500, 90], [300, 420], [80, 600], [480, 580], [250, 200]], dtype=float)
    on_dapi = on_he @ matrix[:2, :2].T + matrix[:2, 2] + np.random.default_rng(0).normal(0, 3, (6, 2))
    rows = [",".join(map(str, row)) for row in np.hstack([on_dapi, on_he]).tolist()]
    keypoints = tmp_path / "keypoints.csv"
    keypoints.write_text("\n".join(["fixedX,fixedY,alignmentX,alignmentY", *rows]))
    pixels = tifffile.imread(prepared.folder / "an h&e.ome.tif", key=0)
    tifffile.imwrite(tmp_path / "he.tif", pixels, photometric="rgb", compression="zlib", rowsperstrip=9)
    found = register(prepared, tmp_path / "he", he_image=tmp_path / "he.tif", he_alignment=keypoints)
    assert found["source"]["alignment"] == "keypoints"
    assert 0.2 < found["check"]["landmarks"]["error_um"] < 2
    assert found["check"]["dapi"]["correlation"] > 0.6
    assert sorted(path.name for path in (tmp_path / "he").iterdir() if "meta" not in path.name) == [
        "coverage.parquet", "image.json", "image.ome.zarr",
    ]  # fmt: skip


def matrix_file(folder: Path, matrix: np.ndarray) -> Path:
    np.savetxt(folder / "matrix.csv", matrix, delimiter=",")
    return folder / "matrix.csv"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda m: np.array([[1, 0, 20 / 0.2125], [0, 1, 0], [0, 0, 1]]) @ m, "fits the DAPI best"),
        (lambda m: m @ np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), "slide s1, H&E alignment: "),
        (lambda m: m.T, "the matrix is transposed"),
        (np.linalg.inv, "cells do not lie on the H&E; read the other way round, from DAPI to H&E they would"),
    ],
)
def test_a_wrong_matrix_is_refused_and_leaves_nothing(prepared, tmp_path, wrong, sentence):
    matrix = wrong(np.loadtxt(prepared.folder / "he matrix.csv", delimiter=","))
    with pytest.raises(InputError) as raised:
        register(prepared, tmp_path / "he", he_alignment=matrix_file(tmp_path, matrix))
    assert sentence in str(raised.value)
    assert not (tmp_path / "he").exists() or list((tmp_path / "he").iterdir()) == []


def test_cells_beside_the_h_and_e_are_counted_and_too_many_refused(prepared, tmp_path):
    pixels = tifffile.imread(prepared.folder / "an h&e.ome.tif", key=0)
    tifffile.imwrite(tmp_path / "he.tif", pixels[:-150], photometric="rgb")
    with pytest.raises(InputError, match=r"\d+ of 150 cells do not lie on the H&E; align"):
        register(prepared, tmp_path / "he", he_image=tmp_path / "he.tif")
    allowed = {"params": '{"max_excluded_share": 0.5}', "he_image": tmp_path / "he.tif"}
    found = register(prepared, tmp_path / "he", **allowed)
    missing = found["cells"]["not_covered"]
    assert 8 <= missing <= 75
    assert f"{missing} cells do not lie wholly on the H&E: their H&E is white in part" in found["warnings"]
    coverage = pd.read_parquet(tmp_path / "he/coverage.parquet")
    assert coverage["cell_id"].tolist() == pd.read_parquet(prepared.folder / "cells.parquet")["cell_id"].tolist()
    assert (~coverage["covered"]).sum() == missing
    white = (zarr.open_array(tmp_path / "he/image.ome.zarr", path="0", mode="r")[:] == 255).all(axis=0)
    assert white.mean() == pytest.approx(1 - found["covered_share"], abs=0.01)


def test_without_dapi_landmarks_must_do(prepared, tmp_path):
    described = json.loads((prepared.folder / "image.json").read_text()) | {"channels": ["18S"]}
    (tmp_path / "image.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"cannot be checked: image\.channels has no DAPI"):
        register(prepared, tmp_path / "he", image_summary=tmp_path / "image.json")


def test_an_index_of_another_slide_is_refused(prepared, he, tmp_path):
    index = pd.read_parquet(prepared.folder / "shards/cell.parquet")
    index["row_px"] += 5000
    index.to_parquet(tmp_path / "cell.parquet")
    with pytest.raises(InputError, match="the square of key 0 lies outside the H&E's grid"):
        cut_he.run(image=he / "image.ome.zarr", index=tmp_path / "cell.parquet", shards=tmp_path / "cell", params="{}")
    assert not (tmp_path / "cell").exists()
