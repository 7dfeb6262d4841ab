from __future__ import annotations

from mistline.export.names import safe_names


def test_names_are_kept_where_they_can_be_and_stay_apart():
    names = ["l1", "cluster_pca.seed-0", "label_cell type", "label_cell/type", "label_Cell_Type", "größe", ".."]
    assert safe_names(names) == {
        "l1": "l1",
        "cluster_pca.seed-0": "cluster_pca.seed-0",
        "label_cell type": "label_cell_type",
        "label_cell/type": "label_cell_type_2",
        "label_Cell_Type": "label_Cell_Type_3",
        "größe": "größe",
        "..": "unnamed",
    }
