"""A toy bundle agrees with itself and with the truth it claims."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
from scipy.sparse import csc_matrix

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.xenium.toy import LAYOUTS, ToySlide, write_bundle
from mistline.xenium.toy.cells import Tissue, nucleus_brightness, nucleus_eccentricity, nucleus_radius_um
from mistline.xenium.toy.ids import encode, prefixes
from mistline.xenium.toy.panel import (
    CELL_TYPES,
    DOMAINS,
    N_DOMAIN_GENES,
    RECEIVER,
    TARGET_FOLD,
    TARGETS,
    domain_gene,
)

SMALL = ToySlide(n_cells=80, n_planes=2, n_stains=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small bundle in every layout, with its labels."""
    folder = tmp_path_factory.mktemp("toy")
    for layout in LAYOUTS:
        write_bundle(folder / layout, dataclasses.replace(SMALL, layout=layout), labels=folder / f"{layout}.csv")
    return folder


def matrix(bundle: Path) -> pd.DataFrame:
    with h5py.File(bundle / "cell_feature_matrix.h5") as file:
        group = file["matrix"]
        values = csc_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=group["shape"][:])
        columns = pd.MultiIndex.from_arrays(
            [group["features/feature_type"].asstr()[:], group["features/name"].asstr()[:]]
        )
        return pd.DataFrame(values.T.toarray(), index=group["barcodes"].asstr()[:], columns=columns)


def all_cells(slide: ToySlide) -> list:
    tissue = Tissue(slide)
    return [tissue.cells(block) for block in tissue.plan.blocks()]


def test_ids_are_spelt_as_10x_spells_them() -> None:
    assert encode(np.array([0, 0x0000_5862, 0xFFFF_FFFF], dtype=np.uint32)).tolist() == [
        "aaaaaaaa-1",
        "aaaafigc-1",
        "pppppppp-1",
    ]


def test_ids_rise_and_never_repeat() -> None:
    values = prefixes(np.arange(100_000), 100_000, seed=3).astype(np.int64)
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables_agree_with_the_matrix(folder: Path, layout: str) -> None:
    cells = pd.read_parquet(folder / layout / "cells.parquet")
    counts = matrix(folder / layout)
    assert cells["cell_id"].astype(str).tolist() == counts.index.tolist()
    assert (cells["total_counts"].to_numpy() == counts.sum(axis=1).to_numpy()).all()
    assert (cells["transcript_counts"].to_numpy() == counts["Gene Expression"].sum(axis=1).to_numpy()).all()
    assert cells["total_counts"].sum() > cells["transcript_counts"].sum()  # controls have a few
    assert len(cells) == SMALL.n_cells


