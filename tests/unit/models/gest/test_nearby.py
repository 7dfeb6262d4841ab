"""Copies of what lies nearby, mixed with what the network says."""

from __future__ import annotations

import pytest
import torch

from mistline.models.gest.nearby import Nearby

K, D = 5, 8


def _given(n: int = 6, m: int = 4) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    h, said = torch.randn(m, D, generator=draw), torch.randn(m, K, generator=draw)
    places, seen = 50 * torch.rand(m, 2, generator=draw), 50 * torch.rand(n, 2, generator=draw)
    return h, said, places, seen, torch.randint(K, (n,), generator=draw)


def test_what_is_said_are_log_probabilities_between_the_network_s_and_the_copies():
    near, (h, said, places, seen, content) = Nearby(D, K), _given()
    found = near(h, said, places, seen, content).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(len(h)), atol=1e-4, rtol=0)
    attention = (-torch.cdist(places, seen) / 30).softmax(1)
    copied = torch.stack([attention[:, content == kind].sum(1) for kind in range(K)], 1)
    torch.testing.assert_close(found, 0.5 * said.softmax(1) + 0.5 * copied, atol=1e-5, rtol=0)


def test_a_short_reach_copies_the_nearest_cell_alone():
    near, (h, said, places, seen, content) = Nearby(D, K), _given()
    with torch.no_grad():
        near.log_reach.fill_(-3)
        near.share.bias.fill_(20)
    found = near(h, said, places, seen, content)
    assert found.argmax(1).tolist() == content[torch.cdist(places, seen).argmin(1)].tolist()


@pytest.mark.parametrize("in_order", [False, True])
def test_both_parts_are_learned(in_order):
    near, given = Nearby(D, K), _given(n=6, m=6)
    found = near.in_order(*given, (4, 2)) if in_order else near(*given)
    found[:, 0].sum().backward()
    assert all(torch.isfinite(value.grad).all() and value.grad.abs().max() > 0 for value in near.parameters())
