"""What the network sees, and that packing, caching and training agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mistline.models.gest.codes import MetacellCode
from mistline.models.gest.network import Network, Sizes
from mistline.models.gest.params import Params
from mistline.models.gest.serialise import Serialisation
from tests.unit.models.gest.synthetic import K, network, windows


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_paper_s_setting_has_about_a_million_weights():
    params = Params(size="paper")
    sizes = Sizes(params.width, params.layers, params.heads, params.dropout, params.step_um, True, True, False)
    with torch.device("meta"):
        profiles, expression = torch.empty(512, params.profile_components), torch.empty(512, 1122)
        levels = torch.zeros(512, 3, dtype=torch.int64)
        code = MetacellCode(params.width, "codebook", profiles, expression, levels, (15, 10, 5))
        net = Network(sizes, code, Serialisation(), 600.0)
    assert 0.9e6 < sum(value.numel() for value in net.parameters()) < 1.3e6


@pytest.mark.parametrize(("head", "copies"), [("codebook", False), ("direct", False), ("codebook", True)])
@torch.no_grad()
def test_a_cell_s_expression_changes_no_bit_of_its_own_row_and_those_before(head, copies):
    net, inputs = network(head=head, copies=copies), windows(40)
    before = net.said(inputs)
    other = inputs.content.clone()
    other[20] = (other[20] + 1) % K
    after = net.said(replace(inputs, content=other))
    assert torch.equal(before[:20], after[:20])  # row 19 asks for cell 20
    assert (before[20:] != after[20:]).any(dim=1).all()


@torch.no_grad()
def test_the_place_of_a_cell_changes_its_own_row():
    net, inputs = network(), windows(12)
    before = net.said(inputs)
    moved = inputs.delta_um.clone()
    moved[5] += 30
    changed = (before != net.said(replace(inputs, delta_um=moved))).any(dim=1)
    assert changed.tolist() == [False] * 4 + [True] * 7


@pytest.mark.parametrize("copies", [False, True])
@torch.no_grad()
def test_windows_packed_or_alone_are_the_same(copies):
    net, both = network(copies=copies), windows(25, 9)
    one = windows(25)
    alone = replace(one, delta_um=both.delta_um[:25], content=both.content[:25])
    torch.testing.assert_close(net.said(both)[:24], net.said(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("copies", [False, True])
@torch.no_grad()
def test_a_cached_context_asks_as_training_does(copies):
    net, inputs = network(copies=copies), windows(30)
    cache = net.context(inputs.delta_um[:20], inputs.content[:20])
    found = net.target(cache, inputs.delta_um[20:])
    torch.testing.assert_close(found[:1], net.said(inputs)[19:20], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[3:4], net.target(cache, inputs.delta_um[23:24]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_niche_is_the_place_asked_after_all_its_cells():
    net, both = network(), windows(10, 7)
    found = net.niche(both.delta_um, both.content, both.lengths)
    cache = net.context(both.delta_um[10:], both.content[10:])
    expected = net.target(cache, both.delta_um[10:11])
    torch.testing.assert_close(net.code(found[1:]), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_losses_are_means_over_a_window_and_then_over_windows():
    net = network(Serialisation("sorted"))
    both = windows(25, 5)
    found = net(both, _draw())
    assert found["loss"].item() == pytest.approx(sum(found[f"level_{i}"].item() for i in range(3)) / 3)
    order = net.serialisation(both.delta_um, both.window, net.side_um, both.jitter_um, _draw())
    ordered = replace(both, delta_um=both.delta_um[order], content=both.content[order])
    wanted = ordered.content[ordered.asked]
    each = torch.nn.functional.cross_entropy(net.said(ordered), wanted, reduction="none")
    assert found["level_0"].item() == pytest.approx(((each[:24].mean() + each[24:].mean()) / 2).item(), rel=1e-5)
    assert found["cells"] == 15


def test_the_draw_decides_and_every_weight_learns():
    net, inputs = network().train(), windows(20, 30)
    one, two, other = (net(inputs, _draw(seed))["loss"] for seed in (1, 1, 2))
    assert one == two != other
    one.backward()
    assert [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_no_window_is_no_loss():
    found = network().train()(windows(), _draw())["loss"]
    found.backward()
    assert found == 0
