"""The toy gene panel: which gene means what, and how much of it each cell type expresses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import generator
from mistline.xenium.toy.settings import ToySlide

CELL_TYPES = ("Tumour", "Myoepithelial", "Fibroblast", "Endothelial", "T_cell", "B_cell", "Macrophage", "Mast")
DOMAINS = ("core", "margin", "stroma", "follicle")
SENDER, RECEIVER = CELL_TYPES.index("Macrophage"), CELL_TYPES.index("Tumour")
MORPHOLOGY = ("NUCSIZE", "NUCECC", "NUCBRI")
TARGETS = ("TARGET1", "TARGET2", "TARGET3", "TARGET4")
TARGET_FOLD = 4.0
REACH_UM = 60.0
N_MARKERS, N_DOMAIN_GENES, N_CONTROLS = 6, 3, 8
CONTROL_MEAN = 0.02  # counts a cell of one control feature

# Mean of NUCSIZE, NUCECC and NUCBRI by cell type: why an image knows something of the type.
MORPHOLOGY_MEAN = np.array(
    [[22, 4, 6], [9, 14, 8], [7, 26, 5], [5, 22, 9], [4, 2, 16], [3, 2, 24], [15, 7, 3], [10, 3, 12]], dtype=np.float64
)
_CONTROL_NAMES = {
    "Negative Control Probe": "NegControlProbe_{:05d}",
    "Negative Control Codeword": "NegControlCodeword_{:04d}",
    "Blank Codeword": "BLANK_{:04d}",
    "Unassigned Codeword": "UnassignedCodeword_{:04d}",
    "Genomic Control": "Intergenic_Region_{:04d}",
    "Deprecated Codeword": "DeprecatedCodeword_{:04d}",
}


@dataclass(frozen=True)
class Panel:
    """The features of a slide, genes first.

    Args:
        ids: [features] Ensembl-like ids of genes, names of controls.
        symbols: [features] display names.
        types: [features] feature types.
        n_genes: genes of the panel, add-on included.
        means: [types, genes] expected counts of a cell of size 1.
        domain_fold: [domains, genes] factors.
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...]
    types: tuple[str, ...]
    n_genes: int
    means: NDArray[np.float64]
    domain_fold: NDArray[np.float64]

    def index(self, *symbols: str) -> NDArray[np.int64]:
        """Return the feature numbers of genes by symbol."""
        return np.array([self.symbols.index(symbol) for symbol in symbols])


def marker(cell_type: str, number: int) -> str:
    """Return the symbol of a type's marker gene."""
    return f"{cell_type.replace('_', '').upper()[:5]}{number + 1}"


def domain_gene(domain: str, number: int) -> str:
    """Return the symbol of a gene raised in a domain whatever the cell type."""
    return f"DOM{domain.upper()[:4]}{number + 1}"


def build_panel(slide: ToySlide) -> Panel:
    """Make the slide's panel. Genes and their programs are the same for every slide and seed."""
    symbols = _symbols(slide.n_genes, slide.n_addon)
    random = generator(0, "toy", "programs")
    # Drawn gene by gene, so that a larger panel keeps the programs of a smaller one.
    means = np.stack([random.lognormal(0, 0.25, len(CELL_TYPES)) * random.gamma(0.8, 0.9) for _ in symbols], axis=1)
    fold = np.ones((len(DOMAINS), len(symbols)))
    place = {symbol: number for number, symbol in enumerate(symbols)}
    for row, cell_type in enumerate(CELL_TYPES):
        for number in range(N_MARKERS):
            gene = place[marker(cell_type, number)]
            means[:, gene] = 0.3
            means[row, gene] = 2.6 / (1 + 0.3 * number)
    for row, domain in enumerate(DOMAINS):
        for number in range(N_DOMAIN_GENES):
            gene = place[domain_gene(domain, number)]
            means[:, gene], fold[row, gene] = 0.8, 4.0 if slide.domain_genes else 1.0
    _set_signalling(means, place)
    ids = list(symbols) if slide.symbols_as_ids else [f"ENSG{90_000_000_000 + n:011d}" for n in range(len(symbols))]
    controls = [
        (_CONTROL_NAMES[kind].format(number + 1), kind)
        for kind in slide.form.feature_types
        for number in range(N_CONTROLS)
    ]
    return Panel(
        ids=(*ids, *(name for name, _ in controls)),
        symbols=(*symbols, *(name for name, _ in controls)),
        types=(*("Gene Expression" for _ in symbols), *(kind for _, kind in controls)),
        n_genes=len(symbols),
        means=means,
        domain_fold=fold,
    )


def _symbols(n_genes: int, n_addon: int) -> list[str]:
    named = [*MORPHOLOGY, "LIGAND1", "RECEPT1", *TARGETS]
    named += [marker(cell_type, number) for cell_type in CELL_TYPES for number in range(N_MARKERS)]
    named += [domain_gene(domain, number) for domain in DOMAINS for number in range(N_DOMAIN_GENES)]
    named += [f"HOUSE{number + 1}" for number in range(n_genes - len(named))]
    return named + [f"ADDON{number + 1}" for number in range(n_addon)]


def _set_signalling(means: NDArray[np.float64], place: dict[str, int]) -> None:
    for column, symbol in enumerate(MORPHOLOGY):
        means[:, place[symbol]] = MORPHOLOGY_MEAN[:, column]
    for symbol, source in (("LIGAND1", SENDER), ("RECEPT1", RECEIVER)):
        means[:, place[symbol]] = 0.1
        means[source, place[symbol]] = 6.0
    for symbol in TARGETS:
        means[:, place[symbol]] = 1.0