@pytest.mark.parametrize("layout", ["1.3", "3.0"])
def test_transcripts_add_up_to_the_matrix(folder: Path, layout: str) -> None:
    found = pd.read_parquet(folder / layout / "transcripts.parquet")
    counted = found[(found["qv"] >= 20) & (found["cell_id"] != "UNASSIGNED")]
    table = pd.crosstab(counted["cell_id"], counted["feature_name"])
    counts = matrix(folder / layout).droplevel(0, axis=1)
    expected = counts.loc[table.index, table.columns]
    assert (table.to_numpy() == expected.to_numpy()).all()
    assert table.to_numpy().sum() == counts.to_numpy().sum()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_polygons_are_closed_and_have_the_area_announced(folder: Path, layout: str) -> None:
    cells = pd.read_parquet(folder / layout / "cells.parquet").set_index("cell_id")
    vertices = pd.read_parquet(folder / layout / "cell_boundaries.parquet")
    for cell_id, polygon in vertices.groupby("cell_id"):
        xy = polygon[["vertex_x", "vertex_y"]].to_numpy(dtype=np.float64)
        assert 13 <= len(xy) <= 25
        assert (xy[0] == xy[-1]).all()
        x, y = (xy - xy[0]).T
        assert abs((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2 == pytest.approx(
            cells.loc[cell_id, "cell_area"], rel=1e-4
        )


def test_layouts_show_the_same_cells(folder: Path) -> None:
    positions = [pd.read_csv(folder / f"{layout}.csv")[["cell_type", "domain"]] for layout in LAYOUTS]
    genes = [matrix(folder / layout)["Gene Expression"].to_numpy() for layout in LAYOUTS]
    assert all(table.equals(positions[0]) for table in positions)
    assert all((table == genes[0]).all() for table in genes)


def test_label_ids_and_ids_are_those_of_the_layout(folder: Path) -> None:
    assert pq.read_schema(folder / "1.0" / "cells.parquet").field("cell_id").type == "int32"
    assert "label_id" not in pq.read_schema(folder / "1.3" / "cell_boundaries.parquet").names
    assert "label_id" in pq.read_schema(folder / "2.0" / "cell_boundaries.parquet").names
    assert "nucleus_count" not in pq.read_schema(folder / "2.0" / "cells.parquet").names
    assert {"nucleus_count", "segmentation_method"} <= set(pq.read_schema(folder / "4.0" / "cells.parquet").names)


def test_images_lie_where_the_layout_has_them(folder: Path) -> None:
    found = {
        layout: sorted(p.relative_to(folder / layout).as_posix() for p in (folder / layout).rglob("*.tif"))
        for layout in LAYOUTS
    }
    single = ["morphology.ome.tif", "morphology_focus.ome.tif", "morphology_mip.ome.tif"]
    assert found["1.0"] == found["1.3"] == single
    assert found["2.0"] == ["morphology.ome.tif", "morphology_focus/morphology_focus_0000.ome.tif"]
    assert found["4.0"] == ["morphology.ome.tif", "morphology_focus/ch0000_dapi.ome.tif"]


def test_the_mip_is_the_maximum_of_the_stack(folder: Path) -> None:
    stack = tifffile.imread(folder / "1.0" / "morphology.ome.tif")
    mip = tifffile.imread(folder / "1.0" / "morphology_mip.ome.tif")
    assert stack.shape == (SMALL.n_planes, *dataclasses.replace(SMALL, layout="1.0").image_shape)
    assert (stack.max(axis=0) == mip).all()
    assert not any((plane == mip).all() for plane in stack)


def test_the_stack_is_tiled_pyramidal_jpeg2000(folder: Path) -> None:
    with tifffile.TiffFile(folder / "3.0" / "morphology.ome.tif") as file:
        levels = file.series[0].levels
        assert len(levels) >= 2
        assert {page.compression.name for level in levels for page in level.pages} == {"JPEG2000"}
        assert {page.tile for level in levels for page in level.pages} == {(256, 256)}
        assert 'PhysicalSizeX="0.2125"' in file.ome_metadata
        fine, coarse = levels[0].asarray()[0].astype(np.float64), levels[1].asarray()[0]
        height, width = coarse.shape
        mean = fine[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
        assert np.abs(mean - coarse).max() <= 0.5


def test_four_stains_name_each_other(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", ToySlide(n_cells=20, n_planes=1, layout="4.0"))
    files = sorted((tmp_path / "b" / "morphology_focus").iterdir())
    assert [file.name[:6] for file in files] == ["ch0000", "ch0001", "ch0002", "ch0003"]
    planes = []
    for number, file in enumerate(files):
        with tifffile.TiffFile(file) as tiff:
            assert all(other.name in tiff.ome_metadata for other in files)
            assert f'ID="Channel:{number}"' in tiff.ome_metadata
            planes.append(tiff.pages[0].asarray())
    assert (tifffile.imread(files[0]) == np.stack(planes)).all()


@pytest.mark.parametrize("layout", ["1.0", "3.0"])
def test_the_same_slide_gives_the_same_bytes_whatever_the_threads(folder: Path, tmp_path: Path, layout: str) -> None:
    write_bundle(tmp_path / "again", dataclasses.replace(SMALL, layout=layout), labels=tmp_path / "l.csv", threads=1)
    assert hash_file(tmp_path / "again") == hash_file(folder / layout)
    assert (tmp_path / "l.csv").read_bytes() == (folder / f"{layout}.csv").read_bytes()


def test_another_seed_gives_another_slide() -> None:
    first, other = (all_cells(dataclasses.replace(SMALL, seed=seed))[0] for seed in (0, 1))
    assert not np.array_equal(first.counts.toarray(), other.counts.toarray())
    assert not np.array_equal(first.ids, other.ids)


@pytest.mark.parametrize("n_cells", [4, 19, 340, 441, 1000])
def test_every_slide_has_exactly_the_cells_asked_for(n_cells: int) -> None:
    cells = all_cells(ToySlide(n_cells=n_cells))
    ids = np.concatenate([block.ids for block in cells])
    assert len(ids) == len(set(ids)) == n_cells


def test_nuclei_follow_the_counts_of_their_genes(folder: Path) -> None:
    labels = pd.read_csv(folder / "1.3.csv").set_index("cell_id")
    genes = matrix(folder / "1.3")["Gene Expression"].loc[labels.index]
    area = np.pi * nucleus_radius_um(genes["NUCSIZE"].to_numpy()) ** 2
    np.testing.assert_allclose(labels["nucleus_area_um2"], area, atol=1e-3)
    np.testing.assert_allclose(
        labels["nucleus_eccentricity"], nucleus_eccentricity(genes["NUCECC"].to_numpy()), atol=1e-3
    )
    np.testing.assert_allclose(labels["nucleus_brightness"], nucleus_brightness(genes["NUCBRI"].to_numpy()), atol=1e-3)
    reported = pd.read_parquet(folder / "1.3" / "cells.parquet").set_index("cell_id")["nucleus_area"]
    np.testing.assert_allclose(reported.loc[labels.index], area, rtol=1e-3)


def test_the_drawn_nucleus_shows_size_and_brightness(folder: Path) -> None:
    labels = pd.read_csv(folder / "1.3.csv").set_index("cell_id")
    cells = pd.read_parquet(folder / "1.3" / "cells.parquet").set_index("cell_id").loc[labels.index]
    image = tifffile.imread(folder / "1.3" / "morphology_focus.ome.tif").astype(np.float64)
    centres = np.rint(cells[["y_centroid", "x_centroid"]].to_numpy() / SMALL.pixel_size_um).astype(int)
    inside = ((centres > 26) & (centres < np.array(image.shape) - 26)).all(axis=1)
    windows = np.stack([image[row - 26 : row + 27, col - 26 : col + 27] for row, col in centres[inside]])
    shown = labels[inside]
    centre = windows[:, 21:32, 21:32].mean(axis=(1, 2))
    assert shown["nucleus_brightness"].corr(pd.Series(centre, index=shown.index), method="spearman") > 0.85
    disc = np.hypot(*np.mgrid[-26:27, -26:27]) <= 26
    bright = ((windows > 0.5 * centre[:, None, None]) & disc).sum(axis=(1, 2))
    assert shown["nucleus_area_um2"].corr(pd.Series(bright, index=shown.index), method="spearman") > 0.6


def test_receivers_near_senders_raise_the_targets() -> None:
    slide = ToySlide(n_cells=3000)
    cells = all_cells(slide)
    targets = Tissue(slide).panel.index(*TARGETS)
    counts = np.concatenate([block.counts[:, targets].toarray().sum(axis=1) for block in cells])
    near = np.concatenate([block.sender_um <= 60 for block in cells])
    types = np.concatenate([block.draft.types for block in cells])
    receiver = types == RECEIVER
    fold = counts[receiver & near].mean() / counts[receiver & ~near].mean()
    other = counts[~receiver & near].mean() / counts[~receiver & ~near].mean()
    assert fold == pytest.approx(TARGET_FOLD, rel=0.15)
    assert other == pytest.approx(1, rel=0.2)
    assert set(types) == set(range(len(CELL_TYPES)))


@pytest.mark.parametrize(("domain_genes", "fold"), [(True, 4.0), (False, 1.0)])
def test_domains_raise_their_genes_unless_told_not_to(domain_genes: bool, fold: float) -> None:
    slide = ToySlide(n_cells=3000, domain_genes=domain_genes)
    tissue = Tissue(slide)
    counts = np.concatenate([block.counts.toarray() for block in all_cells(slide)])
    domain = np.concatenate([block.draft.domains for block in all_cells(slide)])
    for number, name in enumerate(DOMAINS):
        genes = tissue.panel.index(*(domain_gene(name, k) for k in range(N_DOMAIN_GENES)))
        found = counts[domain == number][:, genes].mean() / counts[domain != number][:, genes].mean()
        assert found == pytest.approx(fold, rel=0.1)
    assert (tissue.panel.domain_fold == 1).all() == (not domain_genes)


def test_without_genes_of_the_domains_places_and_types_stay(tmp_path: Path) -> None:
    truths = [
        write_bundle(tmp_path / f"{on}", dataclasses.replace(SMALL, domain_genes=on), labels=tmp_path / f"{on}.csv")
        for on in (True, False)
    ]
    assert "domain_genes" not in truths[0]
    assert truths[1]["domain_genes"] == {}
    labels = [pd.read_csv(tmp_path / f"{on}.csv", usecols=["cell_id", "cell_type", "domain"]) for on in (True, False)]
    pd.testing.assert_frame_equal(*labels)


def test_a_cell_has_two_nuclei_since_2(tmp_path: Path) -> None:
    truth = write_bundle(tmp_path / "b", SMALL)
    nuclei = pd.read_parquet(tmp_path / "b" / "nucleus_boundaries.parquet")
    assert nuclei.groupby("cell_id")["label_id"].nunique().loc[truth["multinucleate_cell"]] == 2
    cells = pd.read_parquet(tmp_path / "b" / "cells.parquet").set_index("cell_id")
    assert cells.loc[truth["multinucleate_cell"], "nucleus_count"] == 2
    assert cells["nucleus_area"].isna().sum() == (cells["nucleus_count"] == 0).sum()


def test_cells_reach_beyond_the_border_but_hardly_into_each_other(folder: Path) -> None:
    shapely = pytest.importorskip("shapely", reason="needs the viewer extra")
    vertices = pd.read_parquet(folder / "3.0" / "cell_boundaries.parquet")
    shapes = [
        shapely.Polygon(group[["vertex_x", "vertex_y"]].to_numpy())
        for _, group in vertices.groupby("cell_id", sort=False)
    ]
    assert vertices[["vertex_x", "vertex_y"]].to_numpy().min() < 0
    assert all(shape.is_valid for shape in shapes)
    left, right = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    shared = sum(shapes[a].intersection(shapes[b]).area for a, b in zip(left, right, strict=True) if a < b)
    assert shared < 0.02 * sum(shape.area for shape in shapes)
    centroids = pd.read_parquet(folder / "3.0" / "cells.parquet")[["y_centroid", "x_centroid"]].to_numpy()
    assert (centroids > 0).all()
    assert (centroids < np.array(SMALL.image_shape) * SMALL.pixel_size_um).all()


def test_donors_shift_genes_and_light() -> None:
    folds = [
        Tissue(dataclasses.replace(SMALL, name=name, donor=donor)).donor_fold for name, donor in ("ax", "bx", "ay")
    ]
    assert np.array_equal(folds[0], folds[1])
    assert np.abs(np.log(folds[0] / folds[2])).mean() > 0.1


def test_a_shuffled_slide_holds_the_same_rows_in_another_order(folder: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", dataclasses.replace(SMALL, shuffled=True))
    for name in ("cells", "cell_boundaries"):
        plain, mixed = (pd.read_parquet(path / f"{name}.parquet") for path in (folder / "3.0", tmp_path / "b"))
        assert not plain["cell_id"].equals(mixed["cell_id"])
        columns = ["cell_id"] if name == "cells" else ["cell_id", "label_id"]
        pd.testing.assert_frame_equal(
            plain.sort_values(columns, kind="stable").reset_index(drop=True),
            mixed.sort_values(columns, kind="stable").reset_index(drop=True),
        )
    plain_counts, mixed_counts = matrix(folder / "3.0"), matrix(tmp_path / "b")
    assert plain_counts.index.tolist() != mixed_counts.index.tolist()
    assert mixed_counts.loc[plain_counts.index].equals(plain_counts)


def test_variants_readers_must_stand(tmp_path: Path) -> None:
    slide = ToySlide(n_cells=20, n_planes=1, layout="4.0", xoa="R&D", n_stains=1, bytes_ids=True, symbols_as_ids=True)
    write_bundle(tmp_path / "plain", slide)
    write_bundle(tmp_path / "faint", dataclasses.replace(slide, intensity_scale=0.1, transcripts=False))
    assert json.loads((tmp_path / "plain" / "experiment.xenium").read_text())["analysis_sw_version"] == "R&D"
    assert pq.read_schema(tmp_path / "plain" / "cells.parquet").field("cell_id").type == "binary"
    with h5py.File(tmp_path / "plain" / "cell_feature_matrix.h5") as file:
        assert (file["matrix/features/id"][:] == file["matrix/features/name"][:]).all()
    plain, faint = (
        tifffile.imread(tmp_path / name / "morphology.ome.tif").astype(float) for name in ("plain", "faint")
    )
    assert np.abs(plain / 10 - faint).max() <= 0.56
    assert not (tmp_path / "faint" / "transcripts.parquet").exists()


def test_tiles_show_no_seam(tmp_path: Path) -> None:
    images = []
    for tile_px in (64, 256):
        write_bundle(
            tmp_path / str(tile_px), ToySlide(n_cells=12, n_planes=1, n_stains=1, tile_px=tile_px, shape_px=(180, 230))
        )
        images.append(tifffile.imread(tmp_path / str(tile_px) / "morphology.ome.tif").astype(float))
    assert images[0].shape == (180, 230)
    # Noise is drawn by tile; what lies beneath is the same.
    assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.98
    assert abs((images[0] - images[1]).mean()) < 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layout": "5.0"}, "choose of 1.0, 1.3, 2.0, 3.0, 4.0"),
        ({"n_cells": 3}, "at least 4 cells"),
        ({"n_genes": 10}, "at least 80 genes"),
        ({"tile_px": 100}, "multiple of 16"),
        ({"n_cells": 5000, "shape_px": (500, 500)}, "fewer cells"),
    ],
)
def test_impossible_slides_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ToySlide(**settings)
