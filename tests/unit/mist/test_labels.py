from __future__ import annotations

import pandas as pd
import pytest

from mistline.core.errors import InputError
from mistline.mist.labels import read_labels

IDS = pd.Index(["12", "7", "c-1"])


def _read(tmp_path, text: str) -> pd.DataFrame:
    path = tmp_path / "labels é.csv"
    path.write_text(text, encoding="utf-8")
    return read_labels(path, IDS)


def test_joined_by_id_as_text_with_missing_as_none(tmp_path):
    labels = _read(tmp_path, "cell_id,cell_type,score\nc-1,T cell,1.50\n12,NA,\n")
    assert list(labels) == ["label_cell_type", "label_score"]
    assert labels["label_cell_type"].tolist() == ["NA", None, "T cell"]
    assert labels["label_score"].tolist() == [None, None, "1.50"]


def test_byte_order_mark_is_no_part_of_the_header(tmp_path):
    assert _read(tmp_path, "\ufeffcell_id,a\n7,x\n")["label_a"].tolist() == [None, "x", None]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Barcode,a\n8,x\n", r"no column cell_id \(there are Barcode, a\); add a column cell_id"),
        ("cellid,a\n7,x\n", r"no column cell_id \(there are cellid, a\); rename cellid to cell_id"),
        ("Barcode,a\n12,x\n", r"no column cell_id \(there are Barcode, a\); rename Barcode to cell_id"),
        ("cell_id;a\n7;x\n", r"no column cell_id \(there are cell_id;a\); save it separated by commas"),
        (",cell_id,a\n0,7,x\n", "a column has no name"),
        ("cell_id\n7\n", "no column beside cell_id"),
        ("cell_id,a\n,x\n", "a row has no cell_id"),
        ("cell_id,a\n7,x\n7,y\n", "1 cell ids occur more than once, such as '7'"),
        ("cell_id,a\n7,x\n99,y\n98,z\n", "labels of 2 ids that are no cell of the bundle, such as '98'"),
        ("", "not a csv"),
        ("cell_id,a,b\n7,x,y\n12,z", "row 2 below the header has 2 of 3 fields; the file may be cut off"),
        ("cell_id,a\n7,x,y\n12,x,y\n", "row 1 below the header has 3 of 2 fields"),
        ("cell_id,a\n7,x,y,z\n12,x\n7,x,y,z,w\n", "not a csv"),
    ],
)
def test_bad_labels(tmp_path, text, what):
    with pytest.raises(InputError, match=rf"labels é.csv: {what}"):
        _read(tmp_path, text)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no such file; correct labels: of the slide in the config"):
        read_labels(tmp_path / "x.csv", IDS)
