"""The parts put together, and what they are trained for.

`B` cells, `T` niches, `R` regions, `G` genes of the vocabulary, `D` width of the embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mistline.models.spatia.class_heads import Classes, ClassHeads
from mistline.models.spatia.context import FinalFusion, Layout, NicheEncoder, Surroundings, TissueEncoder
from mistline.models.spatia.fusion import CellFusion, Fused, FusionBlock, FusionSizes, drop_modalities
from mistline.models.spatia.gene_loss import corrupt
from mistline.models.spatia.gene_tokens import GeneTokens, Panels, collate
from mistline.models.spatia.genes import GeneEncoder, GeneSizes, chunked, packed, prepended
from mistline.models.spatia.image import ImageEncoder
from mistline.models.spatia.inputs import Inputs, Records
from mistline.models.spatia.losses import Asked, Embedded, Losses, Pictures, turned
from mistline.models.spatia.params import Params
from mistline.models.spatia.patches import draw_keep

_CHUNKS = 4  # parts of a batch by length of the cells' gene tokens


@dataclass(frozen=True, slots=True)
class Given:
    """What a network is made for, besides its settings.

    Args:
        genes: G.
        channels: of the images; 0 for none.
        vectors: float32 [G, D] of genes; None for learned ones.
        positions: int64 [G] places of genes along the genome; None for none.
        classes: of the label columns that z learns to tell.
    """

    genes: int
    channels: int
    vectors: Tensor | None = None
    positions: Tensor | None = None
    classes: tuple[Classes, ...] = ()


class Network(nn.Module):
    """Encoders, fusion, niche, tissue, and the decoders they are trained with.

    Args:
        params: settings.
        given: what it is made for.
    """

    def __init__(self, params: Params, given: Given) -> None:
        super().__init__()
        self.params = params
        self.genes: GeneEncoder | None = None
        self.image: ImageEncoder | None = None
        if "genes" in params.modalities:
            sizes = GeneSizes(
                given.genes, params.width, params.gene_layers, params.heads, params.gene_mlp, params.dropout
            )
            self.genes = GeneEncoder(sizes, given.positions, given.vectors, freeze=params.freeze_vectors)
        if "image" in params.modalities:
            self.image = ImageEncoder(params.image_sizes(), given.channels)
        self.fusion = CellFusion(
            FusionSizes(
                params.width,
                params.heads,
                params.image_width,
                params.image_heads,
                params.fusion_layers,
                params.dropout,
                params.fusion_style,
                params.combine_weight,
            )
        )
        self.around = _surroundings(params)
        self.final: FinalFusion | None = None
        if self.around is not None:
            self.final = FinalFusion(params.width, params.heads, len(params.levels) - 1, params.dropout)
        self.losses = Losses(params, given.channels)
        self.classes = ClassHeads(params.width, given.classes)
        self.set_panels(torch.ones(1, given.genes, dtype=torch.bool))

    def set_panels(self, measured: Tensor) -> None:
        """Tell which genes each panel measured; only training asks.

        Args:
            measured: bool [P, G].
        """
        panels = Panels.of(measured)
        for name, value in (("measured", measured), ("panel_genes", panels.genes), ("panel_size", panels.size)):
            self.register_buffer(name, value, persistent=False)

    def gene_tokens(self, tokens: GeneTokens) -> Tensor:
        """Return [B, 2 + L, D], base, depth and genes."""
        if self.genes is None:
            raise RuntimeError("the model reads no genes")
        out: Tensor = packed(self.genes, tokens, chunked(tokens, _CHUNKS))
        return out

    def encode(self, cells: Records, use_image: bool, use_genes: bool) -> Fused:
        """Return cells by themselves, all that is there of them; nothing is hidden or drawn.

        Args:
            cells: B of them.
            use_image: read the images.
            use_genes: read the genes.
        """
        n, device = len(cells), cells.side_um.device
        image = tokens = pad = None
        if use_image and self.image is not None:
            image = self.image(cells.image, cells.side_um, "cell")
        if use_genes and cells.genes is not None:
            own = collate(cells.genes, self.params.max_len, draw=None)
            tokens, pad = self.gene_tokens(own), prepended(own.pad)
        has = (torch.full((n,), given is not None, device=device) for given in (image, tokens))
        fused: Fused = self.fusion(image, tokens, pad, *has)
        return fused

    def forward(self, inputs: Inputs, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of a batch; `loss` is their weighted sum.

        Args:
            inputs: a batch.
            draw: of everything that is drawn besides dropout, on the batch's device.
        """
        if self.params.pairs == "shuffled":
            inputs = _shuffled(inputs, draw)
        device, n = inputs.cells.side_um.device, len(inputs.cells)
        pictures: list[Pictures] = []
        image = self._picture("cell", inputs.cells, draw, pictures)
        niche_image = None if inputs.niche is None else self._picture("niche", inputs.niche, draw, pictures)
        if inputs.tissue is not None:
            self._picture("tissue", inputs.tissue, draw, pictures)
        corrupted = tokens = pad = None
        if self.genes is not None and inputs.cells.genes is not None:
            panels = Panels(self.panel_genes, self.panel_size)
            own = collate(inputs.cells.genes, self.params.max_len, panels=panels, zeros=self.params.zeros, draw=draw)
            corrupted = corrupt(own, draw)
            tokens, pad = self.gene_tokens(corrupted.tokens), prepended(own.pad)
        is_dropping = self.training and image is not None and tokens is not None
        share = self.params.modality_dropout if is_dropping else 0.0
        has_image, has_genes = drop_modalities(n, share, draw, device)
        has_image, has_genes = has_image & (image is not None), has_genes & (tokens is not None)
        fused: Fused = self.fusion(image, tokens, pad, has_image, has_genes)
        around, whole = self._around(fused.z, inputs.layout, niche_image, share, draw)
        z = self.join(fused.z, around, self._levels(n, draw, device))
        after = {"cell": {"tokens": fused.image, "z": z}, "niche": {"z": whole}, "tissue": {}}
        found = self.losses.of_images([replace(item, **after[item.level]) for item in pictures])
        if corrupted is not None and self.genes is not None and inputs.cells.genes is not None:
            asked = Asked.drawn(inputs.cells.genes, self.measured, self.params.query_genes, draw)
            out = Embedded(z, around, fused.genes, has_genes)
            found |= self.losses.of_genes(inputs, corrupted, out, self.genes.table, asked, draw)
        return self.losses.summed(found | self.classes(z, inputs.classes))

    def join(self, cell: Tensor, around: list[Tensor], keep: Tensor | None = None) -> Tensor:
        """Return z [B, D] of z^c and its context; `keep` as in `FinalFusion`."""
        if self.final is None:
            return cell
        out: Tensor = self.final(cell, around, keep)
        return out

    def _picture(self, level: str, records: Records, draw: torch.Generator, pictures: list[Pictures]) -> Tensor | None:
        """Return [n, 2 + K, Di] tokens of what is shown of the images, None for none; noted among the pictures."""
        if self.image is None or records.image is None:
            return None
        keep = draw_keep(len(records), self.params.image_sizes().n_patches, self.params.mask_ratio, draw)
        tokens: Tensor = self.image(records.image, records.side_um, level, keep)
        pictures.append(Pictures(level, records.image, tokens, keep, None))
        return tokens

    def _around(
        self, cells: Tensor, layout: Layout | None, image: Tensor | None, share: float, draw: torch.Generator
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return z^n and z^t of the cells, and z^n of whole niches; niches go without their image like cells."""
        if self.around is None or layout is None:
            return [], None
        chance = torch.rand(len(layout.has_image), generator=draw, device=cells.device)
        layout = replace(layout, has_image=layout.has_image & (image is not None) & (chance >= share))
        own, whole = self.around.niches(cells, layout, image, draw)
        if self.around.tissue is None:
            return [own], whole
        return [own, self.around.regions(own, whole, layout, draw)], whole

    def _levels(self, n: int, draw: torch.Generator, device: torch.device) -> Tensor | None:
        if self.final is None or not self.training:
            return None
        chance = torch.rand(n, len(self.params.levels) - 1, generator=draw, device=device)
        return chance >= self.params.level_dropout


def _shuffled(inputs: Inputs, draw: torch.Generator) -> Inputs:
    """Return a batch in which every record has the genes of another one of its level."""

    def other(records: Records | None) -> Records | None:
        if records is None or records.genes is None:
            return records
        turn = torch.randperm(len(records), generator=draw, device=records.side_um.device)
        return replace(records, genes=turned(records.genes, turn))

    cells = other(inputs.cells)
    return replace(inputs, cells=cells or inputs.cells, niche=other(inputs.niche), tissue=other(inputs.tissue))


def _surroundings(params: Params) -> Surroundings | None:
    if "niche" not in params.levels:
        return None
    width, heads, drop = params.width, params.heads, params.dropout

    def reading(given: int) -> FusionBlock:
        return FusionBlock(width, given, heads, hidden=2 * width, dropout=drop)

    niche = NicheEncoder(width, heads, params.niche_layers, reading(params.image_width), drop)
    tissue = None
    if "tissue" in params.levels:
        tissue = TissueEncoder(width, heads, params.tissue_layers, reading(width), drop)
    return Surroundings(niche, tissue, params.members, params.niches)
