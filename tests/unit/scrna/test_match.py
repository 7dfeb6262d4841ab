from __future__ import annotations

import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.scrna.match import Names, measured, prefixes, resolve, share

HUMAN = tuple(f"ENSG{number:011d}" for number in range(6))
SYMBOLS = tuple(f"GAD{number}" for number in range(6))
REFERENCE = Names(HUMAN, SYMBOLS)


def of(slide, reference=REFERENCE, constant=(), at_least=1):
    return share("slide s", slide, reference, frozenset(constant), at_least)


def test_ids_are_matched_whatever_the_symbols_and_versions_say():
    found = of(Names((HUMAN[2] + ".7", HUMAN[1]), ("x", "y")))
    assert found.genes == (HUMAN[1], HUMAN[2] + ".7")
    assert found.reference_genes == (HUMAN[1], HUMAN[2])
    assert (found.symbols, found.by_symbol, found.constant) == (("y", "x"), 0, 0)


@pytest.mark.parametrize(
    ("slide", "reference"),
    [(Names(SYMBOLS, SYMBOLS), REFERENCE), (REFERENCE, Names(SYMBOLS, SYMBOLS))],
)
def test_symbols_join_what_ids_cannot(slide, reference):
    found = of(slide, reference)
    assert dict(zip(found.genes, found.reference_genes, strict=True)) == dict(
        zip(slide.ids, reference.ids, strict=True)
    )
    assert found.by_symbol == 6


def test_two_ensembl_ids_that_differ_are_two_genes_though_their_symbols_agree():
    assert of(Names((HUMAN[0], "ENSG00000000099"), ("GAD0", "GAD3"))).genes == (HUMAN[0],)
    # A custom target has no Ensembl id: its symbol is all there is.
    assert of(Names((HUMAN[0], "custom"), ("GAD0", "GAD3"))).reference_genes == (HUMAN[0], HUMAN[3])


def test_a_name_of_several_genes_and_constant_genes_are_left_out_and_counted():
    reference = Names(HUMAN, ("GAD0", "GAD0", *SYMBOLS[2:]))
    found = of(Names(SYMBOLS, SYMBOLS), reference, constant=[HUMAN[4]])
    assert found.genes == ("GAD2", "GAD3", "GAD5")
    assert (found.ambiguous, found.constant) == (1, 1)
    twice = of(Names((HUMAN[0], "custom", HUMAN[1]), ("GAD0", "GAD0", "GAD1")))
    assert (twice.genes, twice.ambiguous) == ((HUMAN[1],), 2)  # one gene of the reference is never two of a slide


@pytest.mark.parametrize(
    ("slide", "reference", "sentence"),
    [
        (Names(("x", "y"), ("x", "y")), REFERENCE, "slide s: it shares no gene with the reference .such as x here and"),
        (REFERENCE, Names(("ENSMUSG00000000001",), ("Gad1",)), "its genes are ENSG..., those of the reference ENSMUSG"),
        (
            Names(("Gad1", "Gad2"), ("Gad1", "Gad2")),
            REFERENCE,
            r"agree only without .* case \(Gad1 / GAD1\): another s",
        ),
        (Names(HUMAN[:3], SYMBOLS[:3]), REFERENCE, "it shares 3 genes with the reference, and at least 5 are asked"),
    ],
)
def test_what_cannot_be_matched_is_one_sentence(slide, reference, sentence):
    with pytest.raises(InputError, match=sentence):
        of(slide, reference, at_least=5)


def test_how_many_shared_genes_do_not_vary_is_said():
    with pytest.raises(InputError, match=r"it shares 4 genes with the reference that vary there \(2 do not\), and at"):
        of(REFERENCE, constant=HUMAN[:2], at_least=5)


def test_some_symbols_written_otherwise_do_not_make_another_species():
    slide = Names(("GAD0", "GAD1", "Gad2"), ("GAD0", "GAD1", "Gad2"))
    assert of(slide, Names(SYMBOLS, SYMBOLS)).genes == ("GAD0", "GAD1")


def test_genes_to_add_are_named_by_id_or_symbol_and_never_measured_ones():
    taken = measured(Names((HUMAN[0] + ".2", "GAD1"), ("x", "GAD1")), REFERENCE)
    assert taken == {HUMAN[0], HUMAN[1]}
    assert resolve(["GAD5", HUMAN[3], "GAD3"], REFERENCE, taken) == (HUMAN[5], HUMAN[3])
    for asked, sentence in (
        ("GAD55", "the reference has no gene 'GAD55'; did you mean GAD5"),
        ("GAD1", "GAD1 is measured on a slide of this run; leave it out"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            resolve([asked], REFERENCE, taken)
    with pytest.raises(ConfigError, match="GAD0 is the symbol of 2 genes of the reference; name one by its id"):
        resolve(["GAD0"], Names(HUMAN, ("GAD0", "GAD0", *SYMBOLS[2:])), taken)


def test_species_are_told_by_the_ids():
    assert prefixes(["ENSG00000000001.3", "ENSMUSG00000000001", "ENSG00000000002", "Gad1"]) == {"ENSG": 2, "ENSMUSG": 1}
