from __future__ import annotations

import logging

import pandas as pd

from mistline.export.explorer import write_groups


def test_a_file_a_column_with_the_ids_of_the_bundle(tmp_path, caplog):
    cells = pd.DataFrame(
        {
            "cell_id": ["aaaadnje-1", "80444", "ffc-2"],
            "label_type": pd.Categorical(["T cell, CD8+", None, "B"]),
            "l1": pd.Categorical(["0", "10", "0"]),
        }
    )
    with caplog.at_level(logging.INFO, "mistline.export"):
        write_groups(tmp_path, cells, ["label_type", "l1"])
    assert (tmp_path / "label_type.csv").read_bytes() == b'cell_id,group\naaaadnje-1,"T cell, CD8+"\nffc-2,B\n'
    assert (tmp_path / "l1.csv").read_bytes() == b"cell_id,group\naaaadnje-1,0\n80444,10\nffc-2,0\n"
    assert "label_type.csv: 2 cells in 2 groups, 1 cells without a value left out" in caplog.text
