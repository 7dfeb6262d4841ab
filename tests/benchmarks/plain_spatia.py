"""SPATIA written the plain way, to measure against: torch's own layers, cells padded to the panel, nothing reused.

The same parts of the same sizes with the same losses. What is left out is what the project adds for speed: cells are
padded to the whole panel, every patch is predicted, and attention and feed-forward layers are those of torch.

`B` cells, `T` niches, `G` genes of the panel, `Q` genes asked for, `M` members of a niche, `D` width, `Di` of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mistline.models.spatia.attention import place_code
from mistline.models.spatia.context import CELL_WAVELENGTHS_UM, GRID_WAVELENGTHS, Layout, members
from mistline.models.spatia.gene_loss import Zinb, mean_of
from mistline.models.spatia.genes import GeneSizes
from mistline.models.spatia.params import Params
from tests.benchmarks.plain_genes import PlainGenes
from tests.benchmarks.plain_mae import PlainMae, Seen


@dataclass(frozen=True, slots=True)
class Dense:
    """A training batch with genes over the whole panel.

    Args:
        image: uint8 [B, 1, S, S].
        counts: float32 [B, G].
        niche_image: uint8 [T, 1, S, S]; None for a model of cells only.
        around: float32 [T, G] and [R, G], summed counts of niches and regions.
        layout: how they lie; None for a model of cells only.
    """

    image: Tensor
    counts: Tensor
    niche_image: Tensor | None = None
    around: tuple[Tensor, ...] = ()
    layout: Layout | None = None


class Reads(nn.Module):
    """Cross-attention, then a feed-forward layer, both with a norm before.

    Args:
        width: of the queries.
        given: width of what is read.
        heads: of the attention.
        dropout: of both branches.
    """

    def __init__(self, width: int, given: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(given, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, pad: Tensor | None = None) -> Tensor:
        """Return [B, L, width]."""
        read = self.norms[1](self.project(memory))
        asked = self.norms[0](query)
        query = query + self.drop(self.attention(asked, read, read, key_padding_mask=pad, need_weights=False)[0])
        out: Tensor = query + self.drop(self.feed(self.norms[2](query)))
        return out


class PlainSpatia(nn.Module):
    """A training batch to its loss.

    Args:
        params: settings.
        n_genes: G.
    """

    def __init__(self, params: Params, n_genes: int) -> None:
        super().__init__()
        D, Di, heads, drop = params.width, params.image_width, params.heads, params.dropout
        self.params = params
        self.genes = PlainGenes(GeneSizes(n_genes, D, params.gene_layers, heads, params.gene_mlp, drop))
        self.mae = PlainMae(params.image_sizes())
        self.absent = nn.ParameterList([torch.zeros(Di), torch.zeros(D)])
        self.to_genes = nn.ModuleList(Reads(D, Di, heads, drop) for _ in range(params.fusion_layers))
        self.to_image = nn.ModuleList(Reads(Di, D, params.image_heads, drop) for _ in range(params.fusion_layers))
        self.pool_query = nn.ParameterList([torch.randn(1, 1, Di) * 0.02, torch.randn(1, 1, D) * 0.02])
        self.pools = nn.ModuleList(
            nn.MultiheadAttention(width, n, batch_first=True) for width, n in ((Di, params.image_heads), (D, heads))
        )
        self.join = nn.ModuleList([nn.Linear(Di, D), nn.Linear(D, D)])
        self.norm = nn.LayerNorm(D)
        self.is_placed = "niche" in params.levels
        if self.is_placed:
            self.niche, self.tissue = _encoder(params, params.niche_layers), _encoder(params, params.tissue_layers)
            self.read_niche, self.read_tissue = Reads(D, Di, heads, drop), Reads(D, D, heads, drop)
            self.final = Reads(D, D, heads, drop)
        self.level = nn.Parameter(torch.randn(3, D) * 0.02)
        self.told = nn.ModuleList(nn.Linear(D, Di) for _ in range(2 if self.is_placed else 1))
        self.memory = nn.Linear(D, 4 * D)
        self.query = nn.ModuleList(Reads(D, D, heads, drop) for _ in range(2))
        self.heads = nn.ModuleList(_head(D, drop) for _ in range(2))

    def forward(self, given: Dense) -> Tensor:
        """Return the loss."""
        n, ratio = len(given.image), self.params.mask_ratio
        seen = self.mae.encode(given.image, ratio)
        shown, hidden, lost = _corrupted(given.counts)
        index = torch.arange(1, given.counts.shape[1] + 1) * (given.counts > 0)  # 0 for PAD
        value = shown / shown.sum(1, keepdim=True).clamp(min=1)
        chance = torch.rand(n)[:, None, None]
        image = torch.where(chance < 0.15, self.absent[0], seen.tokens)
        genes = torch.where(chance > 0.85, self.absent[1], self.genes(index, value, shown.sum(1)))
        pad = torch.cat([torch.zeros(n, 2, dtype=torch.bool), given.counts == 0], dim=1)
        for to_genes, to_image in zip(self.to_genes, self.to_image, strict=True):
            genes, image = to_genes(genes, image), to_image(image, genes, pad)
        pooled = [
            pool(query.expand(n, -1, -1), side, side, need_weights=False)[0][:, 0]
            for pool, query, side in zip(self.pools, self.pool_query, (image, genes[:, :2]), strict=True)
        ]
        z = cell = self.norm(sum(join(side) for join, side in zip(self.join, pooled, strict=True)))
        loss = self._tokens_loss(genes[:, 2:], given.counts, hidden | lost)
        if given.layout is not None and given.niche_image is not None:
            niche_seen = self.mae.encode(given.niche_image, ratio)
            own, whole, wide = self._around(cell, given.layout, niche_seen.tokens)
            z = self.final(cell[:, None], torch.stack([cell, own, wide], dim=1))[:, 0]
            loss = loss + self._told(1, niche_seen, niche_seen.tokens, whole)
            targets = (given.around[0][given.layout.niche], given.around[1][given.layout.region[given.layout.niche]])
            which = torch.rand(n, 1) < 0.5
            memory = torch.where(torch.rand(n, 1) < 0.5, z, torch.where(which, own, wide)) + self.level[1]
            loss = loss + self._asked(memory, torch.where(which, *targets))
        return loss + self._told(0, seen, image, z) + self._asked(z + self.level[0], given.counts)

    def _told(self, level: int, seen: Seen, tokens: Tensor, z: Tensor) -> Tensor:
        first = tokens[:, :1] + self.told[level](z)[:, None]
        return self.mae.loss(seen, torch.cat([first, tokens[:, 1:]], dim=1))

    def _around(self, cell: Tensor, layout: Layout, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return z^n and z^t [B, D] of the cells, each without itself, and z^n [T, D] of whole niches."""
        n, D, limit = len(cell), self.params.width, self.params.members
        placed = cell + place_code(layout.offset_um, D, CELL_WAVELENGTHS_UM)
        found = []
        for asked, own in ((layout.niche, torch.arange(n)), (torch.arange(len(layout.region)), None)):
            index, mask = members(layout.niche, asked, own, limit)
            mixed = self.niche(placed[index], src_key_padding_mask=~mask)
            mean = (mixed * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
            found.append(self.read_niche(mean[:, None], image[asked])[:, 0])
        niche = layout.niche
        index, mask = members(layout.region, layout.region[niche], niche, self.params.niches)
        tokens = torch.cat([found[0][:, None], found[1][index]], dim=1)
        place = torch.cat([layout.place[niche][:, None], layout.place[index]], dim=1)
        pad = torch.cat([torch.zeros_like(mask[:, :1]), ~mask], dim=1)
        tokens = self.tissue(tokens + place_code(place, D, GRID_WAVELENGTHS), src_key_padding_mask=pad)
        return found[0], found[1], self.read_tissue(found[0][:, None], tokens, pad)[:, 0]

    def _tokens_loss(self, tokens: Tensor, counts: Tensor, scored: Tensor) -> Tensor:
        return _nll(self.heads[0](tokens), counts, scored, counts == 0)

    def _asked(self, z: Tensor, counts: Tensor) -> Tensor:
        """Return the loss of genes drawn from the panel, by an embedding alone."""
        genes = torch.randperm(counts.shape[1])[: self.params.query_genes]
        tokens = self.genes.table(genes + 1).expand(len(z), -1, -1)
        memory = self.memory(z).unflatten(1, (4, -1))
        for layer in self.query:
            tokens = layer(tokens, memory)
        everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool)
        return _nll(self.heads[1](tokens), counts[:, genes], everywhere, ~everywhere)


