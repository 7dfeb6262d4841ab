"""The gene encoder: what its output depends on, and that packing changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mistline.models.spatia.gene_tokens import GeneTokens, Panels, collate, sparse
from mistline.models.spatia.genes import (
    Chunk,
    GeneEncoder,
    GeneSizes,
    GeneTable,
    ValueEncoder,
    chunked,
    in_order,
    prepended,
)

_GENES = 40
_SIZES = GeneSizes(genes=_GENES, width=16, depth=2, heads=4, hidden=32, dropout=0.1)


def _encoder(sizes: GeneSizes = _SIZES, **given: Tensor) -> GeneEncoder:
    torch.manual_seed(0)
    return GeneEncoder(sizes, **given).eval()


def _tokens(n_cells: int = 9, n_genes: int = _GENES) -> GeneTokens:
    draw = torch.Generator().manual_seed(5)
    chance = torch.linspace(0, 0.9, n_cells)[:, None]  # the first cell has nothing
    counts = (torch.rand(n_cells, n_genes, generator=draw) < chance) * torch.randint(1, 9, (n_cells, n_genes))
    cell, gene = counts.nonzero(as_tuple=True)
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), (counts > 0).sum(1).cumsum(0)])
    given = sparse(gene, counts[cell, gene], offset, torch.zeros(n_cells, dtype=torch.int64))
    panels = Panels.of(torch.ones(1, n_genes, dtype=torch.bool))
    return collate(given, 1000, panels=panels, zeros=0.5, draw=draw)


def test_output_has_the_tokens_shape_and_zeros_at_pad() -> None:
    tokens = _tokens()
    out = _encoder()(tokens)
    assert out.shape == (9, 2 + tokens.pad.shape[1], 16)
    pad = prepended(tokens.pad)
    assert not pad[:, :2].any()
    assert (out[pad] == 0).all()
    assert torch.isfinite(out).all()


def test_what_lies_at_a_pad_never_changes_a_cell() -> None:
    tokens, encoder = _tokens(), _encoder()
    out = encoder(tokens)
    other = replace(
        tokens,
        index=torch.where(tokens.pad, _GENES, tokens.index),
        value=torch.where(tokens.pad, 7.0, tokens.value),
        count=torch.where(tokens.pad, 3.0, tokens.count),
        masked=tokens.masked | tokens.pad,
    )
    assert torch.equal(encoder(other), out)


def test_more_pads_never_change_a_cell() -> None:
    tokens, encoder = _tokens(), _encoder()
    n_cells, length = tokens.pad.shape
    more = [torch.zeros(n_cells, 12, dtype=of.dtype) for of in (tokens.index, tokens.count, tokens.value)]
    wider = replace(
        tokens,
        index=torch.cat([tokens.index, more[0]], 1),
        count=torch.cat([tokens.count, more[1]], 1),
        value=torch.cat([tokens.value, more[2]], 1),
        masked=torch.cat([tokens.masked, more[0].bool()], 1),
        pad=torch.cat([tokens.pad, ~more[0].bool()], 1),
    )
    torch.testing.assert_close(encoder(wider)[:, : 2 + length], encoder(tokens), atol=1e-5, rtol=0)


def test_genes_off_the_panel_never_change_a_cell() -> None:
    """The same counts read with a larger panel and a vocabulary that goes on give the same cell."""
    given = sparse(torch.tensor([1, 4]), torch.tensor([3, 5]), torch.tensor([0, 2]), torch.zeros(1, dtype=torch.int64))
    encoder = _encoder()
    out = encoder(collate(given, 100, draw=None))
    with torch.no_grad():
        encoder.table.learned.weight[6:] += 1
    assert torch.equal(encoder(collate(given, 100, draw=None)), out)


def test_a_hidden_value_changes_nothing() -> None:
    tokens, encoder = _tokens(), _encoder()
    masked = torch.zeros_like(tokens.masked)
    masked[:, ::3] = True
    tokens = replace(tokens, masked=masked)
    changed = replace(
        tokens,
        value=torch.where(masked, torch.rand(masked.shape) * 50, tokens.value),
        count=torch.where(masked, 99.0, tokens.count),
    )
    assert torch.equal(encoder(changed), encoder(tokens))
    shown = replace(changed, masked=torch.zeros_like(masked))
    assert not torch.allclose(encoder(shown), encoder(tokens), atol=1e-3)


def test_the_order_of_the_genes_does_not_matter() -> None:
    tokens, encoder = _tokens(4), _encoder()
    order = torch.randperm(tokens.pad.shape[1])
    mixed = replace(
        tokens, **{name: getattr(tokens, name)[:, order] for name in ("index", "count", "value", "masked", "pad")}
    )
    out, other = encoder(tokens), encoder(mixed)
    torch.testing.assert_close(other[:, :2], out[:, :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(other[:, 2:], out[:, 2:][:, order], atol=1e-5, rtol=0)


def packed(encoder: GeneEncoder, tokens: GeneTokens, chunks: list[Chunk]) -> Tensor:
    """Return [B, 2 + L, D] of the encoder, chunk by chunk."""
    found = []
    for chunk in chunks:
        out = encoder(tokens.rows(chunk.rows, chunk.length), is_full=chunk.is_full)
        found.append(functional.pad(out, (0, 0, 0, tokens.pad.shape[1] - chunk.length)))
    return in_order(found, chunks)


@pytest.mark.parametrize("chunks", [1, 3, 9, 100])
def test_packed_equals_padded(chunks: int) -> None:
    tokens, encoder = _tokens(), _encoder()
    torch.testing.assert_close(packed(encoder, tokens, chunked(tokens, chunks)), encoder(tokens), atol=1e-5, rtol=0)


def test_packed_gradients_equal_padded() -> None:
    tokens, encoder = _tokens(), _encoder()
    found, weight = [], torch.randn(9, 16)
    for out in (encoder(tokens), packed(encoder, tokens, chunked(tokens, 4))):
        encoder.zero_grad()
        (out[:, 0] * weight).sum().backward()
        found.append([parameter.grad.clone() for parameter in encoder.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_cells_that_are_not_shown_come_first_and_by_themselves() -> None:
    tokens, shown = _tokens(), torch.arange(9) % 3 > 0
    first, *others = chunked(tokens, 4, shown)
    assert first.length == -1
    assert sorted(first.rows.tolist()) == [0, 3, 6]
    assert sorted(torch.cat([chunk.rows for chunk in others]).tolist()) == [1, 2, 4, 5, 7, 8]
    assert all(chunk.length == tokens.lengths()[chunk.rows].max() for chunk in others)
    (none,) = chunked(tokens, 4, torch.zeros(9, dtype=torch.bool))
    assert none.length == -1


def test_chunks_hold_every_cell_once_and_grow() -> None:
    tokens = _tokens()
    chunks = chunked(tokens, 4)
    assert torch.cat([chunk.rows for chunk in chunks]).sort().values.tolist() == list(range(9))
    lengths = [chunk.length for chunk in chunks]
    assert lengths == sorted(lengths)
    for chunk in chunks:
        own = tokens.lengths()[chunk.rows]
        assert own.max() == chunk.length
        assert chunk.is_full == bool((own == chunk.length).all())


def test_a_batch_of_empty_cells_has_its_two_tokens() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    given = sparse(nothing, nothing, torch.zeros(4, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    tokens = collate(given, 10, draw=None)
    out = packed(_encoder(), tokens, chunked(tokens, 2))
    assert out.shape == (3, 2, 16)
    assert torch.isfinite(out).all()


def test_depth_is_read_as_its_logarithm() -> None:
    tokens, encoder = _tokens(2), _encoder()
    seen = []
    encoder.of_depth.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    encoder(replace(tokens, depth=torch.tensor([0.0, 1023.0])))
    assert seen[0].tolist() == [0, 10]


def test_values_are_clamped() -> None:
    value = ValueEncoder(8, 0).eval()
    torch.testing.assert_close(value(torch.tensor([-1.0, 2e5])), value(torch.tensor([0.0, 1e5])))


def test_gradients_reach_every_parameter() -> None:
    encoder = _encoder().train()
    tokens = _tokens()
    (encoder(tokens) * torch.randn(16)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    grad = encoder.table.learned.weight.grad
    assert (grad[0] == 0).all()  # PAD learns nothing


def test_places_are_sinusoids_of_the_index() -> None:
    positions = torch.tensor([0, 3, -1])
    table = GeneTable(3, 4, positions, None)
    with torch.no_grad():
        table.learned.weight.zero_()
    x = torch.tensor(3.0)
    want = torch.stack([x.sin(), (x / 100).sin(), x.cos(), (x / 100).cos()])
    out = table(torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(out[0], torch.zeros(4))  # PAD
    torch.testing.assert_close(out[1], torch.tensor([0.0, 0, 1, 1]))
    torch.testing.assert_close(out[2], want)
    torch.testing.assert_close(out[3], torch.zeros(4))  # no place


def test_given_vectors_stay_and_the_others_learn() -> None:
    vectors = torch.tensor([[1.0, 2], [0, 0], [3, 4]])
    table = GeneTable(3, 2, None, vectors)
    assert table.learned.weight.shape == (2, 2)  # PAD and the gene without a vector
    out = table(torch.tensor([1, 2, 3]))
    assert torch.equal(out[0], vectors[0])
    assert torch.equal(out[2], vectors[2])
    assert torch.equal(out[1], table.learned.weight[1])
    out.sum().backward()
    assert table.learned.weight.grad.tolist() == [[0, 0], [1, 1]]


def test_given_vectors_may_be_where_learning_starts() -> None:
    vectors = torch.tensor([[1.0, 2], [0, 0], [3, 4]])
    table = GeneTable(3, 2, None, vectors, freeze=False)
    assert torch.equal(table(torch.tensor([1, 3])), vectors[[0, 2]])
    assert table.vectors is None
    assert table.learned.weight.shape == (4, 2)


def test_the_state_restores_an_encoder_with_vectors_and_places() -> None:
    vectors = torch.randn(_GENES, 16)
    vectors[5:9] = 0
    encoder = _encoder(positions=torch.arange(_GENES) // 2, vectors=vectors)
    state = encoder.state_dict()
    again = GeneEncoder(_SIZES, state["table.positions"], state["table.vectors"][1:]).eval()
    again.load_state_dict(state)
    tokens = _tokens()
    assert torch.equal(again(tokens), encoder(tokens))


@pytest.mark.parametrize("genes", [23_122, 60_000])
def test_vocabularies_as_large_as_the_published_one_and_beyond(genes: int) -> None:
    encoder = _encoder(replace(_SIZES, genes=genes))
    given = sparse(
        torch.tensor([0, genes - 1]), torch.tensor([2, 6]), torch.tensor([0, 2]), torch.zeros(1, dtype=torch.int64)
    )
    assert encoder(collate(given, 10, draw=None)).shape == (1, 4, 16)


def test_half_precision_runs() -> None:
    tokens, encoder = _tokens(), _encoder()
    with torch.autocast("cpu", torch.bfloat16):
        out = packed(encoder, tokens, chunked(tokens, 3))
    torch.testing.assert_close(out.float(), encoder(tokens), atol=0.15, rtol=0)
