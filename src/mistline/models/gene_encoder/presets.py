"""Published encoders of single-cell counts, one row each: how they read a cell and where their files are.

No torch is imported here. Nothing is downloaded: `how` says by hand where the files come from, and the settings name
each of them and its sha256. Sizes are read from the weights themselves: in all of these a head is 64 wide
(specification, section 12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GeneModel:
    """An encoder of counts.

    Args:
        reading: ranks: genes in the order of their share of the cell over their usual one, one token a gene; bins:
            expressed genes and the bin of their count among the cell's own.
        genes: what its vocabulary names genes by.
        files: settings that name the files it needs.
        max_length: tokens of a cell, where the weights have no place for each of them; 0 where they have.
        layer: which layer's tokens are used: the last (-1) or the one before (-2).
        place: of the files.
    """

    reading: Literal["ranks", "bins"]
    genes: Literal["ensembl", "symbol"]
    files: tuple[str, ...]
    max_length: int
    layer: int
    place: str

    @property
    def how(self) -> str:
        """Say how its files are had."""
        return f"fetch {self.place} by hand, and set {', '.join(self.files)} to them and *_sha256 to their sha256"


PRESETS: Mapping[str, GeneModel] = {
    "geneformer": GeneModel(
        "ranks",
        "ensembl",
        ("weights", "vocabulary", "medians"),
        0,
        -2,
        "of huggingface.co/ctheodoris/Geneformer one model's model.safetensors (such as Geneformer-V2-104M's) and, of"
        " the same version, geneformer/token_dictionary_gc104M.pkl as vocabulary and"
        " geneformer/gene_median_dictionary_gc104M.pkl as medians (gene_dictionaries_30m/ for V1)",
    ),
    "scgpt": GeneModel(
        "bins",
        "symbol",
        ("weights", "vocabulary"),
        1200,
        -1,
        "best_model.pt as weights and vocab.json as vocabulary of the folder whole-human that the README of"
        " github.com/bowang-lab/scGPT links",
    ),
}

ELSEWHERE: Mapping[str, str] = {
    "cellplm": "CellPLM runs in an environment of its own: model: peer, params: {method: cellplm}",
    "celltypist": "CellTypist gives predictions and no embedding: model: peer, params: {method: celltypist}",
    "scbert": "scBERT (github.com/TencentAILabHealthcare/scBERT) has no package and no embedding without training its"
    " classifier, and reads 16,906 genes a cell; it is not offered",
}