def _encoder(params: Params, layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        params.width, params.heads, 4 * params.width, params.dropout, "gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(params.width), enable_nested_tensor=False)


def _head(width: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(width, width), nn.LayerNorm(width), nn.LeakyReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def _corrupted(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return counts as shown, and bool [B, G] which were hidden, and which lie in cells that lost counts."""
    is_hidden = torch.rand(len(counts), 1) < 0.5
    chance, expressed = torch.rand_like(counts), counts > 0
    less = (counts - torch.poisson(0.33 * counts)).clamp(min=0)
    hidden = is_hidden & expressed & (chance < 0.3)
    shown = torch.where(is_hidden, counts.masked_fill(hidden, 0), less.masked_fill(chance < 0.33, 0))
    return shown, hidden, expressed & ~is_hidden


def _nll(given: Tensor, counts: Tensor, scored: Tensor, pad: Tensor) -> Tensor:
    share, dispersion, zero = given.unbind(-1)
    log_share = share.masked_fill(pad, torch.finfo(share.dtype).min).log_softmax(-1)
    log_mean = (log_share + counts.sum(1).clamp(min=1).log()[:, None]).masked_fill(pad, 0)
    return mean_of(Zinb(log_mean, dispersion.clamp(-15, 15), zero).nll(counts), scored)
