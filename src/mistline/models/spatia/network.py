"""The parts put together, and what they are trained for.

`B` cells, `T` niches, `R` regions, `G` genes of the vocabulary, `D` width of the embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mistline.models.spatia.class_heads import Classes, ClassHeads
from mistline.models.spatia.context import FinalFusion, Layout, NicheEncoder, Surroundings, TissueEncoder
from mistline.models.spatia.fusion import CellFusion, FusionBlock, FusionSizes, drop_modalities
from mistline.models.spatia.gene_loss import Part, corrupt
from mistline.models.spatia.gene_tokens import GeneTokens, Panels, collate
from mistline.models.spatia.genes import GeneEncoder, GeneSizes, chunked, in_order, prepended
from mistline.models.spatia.image import ImageEncoder
from mistline.models.spatia.inputs import Inputs, Records
from mistline.models.spatia.losses import Asked, Embedded, Losses, Pictures, turned
from mistline.models.spatia.params import Params
from mistline.models.spatia.patches import draw_keep

_CHUNKS = 8  # parts of a batch by length of the cells' gene tokens


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


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells by themselves.

    Args:
        z: [B, D] z^c.
        z_image: [B, D] the image side's share of it.
        z_genes: [B, D] the gene side's.
        image: [B, 2 + K, Di] tokens after fusion.
        genes: the gene side's tokens after fusion, of the cells whose genes were shown.
    """

    z: Tensor
    z_image: Tensor
    z_genes: Tensor
    image: Tensor
    genes: list[Part]


class Network(nn.Module):
    """Encoders, fusion, niche, tissue, and the decoders they are trained with.

    `known`, bool [G], is kept with the weights: the genes whose vectors say something; embedding leaves out the others.

    Args:
        params: settings.
        given: what it is made for.
    """

    known: Tensor
    measured: Tensor
    panel_genes: Tensor
    panel_size: Tensor

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
        self.register_buffer("known", torch.ones(given.genes, dtype=torch.bool))

    def set_panels(self, measured: Tensor) -> None:
        """Tell which genes each panel measured; only training asks.

        Args:
            measured: bool [P, G].
        """
        panels = Panels.of(measured)
        for name, value in (("measured", measured), ("panel_genes", panels.genes), ("panel_size", panels.size)):
            self.register_buffer(name, value, persistent=False)

    def encode(self, cells: Records, use_image: bool, use_genes: bool) -> Cells:
        """Return cells by themselves, all that is there of them; nothing is hidden or drawn.

        Args:
            cells: B of them.
            use_image: read the images.
            use_genes: read the genes.
        """
        n, device = len(cells), cells.side_um.device
        image = tokens = None
        if use_image and self.image is not None:
            image = self.image(cells.image, cells.side_um, "cell")
        if use_genes and cells.genes is not None:
            tokens = collate(cells.genes, self.params.max_len, draw=None)
        if image is None and tokens is None:
            none = torch.zeros(n, dtype=torch.bool, device=device)
            return self._cells(None, None, none, none)
        return self._cells(image, tokens)

    def _cells(
        self,
        image: Tensor | None,
        tokens: GeneTokens | None,
        has_image: Tensor | None = None,
        has_genes: Tensor | None = None,
    ) -> Cells:
        """Return cells by themselves.

        They are fused in chunks of about one length, so that neither encoder nor fusion is given much of PAD; genes
        that are not shown are not encoded.

        Args:
            image: [B, 2 + K, Di]; None for none.
            tokens: of the genes; None for none.
            has_image: bool [B]; None for all that there is.
            has_genes: likewise.
        """
        if tokens is None or self.genes is None:
            fused = self.fusion(image, None, None, has_image, has_genes)
            return Cells(fused.z, fused.z_image, fused.z_genes, fused.image, [])
        chunks, found, parts = chunked(tokens, _CHUNKS, has_genes), [], []
        for chunk in chunks:
            genes = pad = None
            if chunk.length >= 0:
                own = tokens.rows(chunk.rows, chunk.length)
                genes, pad = self.genes(own, is_full=chunk.is_full), None if chunk.is_full else prepended(own.pad)
            here = [None if given is None else given[chunk.rows] for given in (image, has_image)]
            fused = self.fusion(here[0], genes, pad, here[1], None)
            found.append((fused.z, fused.z_image, fused.z_genes, fused.image))
            if genes is not None:
                parts.append(Part(chunk.rows, fused.genes))
        return Cells(*(in_order(list(of), chunks) for of in zip(*found, strict=True)), parts)

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
        corrupted = tokens = None
        if self.genes is not None and inputs.cells.genes is not None:
            panels = Panels(self.panel_genes, self.panel_size)
            own = collate(inputs.cells.genes, self.params.max_len, panels=panels, zeros=self.params.zeros, draw=draw)
            corrupted = corrupt(own, draw)
            tokens = corrupted.tokens
        is_dropping = self.training and image is not None and tokens is not None
        share = self.params.modality_dropout if is_dropping else 0.0
        has_image, has_genes = drop_modalities(n, share, draw, device)
        has_image, has_genes = has_image & (image is not None), has_genes & (tokens is not None)
        cells = self._cells(image, tokens, has_image, has_genes)
        around, whole = self._around(cells.z, inputs.layout, niche_image, share, draw)
        z = self.join(cells.z, around, self._levels(n, draw, device))
        after = {"cell": {"tokens": cells.image, "z": z}, "niche": {"z": whole}, "tissue": {}}
        found = self.losses.of_images([replace(item, **after[item.level]) for item in pictures])
        if corrupted is not None and self.genes is not None and inputs.cells.genes is not None:
            asked = Asked.drawn(inputs.cells.genes, self.measured, self.params.query_genes, draw)
            out = Embedded(z, around, cells.genes)
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
