"""Fusion blocks by hand, absent modalities, and that padding is never read."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mistline.models.spatia.fusion import AttentionPool, CellFusion, FusionBlock, FusionSizes, drop_modalities

SIZES = FusionSizes(width=16, heads=2, image_width=24, image_heads=3, layers=1, dropout=0.0)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _tokens(n: int = 5):
    pad = torch.zeros(n, 7, dtype=torch.bool)
    pad[2, 4:] = True
    return torch.randn(n, 6, 24), torch.randn(n, 7, 16), pad


def _attention_by_hand(block: FusionBlock, query, memory, pad):
    part = block.attention
    heads = part.heads
    asked, keys, values = part.ask(query), part.key(memory), part.value(memory)
    mixed = []
    for number in range(heads):
        width = asked.shape[-1] // heads
        own = slice(number * width, (number + 1) * width)
        score = asked[..., own] @ keys[..., own].transpose(1, 2) / width**0.5
        score = score.masked_fill(pad[:, None], float("-inf"))
        mixed.append(score.softmax(-1) @ values[..., own])
    return part.out(torch.cat(mixed, -1))


def test_default_block_by_hand():
    block = FusionBlock(16, 24, 2, hidden=32, dropout=0.0)
    image, genes, _ = _tokens()
    pad = torch.zeros(5, 6, dtype=torch.bool)
    pad[1, 3:] = True
    read = _attention_by_hand(block, block.norm_query(genes), block.norm_memory(block.project(image)), pad)
    middle = genes + 0.1 * read
    expected = middle + 0.1 * block.feed(block.norm_feed(middle))
    torch.testing.assert_close(block(genes, image, pad), expected)


@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_official_block_by_hand(weight):
    block = FusionBlock(16, 24, 2, hidden=8, dropout=0.0, style="official", combine_weight=weight)
    image, genes, _ = _tokens()
    pad = torch.zeros(5, 6, dtype=torch.bool)
    memory = functional.linear(image, block.project.weight, block.project.bias)  # its norm is on the query only
    middle = genes + _attention_by_hand(block, block.norm_query(genes), memory, pad)
    inner = functional.gelu(functional.linear(block.norm_feed(middle), block.feed[0].weight, block.feed[0].bias))
    r = middle + functional.linear(inner, block.feed[2].weight, block.feed[2].bias)
    torch.testing.assert_close(block(genes, image), genes + weight * r)
    assert not any(name in ("a", "b") for name, _ in block.named_parameters())


def test_official_sizes_are_half_as_wide():
    assert FusionSizes(16, 2, 24, 3, 1, 0.0, "official").block("image").feed[0].out_features == 12
    assert SIZES.block("image").feed[0].out_features == 48


def test_padding_is_never_read():
    fusion = CellFusion(SIZES)
    image, genes, pad = _tokens()
    yes = torch.ones(5, dtype=torch.bool)
    before = fusion(image, genes, pad, yes, yes)
    spoiled = genes.masked_fill(pad[..., None], 1e4)
    assert torch.equal(before.z, fusion(image, spoiled, pad, yes, yes).z)


def test_absent_modality_is_not_read_and_gives_numbers():
    fusion = CellFusion(SIZES)
    image, genes, pad = _tokens()
    yes, no = torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)
    for has_image, has_genes in ((yes, no), (no, yes), (yes, yes)):
        found = fusion(image, genes, pad, has_image, has_genes)
        assert all(torch.isfinite(value).all() for value in (found.z, found.z_image, found.z_genes))
    only = fusion(image, genes, pad, no, yes).z
    spoiled = torch.full_like(image, float("nan"))
    assert torch.equal(only, fusion(spoiled, genes, pad, no, yes).z)
    torch.testing.assert_close(only, fusion(None, genes, pad, no, yes).z)
    torch.testing.assert_close(fusion(image, genes, pad, yes, no).z, fusion(image, None, None, yes, no).z)


def test_mixed_rows_equal_rows_alone():
    fusion = CellFusion(SIZES)
    image, genes, pad = _tokens()
    has = torch.tensor([True, False, True, False, True])
    mixed = fusion(image, genes, pad, has, ~has | has.roll(2))
    for i in range(5):
        row = slice(i, i + 1)
        alone = fusion(image[row], genes[row], pad[row], has[row], (~has | has.roll(2))[row])
        torch.testing.assert_close(mixed.z[row], alone.z)


def test_both_sides_get_gradients_without_one_modality():
    fusion = CellFusion(SIZES)
    image, genes, pad = _tokens()
    has = torch.tensor([True, False, True, False, True])
    found = fusion(image, genes, pad, has, ~has)
    (found.z.sum() + found.image.sum() + found.genes.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in fusion.parameters())


def test_no_layers_is_a_sum_of_both_sides():
    fusion = CellFusion(FusionSizes(16, 2, 24, 3, 0, 0.0))
    image, genes, pad = _tokens()
    yes = torch.ones(5, dtype=torch.bool)
    found = fusion(image, genes, pad, yes, yes)
    torch.testing.assert_close(found.image, image)
    other = fusion(image.flip(0), genes, pad, yes, yes)
    torch.testing.assert_close(found.z_genes, other.z_genes)
    assert not torch.allclose(found.z_image, other.z_image)


def test_pool_does_not_depend_on_order():
    pool = AttentionPool(16, 2)
    tokens = torch.randn(3, 6, 16)
    torch.testing.assert_close(pool(tokens), pool(tokens[:, [3, 1, 5, 0, 2, 4]]))


def test_modalities_are_dropped_by_their_share_and_never_both():
    draw = torch.Generator().manual_seed(1)
    has_image, has_genes = drop_modalities(20_000, 0.15, draw, torch.device("cpu"))
    assert (has_image | has_genes).all()
    for has in (has_image, has_genes):
        assert has.float().mean().item() == pytest.approx(0.85, abs=0.01)
    assert all(has.all() for has in drop_modalities(100, 0.0, draw, torch.device("cpu")))
