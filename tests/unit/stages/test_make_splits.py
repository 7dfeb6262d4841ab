from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.core.provenance import sidecar
from mistline.mist import splits as library
from mistline.stages import make_splits
from tests.unit.data.conftest import SCALES, SPLITS, Slide, options, run_splits, write_slide


def cohort(root: Path, n: int = 5, **changes: object) -> list[Slide]:
    slides = [Slide(f"s{i}", f"d{i}", n=60, **changes) for i in range(n)]
    for slide in slides:
        write_slide(root, slide)
    return slides


def sides(root: Path, slide: str) -> pd.Series:
    return pd.read_parquet(root / "dataset/splits" / f"{slide}.parquet")["split"]


def test_a_donor_is_wholly_on_one_side(tmp_path):
    slides = cohort(tmp_path)
    slides.append(Slide("s9", "d0", n=40))
    write_slide(tmp_path, slides[-1])
    summary = run_splits(tmp_path, slides, {"scheme": "auto"})
    assert summary["scheme"] == "donor"
    for slide in slides:
        assert set(sides(tmp_path, slide.name)) == {summary["donors"][slide.donor]}
    assert set(summary["donors"].values()) == {"train", "val", "test"}
    assert summary["leakage"] == {"donors_on_two_sides": [], "tiles_shared": 0, "nearest_um": None}


def test_the_files_are_in_the_order_of_the_cells_and_hashed(tmp_path):
    slides = cohort(tmp_path, 2)
    summary = run_splits(tmp_path, slides)
    for slide in slides:
        path = tmp_path / "dataset/splits" / f"{slide.name}.parquet"
        cells = pd.read_parquet(tmp_path / "slides" / slide.name / "cells.parquet")
        assert pd.read_parquet(path)["cell_id"].tolist() == cells["cell_id"].tolist()
        described = summary["slides"][slide.name]
        assert described["sha256"] == hash_file(path)
        counts = sides(tmp_path, slide.name).value_counts()
        assert described["counts"] == {name: counts.get(name, 0) for name in ("train", "val", "test", "gap")}


def test_in_space_sides_are_farther_apart_than_the_largest_tile(tmp_path):
    slides = cohort(tmp_path, 2)
    summary = run_splits(tmp_path, slides)
    assert summary["scheme"] == "spatial"
    nearest = []
    for slide in slides:
        xy_um = pd.read_parquet(tmp_path / "slides" / slide.name / "cells.parquet")[["x_um", "y_um"]].to_numpy()
        side = sides(tmp_path, slide.name).to_numpy()
        assert {"train", "test", "gap"} <= set(side)
        distance, _ = cKDTree(xy_um[side == "train"]).query(xy_um[side == "test"])
        nearest.append(distance.min())
        assert summary["slides"][slide.name]["leakage"]["nearest_um"]["test-train"] == pytest.approx(distance.min())
    assert min(nearest) > 64 * 0.25
    assert summary["leakage"]["tiles_shared"] == 0


def test_a_slide_too_small_to_divide_is_training_and_says_why(tmp_path):
    slides = cohort(tmp_path, 2)
    slides.append(Slide("tiny", "d1", n=20, height=1, width=2))
    write_slide(tmp_path, slides[-1])
    summary = run_splits(tmp_path, slides)
    assert set(sides(tmp_path, "tiny")) == {"train"}
    assert "leave no room" in summary["slides"]["tiny"]["undivided"]
    assert summary["slides"]["s0"]["undivided"] is None


def test_the_same_input_gives_the_same_bytes_and_another_seed_others(tmp_path):
    slides = cohort(tmp_path, 2)
    paths = options(tmp_path, slides, "splits")["splits"]
    seen = []
    for seed in (0, 0, 1):
        run_splits(tmp_path, slides, seed=seed)
        seen.append([path.read_bytes() for path in paths])
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_two_spellings_of_one_donor_are_refused_before_anything_is_written(tmp_path):
    slides = cohort(tmp_path, 4)
    slides[2].donor = "D1 "
    with pytest.raises(ConfigError, match="'d1' and 'D1 ' look like one donor"):
        run_splits(tmp_path, slides)
    assert not (tmp_path / "dataset").exists()


def test_a_leaking_division_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    slides = cohort(tmp_path, 2)

    def leak(tiles: np.ndarray, *_: object) -> library.Area:
        return library.Area((np.arange(len(tiles)) % 3).astype(np.int8))

    monkeypatch.setattr(make_splits.library, "split_area", leak)
    with pytest.raises(InputError, match="splits of s0: sides share tiles"):
        run_splits(tmp_path, slides)
    assert not (tmp_path / "dataset").exists()


def test_a_donor_on_two_sides_is_refused_by_name(tmp_path, monkeypatch):
    slides = [*cohort(tmp_path, 4), Slide("s7", "d0", n=30)]
    write_slide(tmp_path, slides[-1])
    sides_by_call = iter(["train", "train", "train", "train", "test"])

    class Torn(dict):
        def __getitem__(self, donor: str) -> str:
            return next(sides_by_call)

    monkeypatch.setattr(make_splits.library, "split_donors", lambda *_: Torn(d0="train"))
    with pytest.raises(InputError, match="donor d0: its cells lie on 2 sides"):
        run_splits(tmp_path, slides, {"scheme": "donor"})
    assert not (tmp_path / "dataset").exists()


def test_options_of_different_lengths_are_refused(tmp_path):
    slides = cohort(tmp_path, 2)
    given = options(tmp_path, slides, "slide", "donor", "tissue", "cells", "bundle_report", "splits")
    given["donor"] = given["donor"][:1]
    with pytest.raises(ConfigError, match="2 slides, but the other options are repeated"):
        make_splits.run(
            **given,
            summary=tmp_path / "s.json",
            scales=json.dumps(SCALES),
            params=json.dumps(SPLITS),
        )


def test_no_grid_scale_is_refused(tmp_path):
    slides = cohort(tmp_path, 2)
    given = options(tmp_path, slides, "slide", "donor", "tissue", "cells", "bundle_report", "splits")
    with pytest.raises(ConfigError, match="no grid scale is configured"):
        make_splits.run(**given, summary=tmp_path / "s.json", scales=json.dumps(SCALES[:1]), params="{}")


def test_a_missing_table_is_one_sentence(tmp_path):
    slides = cohort(tmp_path, 2)
    (tmp_path / "slides/s1/cells.parquet").unlink()
    with pytest.raises(InputError, match=r"s1/cells.parquet: no such file; run read_cells"):
        run_splits(tmp_path, slides)


def test_a_misspelt_setting_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean test_share"):
        run_splits(tmp_path, cohort(tmp_path, 2), {"test_shares": 0.2})


def test_every_output_has_its_provenance(tmp_path):
    slides = cohort(tmp_path, 2)
    run_splits(tmp_path, slides, seed=7)
    for path in (*options(tmp_path, slides, "splits")["splits"], tmp_path / "dataset/splits.json"):
        meta = json.loads(sidecar(path).read_text())
        assert meta["stage"] == "make_splits"
        assert meta["seed"] == 7
        assert set(meta["inputs"]) == {"cells[s0]", "cells[s1]", "bundle[s0]", "bundle[s1]"}
