"""Which genes a slide and single cells share, under whatever names each of them uses."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mistline.core.errors import ConfigError, InputError
from mistline.xenium.panel import is_ensembl

MIN_SHARED = 20
_PREFIX = re.compile(r"ENS[A-Z]*?G(?=\d)")
_OTHER_SPECIES = "give single cells of the same species"


@dataclass(frozen=True, slots=True)
class Names:
    """What one side calls its genes.

    Args:
        ids: [G] different from each other; Ensembl or not.
        symbols: [G].
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """Genes that a slide and the reference both measure.

    Args:
        genes: [S] ids of the slide, sorted.
        symbols: [S] of the slide.
        reference_genes: [S] ids of the reference, different from each other.
        by_symbol: how many of them were found by their symbol.
        ambiguous: genes of the slide left out because several genes of the reference, or of the slide, are that one.
        constant: genes left out because all single cells have the same value of them.
    """

    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    reference_genes: tuple[str, ...]
    by_symbol: int
    ambiguous: int
    constant: int


def share(where: str, slide: Names, reference: Names, constant: Collection[str], at_least: int) -> Shared:
    """Return the genes that both sides measure: by id, and where one of the two ids is none of Ensembl, by symbol.

    Args:
        where: the slide, for errors.
        slide: its genes.
        reference: genes of the single cells.
        constant: ids of genes of the reference that do not vary.
        at_least: how few are refused.

    Raises:
        InputError: the two are of different species, or share no gene, or too few.
    """
    _refuse_species(where, slide, reference)
    found, by_symbol, ambiguous = _pairs(slide, reference)
    _refuse_case(where, slide, reference, len(found) + ambiguous)
    varying = {row: other for row, other in found.items() if other not in frozenset(constant)}
    left_out = len(found) - len(varying)
    if len(varying) < max(1, at_least):
        _refuse_few(where, slide, reference, len(varying), left_out, at_least)
    rows = sorted(varying, key=lambda row: slide.ids[row])
    return Shared(
        genes=tuple(slide.ids[row] for row in rows),
        symbols=tuple(slide.symbols[row] for row in rows),
        reference_genes=tuple(varying[row] for row in rows),
        by_symbol=len(by_symbol & set(rows)),
        ambiguous=ambiguous,
        constant=left_out,
    )


def measured(slide: Names, reference: Names) -> frozenset[str]:
    """Return the ids of all genes of the reference that a slide may measure, by id or by symbol."""
    ids, symbols = {_plain(gene) for gene in slide.ids}, set(slide.symbols) | set(slide.ids)
    return frozenset(
        gene
        for gene, symbol in zip(reference.ids, reference.symbols, strict=True)
        if _plain(gene) in ids or symbol in symbols
    )


def resolve(asked: Sequence[str], reference: Names, taken: Collection[str]) -> tuple[str, ...]:
    """Return the ids in the reference of genes that are asked for by id or symbol, each once, in their order.

    Args:
        asked: ids or symbols.
        reference: genes of the single cells.
        taken: ids of those that a slide measures.

    Raises:
        ConfigError: a gene is unknown (names the nearest), measured, or its symbol is that of several.
    """
    known: dict[str, list[str]] = {}
    for gene, symbol in zip(reference.ids, reference.symbols, strict=True):
        for name in {gene, _plain(gene), symbol}:
            known.setdefault(name, []).append(gene)
    found = []
    for name in asked:
        genes = known.get(name, [])
        if not genes:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]}" if near else "name genes of the reference, by id or symbol"
            raise ConfigError("imputation.genes", f"the reference has no gene {name!r}", remedy)
        if len(genes) > 1:
            what = f"{name} is the symbol of {len(genes)} genes of the reference"
            raise ConfigError("imputation.genes", what, f"name one by its id, such as {genes[0]}")
        if genes[0] in taken:
            what = f"{name} is measured on a slide of this run"
            raise ConfigError("imputation.genes", what, "leave it out: what is measured is not imputed")
        found.append(genes[0])
    return tuple(dict.fromkeys(found))


def prefixes(ids: Sequence[str]) -> dict[str, int]:
    """Return how many Ensembl ids have which prefix: ENSG is human, ENSMUSG mouse."""
    return dict(Counter(match[0] for match in map(_PREFIX.match, filter(is_ensembl, ids)) if match))


def _plain(gene: str) -> str:
    """Return an id without the version that Ensembl ids may end in."""
    return gene.partition(".")[0] if is_ensembl(gene) else gene


def _pairs(slide: Names, reference: Names) -> tuple[dict[int, str], set[int], int]:
    """Return row of the slide -> id of the reference, the rows found by symbol, and how many were ambiguous."""
    ids, symbols = _rows([_plain(gene) for gene in reference.ids]), _rows(reference.symbols)
    found: dict[int, int] = {}
    by_symbol: set[int] = set()
    ambiguous = 0
    for row, (gene, symbol) in enumerate(zip(slide.ids, slide.symbols, strict=True)):
        own = is_ensembl(gene)
        rows = ids.get(_plain(gene), [])
        if not rows:
            # Two Ensembl ids that differ are two genes, whatever their symbols say.
            rows = [other for other in symbols.get(symbol, []) if not (own and is_ensembl(reference.ids[other]))]
            by_symbol.update([row] * bool(rows))
        if len(rows) == 1:
            found[row] = rows[0]
        ambiguous += len(rows) > 1
    times = Counter(found.values())
    once = {row: reference.ids[other] for row, other in found.items() if times[other] == 1}
    return once, by_symbol, ambiguous + len(found) - len(once)


def _rows(names: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        found.setdefault(name, []).append(row)
    return found


def _refuse_species(where: str, slide: Names, reference: Names) -> None:
    own, other = prefixes(slide.ids), prefixes(reference.ids)
    if own and other and not set(own) & set(other):
        first = [max(sorted(found), key=lambda name: found[name]) for found in (own, other)]
        what = f"its genes are {first[0]}..., those of the reference {first[1]}...: another species"
        raise InputError(where, what, _OTHER_SPECIES)


def _refuse_case(where: str, slide: Names, reference: Names, n_found: int) -> None:
    """Refuse symbols that agree only when upper and lower case are the same: Gad1 is of a mouse, GAD1 of a human."""
    exact = set(reference.symbols)
    folded = {symbol.casefold(): symbol for symbol in reference.symbols}
    alike = [
        (symbol, folded[symbol.casefold()])
        for symbol in slide.symbols
        if symbol not in exact and symbol.casefold() in folded
    ]
    if len(alike) > n_found:
        what = f"its genes and those of the reference agree only without upper and lower case ({' / '.join(alike[0])})"
        raise InputError(where, f"{what}: another species", _OTHER_SPECIES)


def _refuse_few(where: str, slide: Names, reference: Names, n: int, constant: int, at_least: int) -> None:
    if n + constant == 0:
        what = f"it shares no gene with the reference (such as {slide.ids[0]} here and {reference.ids[0]} there)"
        raise InputError(where, what, "give both Ensembl ids, or symbols of one species")
    left_out = f" that vary there ({constant} do not)" if constant else ""
    what = f"it shares {n} genes with the reference{left_out}, and at least {at_least} are asked for"
    raise InputError(where, what, "give a reference that measures more of them, or lower min_shared")
