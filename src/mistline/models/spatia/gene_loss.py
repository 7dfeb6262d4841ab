"""What the gene side is trained for: hidden genes, lost counts, all genes from z alone (specs/spatia.md, section 7).

`B` cells, `L` gene tokens of the longest cell, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from mistline.models.spatia.gene_decoder import Factors, QueryDecoder
from mistline.models.spatia.gene_tokens import GeneTokens, renewed
from mistline.models.spatia.genes import N_PREPENDED, GeneTable

HIDDEN_EXPRESSED, HIDDEN_ZEROS = 0.30, 0.10  # shares of the tokens whose values are hidden
_LOST = 0.33  # a count loses Poisson(this x count), and is then kept with probability 1 - 0.33
_LOG_LIMIT = 15.0  # of the dispersion, both ways
_ZERO_START = -3.0  # logit of the zeros that are no counts: nearly none, until the data say otherwise


@dataclass(frozen=True, slots=True)
class Zinb:
    """Zero-inflated negative binomials.

    Attributes:
        log_mean: [...] of the mean count.
        log_dispersion: [...] of the inverse dispersion: the variance is mean + mean^2 / dispersion.
        zero_logit: [...] of the share of zeros that are no counts.
    """

    log_mean: Tensor
    log_dispersion: Tensor
    zero_logit: Tensor

    def nll(self, count: Tensor) -> Tensor:
        """Return float32 [...], minus the log probability of counts.

        Worked out in 64 bits: a difference of log gammas at a dispersion of e^15 keeps no digit in 32.
        """
        x, log_mean = count.double(), self.log_mean.double()
        log_theta = self.log_dispersion.double()
        theta = log_theta.exp()
        negative_binomial = (
            torch.lgamma(x + theta)
            - torch.lgamma(theta)
            - torch.lgamma(x + 1)
            - theta * functional.softplus(log_mean - log_theta)
            - x * functional.softplus(log_theta - log_mean)
        )
        logit = self.zero_logit.double()
        counted = negative_binomial - functional.softplus(logit)
        log_probability = torch.where(x > 0, counted, torch.logaddexp(counted, -functional.softplus(-logit)))
        return -log_probability.float()

    def mean(self) -> Tensor:
        """Return [...] the expected counts, zeros that are no counts included."""
        return self.log_mean.exp() * torch.sigmoid(-self.zero_logit)


class Heads(nn.Module):
    """Three numbers of each gene: its share of the cell's counts, its dispersion, and its excess of zeros.

    Args:
        width: D.
        dropout: share.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.LayerNorm(width), nn.LeakyReLU(), nn.Dropout(dropout)]
        last = nn.Linear(width, 3)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.0, 0.0, _ZERO_START]))
        self.layers = nn.Sequential(*layers, last)

    def forward(self, tokens: Tensor, pad: Tensor, depth: Tensor, known: Tensor | None = None) -> Zinb:
        """Return [B, L] distributions.

        Args:
            tokens: [B, L, D] of genes.
            pad: bool [B, L], True for genes that take no share.
            depth: [B] counts of all the other genes together; cells without any are taken to have one.
            known: [B, L] added to the logarithms of the shares; None for nothing.
        """
        share, dispersion, zero = self.layers(tokens).float().unbind(-1)
        share = share if known is None else share + known.float()
        log_share = share.masked_fill(pad, torch.finfo(share.dtype).min).log_softmax(-1)
        log_mean = log_share + depth.float().clamp(min=1).log()[:, None]
        log_mean = log_mean.masked_fill(pad, 0)  # finite, so that what is not scored has a gradient of 0
        return Zinb(log_mean, dispersion.clamp(-_LOG_LIMIT, _LOG_LIMIT), zero)


@dataclass(frozen=True, slots=True)
class Corrupted:
    """What the encoder is shown of a batch, and what it is asked.

    Attributes:
        tokens: with values hidden or counts lost; `count` is still the truth.
        hidden: bool [B, L] genes whose values are hidden (term i); none in cells that lost counts.
        lost: bool [B, L] genes of the cells that lost counts (term ii), all of them.
    """

    tokens: GeneTokens
    hidden: Tensor
    lost: Tensor

    def rows(self, rows: Tensor, length: int) -> Corrupted:
        """Return some cells, and of each the first `length` tokens."""
        return Corrupted(self.tokens.rows(rows, length), self.hidden[rows, :length], self.lost[rows, :length])


@dataclass(frozen=True, slots=True)
class Part:
    """Some cells of a batch, as the encoder or the fusion gives them.

    Attributes:
        rows: int64 [b] which.
        out: [b, 2 + l, D], as long as the longest of them.
    """

    rows: Tensor
    out: Tensor


def hide(tokens: GeneTokens, draw: torch.Generator) -> GeneTokens:
    """Hide the values of 30 % of the expressed genes and of 10 % of the zeros.

    Nothing that is shown depends on a hidden count: seen values are shares of what is seen, and the depth leaves out
    what is hidden.
    """
    chance = torch.rand(tokens.pad.shape, generator=draw, device=tokens.pad.device)
    share = torch.where(tokens.count > 0, HIDDEN_EXPRESSED, HIDDEN_ZEROS)
    masked = (chance < share) & ~tokens.pad
    seen = tokens.count.masked_fill(masked, 0)
    hidden = tokens.count - seen
    return renewed(replace(tokens, masked=masked), seen, tokens.depth - hidden.sum(1))


