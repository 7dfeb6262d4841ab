"""Merging of tokens by the importance that guidance tells (specs/spatia.md section 10, eqs 11-13): pure functions.

A few tokens of an image are anchors, namely those that guidance changes most. Every other token joins the anchors that
it is like, a layer works on the anchors alone, and what it returns is spread over the tokens that had joined.

Legend: `B` images, `N` = h x w tokens, `M` anchors, `R` = N - M other tokens, `K` anchors that a token may join,
`C` channels, `E` pairs of tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_LEAST_WEIGHT = 1e-3  # of a token that joins its best anchor although they are hardly alike


@dataclass(frozen=True, slots=True)
class Rows:
    """A sparse matrix for each image of a batch: rows are weighted sums of few tokens.

    Args:
        start: [B * n_out] where the pairs of each row begin.
        token: [E] the token of each pair, counted through the batch.
        weight: [E] of the pair in its row's sum.
        n_out: rows of an image.
    """

    start: Tensor
    token: Tensor
    weight: Tensor
    n_out: int

    def of(self, tokens: Tensor) -> Tensor:
        """Return the weighted sums, [B, n_out, C], of tokens [B, n_in, C]."""
        # One kernel reads only the tokens that a row needs: no [n_out, n_in] product, nothing the size of E x C.
        weight = self.weight.to(tokens.dtype)
        flat = tokens.flatten(0, 1).contiguous()  # [B * n_in, C]
        summed = functional.embedding_bag(self.token, flat, self.start, mode="sum", per_sample_weights=weight)
        return summed.unflatten(0, (len(tokens), self.n_out))


@dataclass(frozen=True, slots=True)
class TokenMap:
    """Which tokens of a layer work together.

    Args:
        merge: from N tokens to M; rows sum to 1.
        unmerge: from M tokens back to N; rows sum to 1.
    """

    merge: Rows
    unmerge: Rows


@dataclass(frozen=True, slots=True)
class Pairs:
    """The anchors that each token joins.

    Args:
        anchor: [B, M] anchors among the N tokens, rising.
        other: [B, R] all other tokens, rising.
        joined: [B, R, K] positions in `anchor` that a token may join, the most similar first.
        weight: [B, R, K] of joining (eq. 13); 0 where it does not, positive in the first place.
    """

    anchor: Tensor
    other: Tensor
    joined: Tensor
    weight: Tensor


def importance(conditional: Tensor, unconditional: Tensor, sides: tuple[int, int]) -> Tensor:
    """Return eq. 11 at a layer's resolution, [B, h * w]: how much guidance changes the prediction there.

    Args:
        conditional: [B, c, H, W] the prediction with the condition.
        unconditional: [B, c, H, W] without.
        sides: h, w of the layer.
    """
    changed = (conditional - unconditional).abs().float().mean(1, keepdim=True)  # [B, 1, H, W]
    return functional.adaptive_avg_pool2d(changed, sides).flatten(1)


def n_anchors(n_tokens: int, ratio: float) -> int:
    """Return M, what is left when the share `ratio` of the tokens is merged away."""
    return math.ceil(round((1 - ratio) * n_tokens, 6))  # 1 - 0.9 is a little more than 0.1


def choose(importance: Tensor, n_kept: int, sides: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Return the M most important tokens, [B, M], and the others, [B, R], both rising.

    Args:
        importance: [B, N]; of equals the first is taken.
        n_kept: M.
        sides: h, w, where every square of 2 x 2 tokens shall have an anchor; with fewer anchors than squares, the most
            important squares have one each. None takes the most important tokens wherever they lie.
    """
    rank = importance.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # [B, N], 0 for the most important
    if sides is not None:
        rank = torch.where(_first_of_square(rank, sides), rank, rank + rank.shape[1])
    order = rank.argsort(dim=1)
    return order[:, :n_kept].sort(dim=1).values, order[:, n_kept:].sort(dim=1).values


