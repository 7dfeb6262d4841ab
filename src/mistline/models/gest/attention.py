"""Spatial attention: every cell sees the cells before it, and every asked place those before it and itself.

The mask of specs/gest.md section 7 has the blocks [[causal, 0], [causal, I]]; of 4L^2 pairs it allows L^2 + 2L. It is
computed as one causal flash call for both halves, to which the asked place's own pair is joined by log-sum-exp
(specs/performance.md section 6). Backward is exact: the flash kernel is given the joined output and log-sum-exp, of
which it makes the true probabilities; the own pair is done by hand. No matrix of 2L x 2L is ever built.

Windows of any length lie one after the other, without padding. `M` rows of all windows, `L` of one, `H` heads, `d`
width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention


def spatial_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return [2, M, H, d]: for each window, what its cells and its asked places see.

    Row i of a window's first half attends rows 1..i of it. Row i of its second half attends rows 1..i of the first
    half, and itself.

    Args:
        q: [2, M, H, d]: cells, and asked places.
        k: as q.
        v: as q.
        lengths: rows of each window, adding up to M.
    """
    found: Tensor = _Spatial.apply(q, k, v, tuple(lengths))
    return found


def causal_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return [M, H, d]: row i of a window attends its rows 1..i; q, k and v are [M, H, d]."""
    out = torch.empty_like(q)
    parts = []
    for rows in _windows(lengths):
        own_q, own_k, own_v = (value[rows].transpose(0, 1)[None] for value in (q, k, v))
        parts.append(scaled_dot_product_attention(own_q, own_k, own_v, is_causal=True)[0].transpose(0, 1))
    return torch.cat(parts) if parts else out


def context_attention(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return [m, H, d]: each asked place attends the whole context, and itself.

    Args:
        q: [m, H, d].
        k: [m, H, d] of the asked places.
        v: [m, H, d] of the asked places.
        keys: [n, H, d] of the context.
        values: [n, H, d] of the context.
    """
    scale = q.shape[-1] ** -0.5
    scores = torch.einsum("mhd,nhd->hmn", q, keys) * scale
    own = (q * k).sum(-1).t()[..., None] * scale  # [H, m, 1]
    shares = torch.cat([scores, own], dim=-1).float().softmax(dim=-1).to(v.dtype)
    seen = torch.einsum("hmn,nhd->mhd", shares[..., :-1], values)
    return seen + shares[..., -1].t()[..., None] * v


class _Spatial(torch.autograd.Function):
    """See `spatial_attention`. Kernels take one window each, all else is done over the rows of all windows."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...]) -> Tensor:
        scale = q.shape[-1] ** -0.5
        out = torch.empty_like(v, memory_format=torch.contiguous_format)
        sums = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)  # [2, M, H], as the kernel lays it out
        attend, _ = _kernels(q.device)
        for rows in _windows(lengths):
            own_q, own_k, own_v = (_heads_first(value, rows) for value in (q, k, v))
            found, seen = attend(own_q, _of_cells(own_k), _of_cells(own_v), scale)
            out[:, rows] = found.transpose(1, 2)
            sums[:, rows] = seen.transpose(1, 2)
        own = _own_scores(q[1], k[1], scale)
        joined = torch.logaddexp(sums[1], own)
        out[1].mul_(_shares(sums[1], joined)).addcmul_(v[1], _shares(own, joined).to(v.dtype))
        sums[1] = joined
        ctx.lengths, ctx.scale = lengths, scale
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, sums = ctx.saved_tensors
        scale, (_, attend_backward) = ctx.scale, _kernels(q.device)
        grad = grad.contiguous()  # a sum's gradient is one number in memory, and kernels read rows
        of_q, of_k, of_v = (torch.empty_like(value, memory_format=torch.contiguous_format) for value in (q, k, v))
        for rows in _windows(ctx.lengths):
            own_q, own_k, own_v, own_out, own_grad = (_heads_first(value, rows) for value in (q, k, v, out, grad))
            given = (own_grad, own_q, _of_cells(own_k), _of_cells(own_v), own_out, sums[:, rows].transpose(1, 2))
            dq, dk, dv = attend_backward(*given, scale)
            of_q[:, rows] = dq.transpose(1, 2)
            for kept, found in ((of_k, dk), (of_v, dv)):
                torch.add(found[0].transpose(0, 1), found[1].transpose(0, 1), out=kept[0, rows])
        share = _shares(_own_scores(q[1], k[1], scale), sums[1])
        slope = (share * (grad[1] * (v[1] - out[1])).sum(-1, keepdim=True) * scale).to(q.dtype)
        of_q[1].addcmul_(k[1], slope)
        torch.mul(q[1], slope, out=of_k[1])
        torch.mul(grad[1], share.to(grad.dtype), out=of_v[1])
        return of_q, of_k, of_v, None


def _windows(lengths: Sequence[int]) -> Iterator[slice]:
    """Yield the rows of each window that has any."""
    first = 0
    for length in lengths:
        if length:
            yield slice(first, first + length)
        first += length


def _heads_first(value: Tensor, rows: slice) -> Tensor:
    """Return a view [2, H, L, d] of some rows of [2, M, H, d]."""
    return value[:, rows].transpose(1, 2)


def _of_cells(value: Tensor) -> Tensor:
    """Return the first half of [2, H, L, d], for both halves to attend."""
    return value[:1].expand_as(value)


def _shares(part: Tensor, whole: Tensor) -> Tensor:
    """Return [M, H, 1], what of the attention lies in a part, by log-sum-exps [M, H]."""
    return (part - whole).exp()[..., None]


def _own_scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return float32 [M, H], the score of each asked place with itself; q and k are [M, H, d]."""
    return (q.float() * k.float()).sum(-1) * scale


def _flash(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return causal attention [2, H, L, d] and its log-sum-exp [2, H, L]; of a CPU."""
    out, seen = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scale)
    return out, seen


def _flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, joined: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v [2, H, L, d], of probabilities by the joined log-sum-exp [2, H, L]."""
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    dq, dk, dv = backward(grad, q, k, v, out, joined, 0.0, True, scale=scale)
    return dq, dk, dv


def _whole(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Do as `_flash` on any device, with all scores of a window in memory."""
    scores = _scores(q, k, scale)
    seen = scores.logsumexp(-1)
    return (scores - seen[..., None]).exp().to(v.dtype) @ v, seen


def _whole_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, joined: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Do as `_flash_backward` on any device; scores are computed again."""
    share = (_scores(q, k, scale) - joined[..., None]).exp()
    level = (grad.float() * out.float()).sum(-1, keepdim=True)
    slope = (share * ((grad @ v.transpose(-1, -2)).float() - level) * scale).to(q.dtype)
    return slope @ k, slope.transpose(-1, -2) @ q, share.to(grad.dtype).transpose(-1, -2) @ grad


def _kernels(device: torch.device) -> tuple[Any, Any]:
    """Return what computes attention on a device, forward and backward."""
    return (_flash, _flash_backward) if device.type == "cpu" else (_whole, _whole_backward)


def _scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return float [2, H, L, L], what lies after a row being at minus infinity."""
    later = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).triu(1)
    return ((q @ k.transpose(-1, -2)).float() * scale).masked_fill(later, -torch.inf)
