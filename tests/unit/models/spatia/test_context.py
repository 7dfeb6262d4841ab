"""Members of a group, exact exclusion of a cell from its own context, and levels that are left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mistline.models.spatia.context import FinalFusion, Layout, NicheEncoder, Surroundings, TissueEncoder, members
from mistline.models.spatia.fusion import FusionBlock

D, DI = 16, 24


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _surroundings(most_cells: int = 64, most_niches: int = 255) -> Surroundings:
    niche = NicheEncoder(D, 2, 2, FusionBlock(D, DI, 2, hidden=32, dropout=0.0), 0.0)
    tissue = TissueEncoder(D, 2, 2, FusionBlock(D, D, 2, hidden=32, dropout=0.0), 0.0)
    return Surroundings(niche, tissue, most_cells, most_niches)


def _layout(n: int = 40) -> Layout:
    """Seven niches in two regions; the last niche holds a single cell, niche 5 none."""
    niche = torch.arange(n) % 5
    niche[-1] = 6
    place = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [0, 0], [0, 1], [1, 1]]).float()
    return Layout(niche, torch.randn(n, 2) * 20, torch.tensor([0, 0, 0, 0, 1, 1, 1]), place, torch.arange(7) != 2)


def _both(model: Surroundings, z, layout, image):
    if image is None:
        layout = replace(layout, has_image=torch.zeros(7, dtype=torch.bool))
    own, whole = model.niches(z, layout, image)
    return own, whole, model.regions(own, whole, layout)


def test_members_are_all_others_of_the_group():
    group = torch.tensor([2, 0, 2, 1, 0, 2])
    index, mask = members(group, group, torch.arange(6), 10)
    found = [set(row[keep].tolist()) for row, keep in zip(index, mask, strict=True)]
    assert found == [{2, 5}, {4}, {0, 5}, set(), {1}, {0, 2}]
    index, mask = members(group, torch.tensor([0, 1, 2, 3]), None, 10)
    found = [set(row[keep].tolist()) for row, keep in zip(index, mask, strict=True)]
    assert found == [{1, 4}, {3}, {0, 2, 5}, set()]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_members_of_a_large_group_are_distinct_others(seed):
    draw = None if seed is None else torch.Generator().manual_seed(seed)
    group = torch.randint(0, 3, (200,))
    index, mask = members(group, group, torch.arange(200), 17, draw)
    assert index.shape == (200, 17)
    assert mask.all()
    for i, row in enumerate(index.tolist()):
        assert len(set(row)) == 17
        assert i not in row
        assert (group[row] == group[i]).all()


def test_members_are_drawn_evenly():
    draw, group = torch.Generator().manual_seed(0), torch.zeros(10, dtype=torch.long)
    seen = torch.zeros(10)
    for _ in range(3000):
        index, _ = members(group, torch.zeros(1, dtype=torch.long), torch.tensor([3]), 4, draw)
        seen[index[0]] += 1
    assert seen[3] == 0
    others = seen[seen > 0] / 3000
    torch.testing.assert_close(others, torch.full((9,), 4 / 9), atol=0.04, rtol=0)


@pytest.mark.parametrize("most", [64, 3])
def test_a_cell_does_not_see_itself(most):
    model, layout = _surroundings(most, most), _layout()
    z, image = torch.randn(40, D), torch.randn(7, 9, DI)
    own, _, tissue = _both(model, z, layout, image)
    for i in (0, 7, 39):
        changed = z.clone()
        changed[i] = 1e3 * torch.randn(D)
        own_after, whole_after, tissue_after = _both(model, changed, layout, image)
        assert torch.equal(own[i], own_after[i])
        assert torch.equal(tissue[i], tissue_after[i])
        if most == 64:
            neighbours = (layout.niche == layout.niche[i]).nonzero()[:, 0]
            for j in neighbours[neighbours != i].tolist():
                assert not torch.equal(own[j], own_after[j])
                assert not torch.equal(tissue[j], tissue_after[j])
    assert torch.isfinite(whole_after).all()


def test_no_gradient_flows_from_a_cells_context_to_itself():
    model, layout = _surroundings(), _layout()
    z = torch.randn(40, D, requires_grad=True)
    own, _, tissue = _both(model, z, layout, None)
    (grad,) = torch.autograd.grad((own[7] + tissue[7]).sum(), z)
    assert (grad[7] == 0).all()
    assert (grad[12] != 0).any()


def test_order_of_cells_does_not_matter():
    model, layout = _surroundings(), _layout()
    z, image = torch.randn(40, D), torch.randn(7, 9, DI)
    own, whole, tissue = _both(model, z, layout, image)
    turn = torch.randperm(40)
    turned = replace(layout, niche=layout.niche[turn], offset_um=layout.offset_um[turn])
    own_after, whole_after, tissue_after = _both(model, z[turn], turned, image)
    torch.testing.assert_close(own[turn], own_after)
    torch.testing.assert_close(whole, whole_after)
    torch.testing.assert_close(tissue[turn], tissue_after)


def test_a_niche_without_another_cell_is_the_learned_one():
    model, layout = _surroundings(), _layout()
    z = torch.randn(40, D)
    index, mask = members(layout.niche, layout.niche, torch.arange(40), 64)
    mean = model.niche.mean(z, layout.offset_um, index, mask)
    assert torch.equal(mean[39], model.niche.empty)
    whole = model.niches(z, layout, None)[1]
    index, mask = members(layout.niche, torch.tensor([5]), None, 64)
    no = torch.zeros(1, dtype=torch.bool)
    torch.testing.assert_close(whole[5], model.niche(model.niche.mean(z, layout.offset_um, index, mask), None, no)[0])


def test_the_image_of_a_niche_is_read_where_there_is_one():
    model, layout = _surroundings(), _layout()
    z, image = torch.randn(40, D), torch.randn(7, 9, DI)
    _, whole = model.niches(z, layout, image)
    _, other = model.niches(z, layout, image + torch.randn(9, DI))
    same = [torch.equal(a, b) for a, b in zip(whole, other, strict=True)]
    assert same == [False, False, True, False, False, False, False]


def test_place_counts_in_niche_and_region():
    model, layout = _surroundings(), _layout()
    z = torch.randn(40, D)
    own, whole, tissue = _both(model, z, layout, None)
    moved = replace(layout, offset_um=layout.offset_um + 5)
    assert not torch.allclose(own, model.niches(z, moved, None)[0])
    moved = replace(layout, place=layout.place.flip(0))
    assert not torch.allclose(tissue, model.regions(own, whole, moved))


def test_a_dropped_level_is_not_read():
    final = FinalFusion(D, 2, 2, 0.0)
    cell, niche, tissue = (torch.randn(4, D) for _ in range(3))
    keep = torch.tensor([[True, True], [False, True], [True, False], [False, False]])
    z = final(cell, [niche, tissue], keep)
    assert torch.isfinite(z).all()
    nothing = torch.full_like(niche, float("nan"))
    spoiled = [torch.where(keep[:, i, None], level, nothing) for i, level in enumerate((niche, tissue))]
    assert torch.equal(z, final(cell, spoiled, keep))
    torch.testing.assert_close(z[0], final(cell, [niche, tissue])[0])
    assert not torch.allclose(z[1], final(cell, [niche, tissue])[1])


def test_z_holds_what_lies_around_from_the_start():
    final = FinalFusion(64, 4, 2, 0.0)
    cell, niche, tissue, other = (torch.randn(200, 64) for _ in range(4))
    with torch.no_grad():
        moved = final(cell, [niche, tissue]) - final(cell, [other, tissue])
    assert 0.3 < float(moved.pow(2).mean().sqrt()) < 1.0  # of a z whose numbers have variance 1


def test_every_weight_gets_a_gradient():
    model, layout = _surroundings(), _layout()
    own, whole, tissue = _both(model, torch.randn(40, D), layout, torch.randn(7, 9, DI))
    (own.sum() + whole.sum() + tissue.square().sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
