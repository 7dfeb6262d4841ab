"""What SPATIA is trained for (specs/spatia.md, section 7): hidden patches and genes, and all of it from z.

Images: hidden patches of cells, niches and regions; the decoder's class token is told the embedding, so that the
loss of the pixels reaches it in a model without genes as well. Genes: hidden ones and lost counts from the genes'
tokens; genes drawn from the panel from z alone; and the summed genes of niche and region from z, or from their own
embeddings, so that z keeps what lies around the cell.

`B` cells, `T` niches, `R` regions, `Q` genes asked for, `G` genes of the vocabulary, `D` width of the embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from mistline.models.spatia.gene_loss import Corrupted, GeneTerms, Part
from mistline.models.spatia.gene_tokens import GeneTokens, SparseGenes
from mistline.models.spatia.genes import GeneTable
from mistline.models.spatia.image_decoder import ImageDecoder, pixel_loss
from mistline.models.spatia.inputs import Inputs
from mistline.models.spatia.params import Params

# Weight of the summed genes: their counts are those of many cells, and so are their loss and its gradient, which at 1
# drove z^c to a vector that cells hardly differ in (its scatter was 5 % of its length on toy slides, and 30 % at 0.2).
_AROUND = 0.2


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images of one level, as far as the encoder saw them.

    Args:
        level: cell, niche or tissue.
        image: uint8 [n, C, S, S].
        tokens: [n, 2 + K, Di] of the patches seen.
        keep: int64 [n, K] which those are; None for all.
        z: [n, D] embedding that the decoder is told; None for none.
    """

    level: str
    image: Tensor
    tokens: Tensor
    keep: Tensor | None
    z: Tensor | None


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of the cells of a batch.

    Args:
        z: [B, D].
        around: [B, D] each: of niche and tissue, the cell left out.
        genes: the gene side's tokens after fusion, of the cells whose genes it was shown.
    """

    z: Tensor
    around: list[Tensor]
    genes: list[Part]


class Losses(nn.Module):
    """Decoders and their losses.

    Args:
        params: settings.
        channels: of the images.
    """

    def __init__(self, params: Params, channels: int) -> None:
        super().__init__()
        self.params = params
        self.decoder: ImageDecoder | None = None
        self.terms: GeneTerms | None = None
        if "image" in params.modalities and params.lambda_image:
            self.decoder = ImageDecoder(params.image_sizes(), channels)
            told = [level for level in params.levels if level != "tissue"]
            self.told = nn.ModuleDict({level: nn.Linear(params.width, params.image_width) for level in told})
        if "genes" in params.modalities and params.lambda_genes:
            self.terms = GeneTerms(params.width, params.heads, params.dropout)
            self.level = nn.Parameter(torch.randn(len(params.levels), params.width) * 0.02)

    def of_images(self, given: list[Pictures]) -> dict[str, Tensor]:
        """Return the loss of the pixels of each level."""
        found = {}
        if self.decoder is None:
            return found
        for item in given:
            tokens = item.tokens
            if item.z is not None:
                told = self.told[item.level](item.z)[:, None]
                tokens = tokens * _seen(len(tokens), tokens)
                tokens = torch.cat([tokens[:, :1] + told, tokens[:, 1:]], dim=1)
            found[f"image_{item.level}"] = pixel_loss(self.decoder, tokens, item.image, item.keep)
        return found

    def of_genes(
        self, inputs: Inputs, given: Corrupted, out: Embedded, table: GeneTable, asked: Asked, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the terms of the genes.

        Args:
            inputs: the batch.
            given: genes as the encoder was shown them.
            out: what became of the cells.
            table: gene vectors.
            asked: the genes drawn.
            draw: which level a cell is asked for besides its own genes.
        """
        if self.terms is None or inputs.cells.genes is None:
            return {}
        hidden, lost = self.terms.token_losses(out.genes, given)
        found = {"genes_hidden": hidden, "genes_lost": lost}
        tokens = asked.of(inputs.cells.genes)
        found["genes_query"] = self.terms.query_loss(out.z + self.level[0], table, tokens, genes=asked.genes)
        if not out.around:
            return found
        targets = asked.around(inputs)
        level = torch.randint(len(out.around), (len(out.z),), generator=draw, device=out.z.device)
        from_z = torch.rand(len(out.z), generator=draw, device=out.z.device) < 0.5
        own = torch.stack(out.around, dim=1)[torch.arange(len(level), device=level.device), level]
        memory = torch.where(from_z[:, None], out.z, own) + self.level[1 + level]
        tokens = chosen(targets, level)
        found["genes_around"] = self.terms.query_loss(memory, table, tokens, genes=asked.genes)
        return found

    def summed(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses with `loss`, their weighted sum."""
        params = self.params
        weight = {"image": params.lambda_image, "genes": params.lambda_genes, "classes": params.lambda_classes}
        share = {"genes_around": _AROUND}
        parts = [share.get(name, 1.0) * weight[name.partition("_")[0]] * value for name, value in found.items()]
        return {"loss": torch.stack(parts).sum(), **found}


def _seen(n: int, like: Tensor) -> Tensor:
    """Return [n, 1, 1], 0 for every other image: its hidden patches are asked of z alone, else 1.

    Where the decoder sees patches, z tells it little that is new, and would not be made to hold the image.
    """
    return (torch.arange(n, device=like.device) % 2).to(like.dtype)[:, None, None]


@dataclass(frozen=True, slots=True)
class Asked:
    """Genes that a batch's embeddings are asked for.

    Args:
        genes: int64 [Q] places in the vocabulary.
        slot: int64 [G] place of each gene among them, Q for none.
        measured: bool [P, Q] which of them each panel measured.
    """

    genes: Tensor
    slot: Tensor
    measured: Tensor

    @classmethod
    def drawn(cls, given: SparseGenes, measured: Tensor, most: int, draw: torch.Generator) -> Asked:
        """Draw genes, those first that a panel of the batch measured.

        Args:
            given: counts of the batch.
            measured: bool [P, G].
            most: Q, unless there are fewer genes.
            draw: generator on the same device.
        """
        n_genes = measured.shape[1]
        useful = measured[given.panel].any(dim=0)
        order = torch.rand(n_genes, generator=draw, device=measured.device) + useful
        genes = order.topk(min(most, n_genes)).indices
        slot = torch.full((n_genes,), len(genes), device=genes.device)
        slot[genes] = torch.arange(len(genes), device=genes.device)
        return cls(genes, slot, measured[:, genes])

    def of(self, given: SparseGenes) -> GeneTokens:
        """Return these genes of records, [n, Q]; PAD where a gene was not measured."""
        n, Q = len(given.panel), len(self.genes)
        column = torch.where(given.index < 0, Q, self.slot[given.index.clamp(min=0)])
        count = torch.zeros(n, Q + 1, device=given.count.device)
        count.index_put_((given.row, column), given.count, accumulate=True)
        pad = ~self.measured[given.panel]
        count = count[:, :Q].masked_fill(pad, 0)
        index = (self.genes + 1).expand(n, -1).masked_fill(pad, 0)
        return GeneTokens(index, count, count, torch.zeros_like(pad), pad, count.sum(1))

    def around(self, inputs: Inputs) -> list[GeneTokens]:
        """Return these genes summed over the niche, then over the region, of each cell; [B, Q] each."""
        found = []
        if inputs.layout is None:
            return found
        if inputs.niche is not None and inputs.niche.genes is not None:
            found.append(_rows(self.of(inputs.niche.genes), inputs.layout.niche))
        if inputs.tissue is not None and inputs.tissue.genes is not None:
            found.append(_rows(self.of(inputs.tissue.genes), inputs.layout.region[inputs.layout.niche]))
        return found


def chosen(given: list[GeneTokens], which: Tensor) -> GeneTokens:
    """Return [B, Q] tokens, of each row those of the given [B, Q] that `which` [B] names."""
    row = torch.arange(len(which), device=which.device)

    def pick(name: str) -> Tensor:
        return torch.stack([getattr(item, name) for item in given])[which, row]

    return GeneTokens(**{item.name: pick(item.name) for item in fields(GeneTokens)})


def turned(given: SparseGenes, turn: Tensor) -> SparseGenes:
    """Return counts in which record i has those of record `turn[i]`: the control of shuffled pairs."""
    to = torch.empty_like(turn)
    to[turn] = torch.arange(len(turn), device=turn.device)
    order = to[given.row].argsort(stable=True)
    length = torch.zeros_like(turn).index_add_(0, given.row, torch.ones_like(given.row))[turn]
    start = length.cumsum(0) - length
    return SparseGenes(
        given.index[order], given.count[order], to[given.row][order], start, given.panel[turn], given.longest
    )


def _rows(tokens: GeneTokens, row: Tensor) -> GeneTokens:
    return tokens.rows(row, tokens.pad.shape[1])
