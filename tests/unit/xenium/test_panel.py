from __future__ import annotations

import json

import pytest

from mistline.core.errors import InputError
from mistline.xenium.panel import Panel, gene_ids, is_ensembl, kind_of_ids, read_panel


def _target(name, gene, descriptor="gene"):
    return {"type": {"descriptor": descriptor, "data": {"name": name, "id": gene}}}


def _write(tmp_path, payload):
    path = tmp_path / "gene_panel.json"
    path.write_text(json.dumps({"payload": payload}))
    return path


def test_names_and_ensembl_ids_of_genes_only(tmp_path):
    targets = [
        _target("ACTB", "ENSG00000075624"),
        _target("GFP", "GFP"),
        _target("NegControl", "ENSG00000000001", "negative control probe"),
    ]
    panel = read_panel(_write(tmp_path, {"panel": {"identity": {"name": "Breast"}}, "targets": targets}))
    assert panel == Panel("Breast", {"ACTB": "ENSG00000075624"})


@pytest.mark.parametrize("payload", [None, {}, {"targets": None}, {"targets": [{"type": {}}]}])
def test_unknown_structure(tmp_path, payload):
    with pytest.raises(InputError, match=r"gene_panel.json: holds no payload.targets .*; restore the file"):
        read_panel(_write(tmp_path, payload))


def test_truncated(tmp_path):
    path = tmp_path / "gene_panel.json"
    path.write_text('{"payload": {"targets": [')
    with pytest.raises(InputError, match=r"gene_panel.json: truncated or not JSON"):
        read_panel(path)


@pytest.mark.parametrize(
    ("gene", "expected"),
    [
        ("ENSG00000075624", True),
        ("ENSMUSG00000029580", True),
        ("ENSG00000075624.17", True),
        ("ACTB", False),
        ("ENSA", False),
    ],
)
def test_is_ensembl(gene, expected):
    assert is_ensembl(gene) is expected


def test_stored_ensembl_id_then_the_panel_then_the_symbol():
    panel = Panel("p", {"ACTB": "ENSG00000075624", "A": "ENSG00000000009"})
    stored = ["ACTB", "GFP", "ENSG00000000001"]
    assert gene_ids(stored, ["ACTB", "GFP", "A"], panel) == ["ENSG00000075624", "GFP", "ENSG00000000001"]
    assert gene_ids(stored, ["ACTB", "GFP", "A"], None) == stored


def test_kind_of_ids():
    assert kind_of_ids(["ENSG00000075624", "ENSG00000000001", "GFP"]) == "ensembl"
    assert kind_of_ids(["ACTB", "GFP"]) == "symbol"