def lose(tokens: GeneTokens, draw: torch.Generator) -> GeneTokens:
    """Take counts away: Poisson(0.33 count) of each, and all of a gene with probability 0.33."""
    chance = torch.rand(tokens.pad.shape, generator=draw, device=tokens.pad.device)
    gone = torch.poisson(tokens.count * _LOST, generator=draw)
    seen = (tokens.count - gone).clamp(min=0).masked_fill(chance < _LOST, 0)
    return renewed(tokens, seen, tokens.depth - (tokens.count - seen).sum(1))


def corrupt(tokens: GeneTokens, draw: torch.Generator) -> Corrupted:
    """Hide values in about half of the cells and take counts from the others, cell by cell by a draw."""
    is_hidden = torch.rand(len(tokens.pad), generator=draw, device=tokens.pad.device) < 0.5
    one, other = hide(tokens, draw), lose(tokens, draw)
    by_gene = is_hidden[:, None]
    seen = replace(
        tokens,
        value=torch.where(by_gene, one.value, other.value),
        masked=one.masked & by_gene,
        depth=torch.where(is_hidden, one.depth, other.depth),
    )
    return Corrupted(seen, seen.masked, ~tokens.pad & ~by_gene)


class GeneTerms(nn.Module):
    """The three terms: (i) hidden genes and (ii) lost counts by the genes' tokens, (iii) all genes by z alone.

    Each is the mean over cells of the mean over a cell's scored genes; cells without any are left out.

    Args:
        width: D.
        heads: of the query decoder.
        dropout: share.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.by_token = Heads(width, dropout)
        self.decoder = QueryDecoder(width, heads, dropout)
        self.by_query = Heads(width, dropout)
        self.factors = Factors(width)

    def token_losses(self, parts: Sequence[Part], given: Corrupted) -> tuple[Tensor, Tensor]:
        """Return terms (i) and (ii), scalars.

        Args:
            parts: cells whose genes the fusion was shown; the others are not scored.
            given: what the encoder was shown.
        """
        found: list[list[tuple[Tensor, Tensor]]] = [[], []]
        for part in parts:
            own = given.rows(part.rows, part.out.shape[1] - N_PREPENDED)
            count = own.tokens.count
            loss = self.by_token(part.out[:, N_PREPENDED:], own.tokens.pad, count.sum(1)).nll(count)
            for means, scored in zip(found, (own.hidden, own.lost), strict=True):
                means.append(by_cell(loss, scored))
        hidden, lost = (_mean(means) if means else given.tokens.count.new_zeros(()) for means in found)
        return hidden, lost

    def query_loss(
        self,
        z: Tensor,
        table: GeneTable,
        tokens: GeneTokens,
        cells: Tensor | None = None,
        *,
        genes: Tensor | None = None,
    ) -> Tensor:
        """Return term (iii), a scalar, over the genes that have tokens.

        Draw these whatever the counts: shares among genes chosen for being expressed are none of the cell's.

        Args:
            z: [B, D] of the cells, or of what encloses them, with tokens of its summed counts.
            table: gene vectors, the queries.
            tokens: whose counts are asked for.
            cells: bool [B] which are scored; None for all.
            genes: int64 [L] places in the vocabulary of what all cells are asked for, PAD apart: their vectors are
                then looked up once. None where cells are asked for different ones.
        """
        query = table(tokens.index) if genes is None else table(genes + 1)[None]
        found = self._asked(query, z, tokens.pad, tokens.count.sum(1))
        scored = ~tokens.pad if cells is None else ~tokens.pad & cells[:, None]
        return mean_of(found.nll(tokens.count), scored)

    def predict(self, z: Tensor, table: GeneTable, genes: Tensor, depth: Tensor) -> Tensor:
        """Return [B, g], the expected counts of some genes by z alone.

        Args:
            z: [B, D].
            table: gene vectors.
            genes: int64 [g] places in the vocabulary.
            depth: [B] counts of these genes together.
        """
        pad = torch.zeros(len(z), len(genes), dtype=torch.bool, device=z.device)
        return self._asked(table(genes + 1)[None], z, pad, depth).mean()

    def _asked(self, query: Tensor, z: Tensor, pad: Tensor, depth: Tensor) -> Zinb:
        """Return [B, L] distributions of genes, by their vectors [B or 1, L, D] and z."""
        found: Zinb = self.by_query(self.decoder(query, z), pad, depth, self.factors(query, z))
        return found


def mean_of(loss: Tensor, scored: Tensor) -> Tensor:
    """Return the mean over cells of the mean over a cell's scored genes; 0 where no gene is scored.

    Args:
        loss: [B, L].
        scored: bool [B, L].
    """
    return _mean([by_cell(loss, scored)])


def by_cell(loss: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    """Return [B], the mean over a cell's scored genes, 0 where none is; and bool [B], where one is."""
    number = scored.sum(1)
    return loss.masked_fill(~scored, 0).sum(1) / number.clamp(min=1), number > 0


def _mean(found: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    means, some = (torch.cat(values) for values in zip(*found, strict=True))
    return means.sum() / some.sum().clamp(min=1)
