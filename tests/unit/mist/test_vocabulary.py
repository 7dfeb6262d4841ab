from __future__ import annotations

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.mist.vocabulary import Panel, namespace_of, shared_genes, unite


def ensembl(*numbers: int) -> list[str]:
    return [f"ENSG{number:011d}" for number in numbers]


def panel(ids: list[str], symbols: list[str] | None = None) -> Panel:
    return Panel(np.array(ids), np.array(symbols or [f"S{name[-3:]}" for name in ids]))


def test_the_union_is_sorted_and_knows_who_measured_what():
    genes = unite({"s1": panel(ensembl(2, 5)), "s2": panel(ensembl(1, 5, 9))})
    assert genes.gene_ids.tolist() == ensembl(1, 2, 5, 9)
    assert genes.symbols.tolist() == ["S001", "S002", "S005", "S009"]
    assert genes.measured.tolist() == [[False, True, True, False], [True, False, True, True]]
    table = genes.table()
    assert table["n_slides"].tolist() == [1, 1, 2, 1]
    assert table["slides"].tolist() == [["s2"], ["s1"], ["s1", "s2"], ["s2"]]


def test_a_slides_index_map_leads_each_of_its_genes_to_itself():
    panels = {"s1": panel(ensembl(2, 5)), "s2": panel(ensembl(1, 5, 9))}
    genes = unite(panels)
    for slide, one in panels.items():
        assert genes.gene_ids[genes.index_of(slide)].tolist() == one.gene_ids.tolist()


def test_a_renamed_gene_is_one_gene_under_its_commonest_name():
    found = unite(
        {"s1": panel(ensembl(5), ["OLD"]), "s2": panel(ensembl(5), ["NEW"]), "s3": panel(ensembl(5), ["NEW"])}
    )
    assert found.table()[["gene_id", "symbol", "n_slides"]].values.tolist() == [[*ensembl(5), "NEW", 3]]
    assert found.aliases == (("OLD",),)


def test_symbols_never_meet_ensembl_ids():
    with pytest.raises(InputError, match="genes of slide s2: its ids are symbols while those of slide s1 are Ensembl"):
        unite({"s1": panel(ensembl(1, 2, 3)), "s2": panel(["ACTB", "EPCAM"])})


def test_a_reporter_among_ensembl_ids_does_not_change_the_namespace():
    assert namespace_of(panel([*ensembl(1, 2), "EGFP"])) == "ensembl"
    assert namespace_of(panel(["ACTB", "EPCAM", *ensembl(1)])) == "symbol"


@pytest.mark.parametrize("ids", [ensembl(5, 2), ensembl(2, 2)])
def test_a_panel_out_of_order_or_with_doubles_is_refused(ids):
    with pytest.raises(InputError, match="genes of slide s1: they are not sorted and unique"):
        unite({"s1": panel(ids)})


def test_shared_genes_are_those_of_every_panel():
    shared = shared_genes([panel(ensembl(1, 2, 5)), panel(ensembl(2, 5, 7)), panel(ensembl(2, 5, 9))])
    assert shared.gene_ids.tolist() == ensembl(2, 5)
    assert shared.symbols.tolist() == ["S002", "S005"]
    assert shared_genes([panel(ensembl(1)), panel(ensembl(2))]).gene_ids.tolist() == []