def _first_of_square(rank: Tensor, sides: tuple[int, int]) -> Tensor:
    """Tell the tokens, [B, N], that rank first in their square of 2 x 2."""
    h, w = sides
    place = torch.arange(h * w, device=rank.device)
    square = (place // w // 2) * math.ceil(w / 2) + place % w // 2  # [N]
    n_squares = math.ceil(h / 2) * math.ceil(w / 2)
    best = rank.new_full((len(rank), n_squares), h * w)
    best = best.scatter_reduce(1, square.expand_as(rank), rank, "amin")
    return best[:, square] == rank


def similarity(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Return eq. 12, [B, R, M]: cosines of anchors' queries and other tokens' keys, averaged over heads.

    Args:
        query: [B, M, C] of the anchors.
        key: [B, R, C] of the other tokens.
        heads: C is divided among them.
    """
    return _unit(key, heads) @ _unit(query, heads).transpose(1, 2) / heads


def _unit(values: Tensor, heads: int) -> Tensor:
    """Return values with each head's part of unit length, so that one product adds up the heads' cosines."""
    parts = values.float().unflatten(2, (heads, -1))  # [B, n, heads, C / heads]
    return functional.normalize(parts, dim=-1).flatten(2)


def join(chosen: tuple[Tensor, Tensor], alike: Tensor, kappa: float, overlap: int) -> Pairs:
    """Let every token join the anchors that it is like (eq. 13), at least its best one.

    Args:
        chosen: anchors [B, M] and the other tokens [B, R].
        alike: [B, R, M] their similarity.
        kappa: cosine from which a token joins; opposites never do, however low it is.
        overlap: K, the most anchors that a token joins.
    """
    cosine, joined = alike.topk(min(overlap, alike.shape[2]), dim=2)
    joins = cosine >= max(kappa, _LEAST_WEIGHT)  # weights below 0 would make no mean
    joins[:, :, 0] = True  # a token that is like no anchor: without a place the layer would lose it
    weight = torch.where(joins, cosine.clamp_min(_LEAST_WEIGHT), 0.0)
    return Pairs(*chosen, joined, weight)


def token_map(pairs: Pairs, repeats: int = 1) -> TokenMap:
    """Return the merging and un-merging of a layer.

    An anchor becomes m_i = (x_i + sum_j s_ij x_j) / (1 + sum_j s_ij); a token gets sum_i s_ij y_i / sum_i s_ij back, an
    anchor its own y_i.

    Args:
        pairs: of B images.
        repeats: how often these B images follow each other in a batch: under guidance twice, as the difference of both
            predictions would else measure the merging.
    """
    n_images, n_kept = pairs.anchor.shape
    n_tokens = n_kept + pairs.other.shape[1]
    image, other, place = pairs.weight.nonzero(as_tuple=True)  # [E]
    weight = pairs.weight[image, other, place]
    anchor = pairs.joined[image, other, place] + image * n_kept  # counted through the batch, as all below
    token = pairs.other[image, other] + image * n_tokens
    is_first = torch.arange(n_images, device=token.device)[:, None]
    own_token = (pairs.anchor + is_first * n_tokens).flatten()  # [B * M]
    own_anchor = torch.arange(n_images * n_kept, device=token.device)
    one = weight.new_ones(n_images * n_kept)
    row, column, value = (torch.cat(both) for both in ((own_anchor, anchor), (own_token, token), (one, weight)))
    merge = _rows(row, column, value, (n_images, n_kept, n_tokens), repeats)
    unmerge = _rows(column, row, value, (n_images, n_tokens, n_kept), repeats)
    return TokenMap(merge, unmerge)


def _rows(row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int, int], repeats: int) -> Rows:
    """Return the matrices [n_out, n_in] of `shape`'s images from their entries [E], each row divided by its sum."""
    n_images, n_out, n_in = shape
    order = row.argsort(stable=True)
    row, column, value = row[order], column[order], value[order]
    total = value.new_zeros(n_images * n_out).index_add_(0, row, value)
    value = value / total[row]
    count = torch.bincount(row, minlength=n_images * n_out)
    start = count.cumsum(0) - count
    copies = range(repeats)
    return Rows(
        torch.cat([start + copy * len(row) for copy in copies]),
        torch.cat([column + copy * n_images * n_in for copy in copies]),
        value.repeat(repeats),
        n_out,
    )
