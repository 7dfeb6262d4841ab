"""Counts of a batch as tokens: what appears, what is drawn, what it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mistline.models.spatia.gene_tokens import GeneTokens, Panels, SparseGenes, collate, sparse

# Three cells over 8 genes; gene 7 is on no panel, genes 5 and 6 only on the second.
_INDEX = torch.tensor([0, 2, 4, 1, 2, 3, 5])
_COUNT = torch.tensor([4, 1, 3, 2, 2, 9, 7], dtype=torch.int32)
_OFFSET = torch.tensor([0, 3, 3, 7])
_MEASURED = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 0]], dtype=torch.bool)
_PANEL = torch.tensor([0, 0, 1])


def _given() -> SparseGenes:
    return sparse(_INDEX, _COUNT, _OFFSET, _PANEL)


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random(n_cells: int, n_genes: int, share: float) -> tuple[SparseGenes, Tensor]:
    draw = _draw(3)
    counts = torch.poisson(torch.rand(n_cells, n_genes, generator=draw) * 4, generator=draw)
    counts *= torch.rand(n_cells, n_genes, generator=draw) < share
    cell, gene = counts.nonzero(as_tuple=True)
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), (counts > 0).sum(1).cumsum(0)])
    return sparse(gene, counts[cell, gene], offset, torch.zeros(n_cells, dtype=torch.int64)), counts


def test_expressed_genes_in_order_when_nothing_is_drawn() -> None:
    tokens = collate(_given(), 10, draw=None)
    assert tokens.index.tolist() == [[1, 3, 5, 0], [0, 0, 0, 0], [2, 3, 4, 6]]
    assert tokens.count.tolist() == [[4, 1, 3, 0], [0, 0, 0, 0], [2, 2, 9, 7]]
    torch.testing.assert_close(tokens.value[0], torch.tensor([0.5, 0.125, 0.375, 0]))
    torch.testing.assert_close(tokens.value[2], torch.tensor([0.1, 0.1, 0.45, 0.35]))
    assert tokens.pad.tolist() == [[False, False, False, True], [True] * 4, [False] * 4]
    assert tokens.depth.tolist() == [8, 0, 20]
    assert tokens.lengths().tolist() == [3, 0, 4]


def test_the_largest_counts_when_there_are_too_many_and_nothing_is_drawn() -> None:
    tokens = collate(_given(), 2, draw=None)
    assert tokens.index.tolist() == [[1, 5], [0, 0], [4, 6]]
    torch.testing.assert_close(tokens.value[0], torch.tensor([4 / 7, 3 / 7]))
    assert tokens.depth.tolist() == [8, 0, 20]  # of all genes, not of the chosen


def test_a_random_subset_when_there_are_too_many() -> None:
    found = torch.zeros(9)
    for seed in range(300):
        tokens = collate(_given(), 2, draw=_draw(seed))
        assert (tokens.lengths() == torch.tensor([2, 0, 2])).all()
        found += torch.bincount(tokens.index[2], minlength=9)
    assert found[[2, 3, 4, 6]].sum() == 600
    assert (found[[2, 3, 4, 6]] > 110).all()  # 150 expected of each


def test_zeros_are_measured_not_expressed_and_drawn_once() -> None:
    given = _given()
    counts = torch.zeros(3, 8)
    counts[given.row, given.index] = given.count
    n_shown = set()
    for seed in range(200):
        tokens = collate(given, 10, panels=Panels.of(_MEASURED), zeros=2, draw=_draw(seed))
        for cell in range(3):
            genes = tokens.index[cell][tokens.index[cell] > 0] - 1
            assert len(genes.unique()) == len(genes)
            assert _MEASURED[_PANEL[cell]][genes].all()
            assert torch.equal(tokens.count[cell][tokens.index[cell] > 0], counts[cell][genes])
        n_shown.add(tuple(tokens.lengths().tolist()))
        assert tokens.lengths()[1] == 0  # a cell without counts
    assert {first for first, _, _ in n_shown} == {3, 4, 5}  # its panel has two zeros


def test_zeros_fill_up_no_more_than_there_is_room_for() -> None:
    given, counts = _random(20, 300, 0.9)
    tokens = collate(given, 100, panels=Panels.of(torch.ones(1, 300, dtype=torch.bool)), zeros=0.5, draw=_draw())
    assert tokens.index.shape == (20, 100)
    assert ((counts > 0).sum(1) > 100).all()
    assert (tokens.count > 0).all()


def test_zeros_are_drawn_evenly() -> None:
    n_genes, n_cells = 12, 2000
    given = sparse(
        torch.tensor([4, 9]).repeat(n_cells),
        torch.ones(2 * n_cells),
        torch.arange(n_cells + 1) * 2,
        torch.zeros(n_cells, dtype=torch.int64),
    )
    panels = Panels.of(torch.ones(1, n_genes, dtype=torch.bool))
    tokens = collate(given, 50, panels=panels, zeros=1.5, draw=_draw())
    for shown in (tokens.index, tokens.index[:, 2:3]):
        found = torch.bincount(shown.flatten(), minlength=n_genes + 1)
        zeros = torch.cat([found[1:5], found[6:10], found[11:]]).float()
        assert zeros.min() > 0.8 * zeros.mean()
        assert zeros.max() < 1.2 * zeros.mean()


def test_the_same_draw_gives_the_same_tokens() -> None:
    given, _ = _random(30, 80, 0.5)
    panels = Panels.of(torch.ones(1, 80, dtype=torch.bool))
    one, two, other = (collate(given, 30, panels=panels, zeros=0.5, draw=_draw(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.index, two.index)
    assert not torch.equal(one.index, other.index)


def test_genes_that_the_vocabulary_does_not_have_are_left_out() -> None:
    place = torch.tensor([3, 0, -1, 1, 2, -1, -1, -1])
    moved = sparse(place[_INDEX], _COUNT, _OFFSET, _PANEL)
    tokens = collate(moved, 10, draw=None)
    assert tokens.index[:, :2].tolist() == [[4, 3], [0, 0], [1, 2]]
    assert tokens.depth.tolist() == [7, 0, 11]
    assert tokens.lengths().tolist() == [2, 0, 2]
    assert collate(moved, 1, draw=None).index.tolist() == [[4], [0], [2]]
    drawn = collate(moved, 1, draw=_draw())
    assert drawn.lengths().tolist() == [1, 0, 1]


def test_counts_of_a_part_of_a_batch() -> None:
    part = sparse(_INDEX[3:], _COUNT[3:], _OFFSET[2:], _PANEL[2:])
    assert part.start.tolist() == [0]
    assert torch.equal(collate(part, 10, draw=None).index, collate(_given(), 10, draw=None).index[2:])
    assert torch.equal(part.to("cpu").row, part.row)


@pytest.mark.parametrize("max_len", [5, 1000])
def test_no_cell_has_any_count(max_len: int) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    given = sparse(nothing, nothing, torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    tokens = collate(given, max_len, panels=Panels.of(_MEASURED), zeros=1, draw=_draw())
    assert tokens.index.shape == (2, 0)
    assert tokens.depth.tolist() == [0, 0]


def test_a_large_vocabulary() -> None:
    n_genes = 40_000
    given = sparse(
        torch.tensor([0, n_genes - 1]), torch.tensor([2, 6]), torch.tensor([0, 2]), torch.zeros(1, dtype=torch.int64)
    )
    measured = torch.zeros(1, n_genes, dtype=torch.bool)
    measured[0, ::3] = True
    tokens: GeneTokens = collate(given, 10, panels=Panels.of(measured), zeros=4, draw=_draw())
    assert tokens.index[0, :2].tolist() == [1, n_genes]
    drawn = tokens.index[0, 2:][~tokens.pad[0, 2:]] - 1
    assert len(drawn) > 0
    assert (drawn % 3 == 0).all()
    assert drawn.max() > n_genes // 4
