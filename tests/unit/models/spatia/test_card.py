from __future__ import annotations

import pytest

from mistline.models.spatia.card import told
from mistline.models.spatia.params import Params


def test_the_whole_model():
    rows = told(Params(size="tiny"), 308, ["DAPI", "18S"], {})
    assert rows["is trained on"] == (
        "raw counts of up to 308 genes and images of DAPI and 18S; levels cell, niche and tissue; no label is read"
    )
    assert rows["gives"] == "z, 64 numbers a cell, and its parts: z_c, z_img, z_gene, z_n and z_t"
    assert rows["context"].startswith("scales niche and region; ")
    assert (rows["gene vectors"], rows["image encoder starts from"]) == ("learned here", "random weights")


@pytest.mark.parametrize(
    ("values", "row", "says"),
    [
        ({"embed_from": "image"}, "embeds from", "images of DAPI"),
        ({"preset": "gene_only"}, "embeds from", "raw counts of up to 308 genes"),
        ({"preset": "shuffled_pairs"}, "control", "every cell has the genes of another one"),
        ({}, "genes left out in embedding", "1,200 of slide s and 3 of slide t, which no training slide measured"),
        ({"gene_vectors": "v.parquet"}, "gene vectors", "v.parquet"),
        ({"image_weights": "w.pt", "image_weights_sha256": "0" * 64}, "image encoder starts from", "w.pt, sha256 000"),
    ],
)
def test_what_settings_change(values, row, says):
    assert told(Params(**values), 308, ["DAPI"], {"s": 1200, "t": 3})[row].startswith(says)


def test_one_modality_alone():
    assert not {"context", "image encoder starts from"} & set(told(Params(preset="gene_only"), 5, [], {}))
    assert not {"gene vectors", "genes left out in embedding"} & set(told(Params(preset="image_only"), 0, ["DAPI"], {}))
