from __future__ import annotations

import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.train.metacells import read_metacells
from mistline.train.problem import Folds, SlideFiles
from tests.unit.data.conftest import Slide, build


def test_cells_of_a_fold_have_the_meta_cells_of_the_dataset(tmp_path):
    results = build(tmp_path / "results", [Slide("s1", "d1"), Slide("s2", "d2")])
    manifest = results / "dataset" / "manifest.json"
    found = read_metacells(manifest, "s2")
    truth = pd.read_parquet(results / "slides/s2/metacells.parquet").set_index("cell_id")["metacell"]
    assert found.to_dict() == truth.to_dict()
    assert found.nunique() > 1

    folder = results / "slides/s2"
    cells = pd.read_parquet(folder / "cells.parquet").assign(label_zone="a")
    cells.to_parquet(tmp_path / "cells.parquet")
    folds = pd.DataFrame({"slide": "s2", "cell_id": cells["cell_id"][:2], "0": ["train", "test"]})
    files = [SlideFiles("s2", "d2", tmp_path / "cells.parquet", folder / "counts.h5ad")]
    turned = found.iloc[::-1]  # by name, not by place
    ((_, problem),) = Folds(files, folds, "zone", "v", metacells={"s2": turned}).problems()
    assert problem.slides[0].metacell.tolist() == truth[cells["cell_id"]].tolist()
    ((_, plain),) = Folds(files, folds, "zone", "v").problems()
    assert plain.slides[0].metacell is None
    missing = turned.drop(index=cells["cell_id"][1])
    with pytest.raises(InputError, match=f"cell {cells['cell_id'][1]} is not in the dataset"):
        next(Folds(files, folds, "zone", "v", metacells={"s2": missing}).problems())
