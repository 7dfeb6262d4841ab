"""The mask of section 7, forward and backward, against dense masked attention."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from mistline.models.gest import attention
from mistline.models.gest.attention import causal_attention, context_attention, spatial_attention

LENGTHS = (1, 37, 2, 70)
H, D = 3, 12


def _given(lengths=LENGTHS, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(2, sum(lengths), H, D, generator=draw).mul(2).requires_grad_() for _ in range(3)]


def _mask(n: int) -> torch.Tensor:
    seen = torch.ones(n, n, dtype=torch.bool).tril()
    return torch.cat([torch.cat([seen, torch.zeros_like(seen)], 1), torch.cat([seen, torch.eye(n) > 0], 1)])


def _oracle(q, k, v, lengths=LENGTHS) -> torch.Tensor:
    parts, first = [], 0
    for n in lengths:
        one = [torch.cat([x[0, first : first + n], x[1, first : first + n]]).transpose(0, 1) for x in (q, k, v)]
        out = scaled_dot_product_attention(*one, attn_mask=_mask(n)).transpose(0, 1)
        parts.append(torch.stack([out[:n], out[n:]]))
        first += n
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("kernels", ["_flash", "_whole"])
def test_it_is_dense_masked_attention_forward_and_backward(kernels, monkeypatch):
    pair = getattr(attention, kernels), getattr(attention, f"{kernels}_backward")
    monkeypatch.setattr(attention, "_kernels", lambda device: pair)
    ours, theirs = _given(), _given()
    weight = torch.randn(2, sum(LENGTHS), H, D, generator=torch.Generator().manual_seed(5))
    found, expected = spatial_attention(*ours, LENGTHS), _oracle(*theirs)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-5, rtol=1e-5)


def test_a_later_cell_changes_no_bit_of_earlier_rows():
    q, k, v = (x.detach() for x in _given((50,)))
    before = spatial_attention(q, k, v, (50,))
    for x in (q, k, v):
        x[0, 20] += 3
    after = spatial_attention(q, k, v, (50,))
    assert torch.equal(before[:, :20], after[:, :20])
    assert (before[:, 20:] != after[:, 20:]).any(dim=(2, 3)).all()


def test_no_row_sees_an_asked_place_but_its_own():
    q, k, v = (x.detach() for x in _given((30,)))
    before = spatial_attention(q, k, v, (30,))
    k[1, 12] += 3
    v[1, 12] += 3
    changed = (before != spatial_attention(q, k, v, (30,))).any(dim=(2, 3))
    assert changed.nonzero().tolist() == [[1, 12]]


def test_windows_do_not_see_each_other():
    q, k, v = (x.detach() for x in _given())
    alone = [spatial_attention(*(x[:, 1:38] for x in (q, k, v)), (37,)), spatial_attention(q, k, v, LENGTHS)[:, 1:38]]
    torch.testing.assert_close(alone[0], alone[1], atol=1e-6, rtol=0)
    assert spatial_attention(q[:, :0], k[:, :0], v[:, :0], (0,)).shape == (2, 0, H, D)


def test_the_cached_ways_are_the_same_attention():
    q, k, v = (x.detach() for x in _given((40,)))
    both = spatial_attention(q, k, v, (40,))
    torch.testing.assert_close(causal_attention(q[0], k[0], v[0], (40,)), both[0], atol=1e-5, rtol=0)
    last = context_attention(q[1, -1:], k[1, -1:], v[1, -1:], k[0], v[0])
    torch.testing.assert_close(last, both[1, -1:], atol=1e-5, rtol=0)
