"""Genes by the names that users give them."""

from __future__ import annotations

import difflib

from mistline.core.errors import ConfigError, InputError
from mistline.models.contract import Source


def gene_place(source: Source, slide: str, name: str, where: str = "the gene of an edit") -> int:
    """Return a gene's place in the vocabulary.

    Args:
        source: with the vocabulary.
        slide: that must have measured it.
        name: symbol or id; upper and lower case are the same where that names one gene.
        where: what asks for it, for errors.

    Raises:
        ConfigError: unknown (names the nearest), or the symbol of several genes.
        InputError: the slide did not measure it.
    """
    found = _named(source, name)
    if not found:
        known = {text.lower(): text for text in (*source.genes, *source.symbols)}
        near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0)
        remedy = f"did you mean {known[near[0]]}" if near else "choose a gene of genes.parquet"
        raise ConfigError(where, f"unknown gene {name!r}", remedy)
    if len(found) > 1:
        ids = ", ".join(source.genes[place] for place in found)
        raise ConfigError(where, f"{name!r} names {len(found)} genes", f"give one of their ids: {ids}")
    if not source.panels[slide][found[0]]:
        what = f"slide {slide} did not measure {name}"
        raise InputError(where, what, "choose a gene of its panel, or another slide")
    return found[0]


def _named(source: Source, name: str) -> list[int]:
    """Return the places of the genes that a name means: by id, by symbol, or by either in another case."""
    for same in (str, str.lower):
        for names in (source.genes, source.symbols):
            found = [place for place, own in enumerate(names) if same(own) == same(name)]
            if found:
                return found
    return []
