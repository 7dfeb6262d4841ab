"""What an edit asks for is understood as it is meant, or refused in a sentence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mistline.config.generation import Edit
from mistline.core.errors import ConfigError, InputError
from mistline.infer.asked import Asked, asked_by_hand, changed
from mistline.infer.genes import gene_place

SOURCE = SimpleNamespace(
    genes=("ENSG1", "ENSG2", "ENSG3", "ENSG4", "ENSG5"),
    symbols=("ERBB2", "ESR1", "TWIN", "TWIN", "esr1"),
    panels={"s": np.array([True, True, True, True, False])},
)


@pytest.mark.parametrize(
    ("level", "expected"), [("0", [0, 0, 0]), ("12", [12, 12, 12]), ("x2", [0, 2, 14]), ("x0.5", [0, 1, 4])]
)
def test_levels_are_counts_or_factors_on_the_own_count(level, expected):
    assert changed(np.array([0, 1, 7]), level).tolist() == expected


@pytest.mark.parametrize(("level", "said"), [("0.5", "write a whole number, or x0.5"), ("two", "no count")])
def test_a_level_that_is_neither_is_refused(level, said):
    with pytest.raises(ConfigError, match=said):
        changed(np.array([1]), level)


def test_genes_set_by_hand_are_changed_together():
    asked = asked_by_hand(["ERBB2=0", "A=B=x2,x4"], "s", ["c1"])
    assert asked == Asked(("ERBB2", "A=B"), (("0", "x2"), ("0", "x4")), "s", ("c1",))
    assert [asked.name(level) for level in (0, 1)] == ["0 / x2", "0 / x4"]
    assert Asked.of(Edit(genes=("a", "b"), levels=("0",), n_cells=3)) == Asked(("a", "b"), (("0", "0"),), n_cells=3)


@pytest.mark.parametrize(
    ("sets", "said"),
    [(["ERBB2"], "no change of a gene"), (["a=0", "a=1"], "a=0,x2"), (["a=0,1", "b=0,1,2"], "a 2, b 3")],
)
def test_what_cannot_be_set_is_refused(sets, said):
    with pytest.raises(ConfigError, match=said):
        asked_by_hand(sets, None, [])


@pytest.mark.parametrize(("name", "place"), [("ENSG2", 1), ("ESR1", 1), ("erbb2", 0), ("ensg4", 3)])
def test_a_gene_is_named_by_id_or_symbol(name, place):
    assert gene_place(SOURCE, "s", name) == place


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("ERBB3", ConfigError, "unknown gene 'ERBB3'; did you mean ERBB2"),
        ("TWIN", ConfigError, "names 2 genes; give one of their ids: ENSG3, ENSG4"),
        ("ENSG5", InputError, "slide s did not measure ENSG5"),
    ],
)
def test_a_gene_that_cannot_be_edited_is_refused(name, kind, said):
    with pytest.raises(kind, match=said):
        gene_place(SOURCE, "s", name)
