"""Attention to a few tokens is attention."""

from __future__ import annotations

import pytest
import torch

from mistline.models.spatia.attention import Attention


@pytest.mark.parametrize("rows", [1, 3])
def test_attention_to_few_tokens_is_the_same(rows):
    torch.manual_seed(0)
    attention = Attention(16, 4).double()  # the two ways round differently
    for part in attention.parameters():
        torch.nn.init.normal_(part)
    query, memory = torch.randn(rows, 5, 16).double(), torch.randn(3, 2, 16, dtype=torch.float64, requires_grad=True)
    found = []
    for out in (attention(query.expand(3, -1, -1), memory), attention.of_few(query, memory)):
        attention.zero_grad()
        given = torch.autograd.grad(out.square().sum(), [memory, *attention.parameters()])
        found.append((out, *given))
    torch.testing.assert_close(found[0], found[1])
