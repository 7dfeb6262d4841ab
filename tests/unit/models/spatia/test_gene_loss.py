"""The zero-inflated negative binomial, what the encoder is shown, and the three terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mistline.models.spatia.gene_loss import Corrupted, GeneTerms, Heads, Part, Zinb, corrupt, hide, lose, mean_of
from mistline.models.spatia.gene_tokens import GeneTokens, Panels, collate, sparse
from mistline.models.spatia.genes import GeneEncoder, GeneSizes, GeneTable

_GENES, _WIDTH = 30, 16


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tokens(n_cells: int = 12, mean: float = 2.0) -> GeneTokens:
    counts = torch.poisson(torch.full((n_cells, _GENES), mean), generator=_draw(1))
    counts *= torch.rand(counts.shape, generator=_draw(2)) < 0.5
    cell, gene = counts.nonzero(as_tuple=True)
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), (counts > 0).sum(1).cumsum(0)])
    given = sparse(gene, counts[cell, gene], offset, torch.zeros(n_cells, dtype=torch.int64))
    return collate(given, 1000, panels=Panels.of(torch.ones(1, _GENES, dtype=torch.bool)), zeros=1, draw=_draw(3))


def _encoder() -> GeneEncoder:
    torch.manual_seed(0)
    return GeneEncoder(GeneSizes(_GENES, _WIDTH, 1, 4, 32, 0.0))


def test_the_loss_is_scipys_on_a_grid() -> None:
    x, mean, theta, logit = np.meshgrid(
        [0, 1, 2, 7, 60, 1500], [1e-3, 0.03, 1, 40, 3000], [1e-3, 0.5, 1, 20, 1e4, np.exp(15)], [-30, -2, 0, 1.5, 8]
    )
    inflated = 1 / (1 + np.exp(-logit))
    # A mean below 0.001 at the largest dispersion is beyond scipy, whose probability is then rounded to 1.
    log_counted = np.log1p(-inflated) + stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    want = -np.where(x > 0, log_counted, np.logaddexp(np.log(inflated), log_counted))
    found = Zinb(*(torch.from_numpy(of) for of in (np.log(mean), np.log(theta), logit))).nll(torch.from_numpy(x))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-6, atol=2e-6)


def test_probabilities_sum_to_one_and_have_the_mean() -> None:
    x = torch.arange(4000)
    for log_mean, log_theta, logit in ((1.5, 0.2, -0.5), (3.0, 12.0, 1.0), (0.0, -1.0, -9.0)):
        zinb = Zinb(*(torch.full(x.shape, of, dtype=torch.float64) for of in (log_mean, log_theta, logit)))
        probability = (-zinb.nll(x).double()).exp()
        assert float(probability.sum()) == pytest.approx(1, abs=1e-4)
        assert float((probability * x).sum()) == pytest.approx(float(zinb.mean()[0]), rel=1e-3)


def test_the_loss_and_its_gradient_are_finite_at_the_limits() -> None:
    numbers = [torch.tensor([-90.0, 0.0, 12.0]), torch.tensor([-15.0, 0, 15]), torch.tensor([-80.0, 0, 80])]
    grid = [of.reshape(-1).requires_grad_() for of in torch.meshgrid(*numbers, indexing="ij")]
    for x in (0.0, 1.0, 1e5):
        loss = Zinb(*grid).nll(torch.full((27,), x))
        assert torch.isfinite(loss).all()
        for grad in torch.autograd.grad(loss.sum(), grid):
            assert torch.isfinite(grad).all()


def test_means_of_a_cell_sum_to_its_counts() -> None:
    torch.manual_seed(0)
    heads, tokens = Heads(_WIDTH, 0.0), torch.randn(2, 5, _WIDTH)
    pad = torch.tensor([[False] * 3 + [True] * 2, [False] * 5])
    mean = heads(tokens, pad, torch.tensor([12.0, 0])).log_mean.exp()
    torch.testing.assert_close((mean * ~pad).sum(1), torch.tensor([12.0, 1]))  # a cell without counts: one


def test_dispersion_is_limited() -> None:
    heads = Heads(_WIDTH, 0.0)
    with torch.no_grad():
        heads.layers[-1].bias[1] = 1e4
    found = heads(torch.randn(1, 3, _WIDTH), torch.zeros(1, 3, dtype=torch.bool), torch.ones(1))
    assert (found.log_dispersion == 15).all()


def test_shares_of_hidden_genes() -> None:
    tokens = _tokens(2000)
    masked = hide(tokens, _draw()).masked
    expressed, zero = tokens.count > 0, (tokens.count == 0) & ~tokens.pad
    assert float(masked[expressed].float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(masked[zero].float().mean()) == pytest.approx(0.1, abs=0.02)
    assert not masked[tokens.pad].any()


def test_hidden_counts_change_nothing_that_is_shown() -> None:
    tokens, encoder = _tokens(), _encoder().eval()
    masked = hide(tokens, _draw()).masked
    count = torch.where(masked & (tokens.count > 0), tokens.count + 1000, tokens.count)
    depth = tokens.depth + (count - tokens.count).sum(1)
    shown, other = hide(tokens, _draw()), hide(replace(tokens, count=count, depth=depth), _draw())
    assert torch.equal(other.masked, shown.masked)
    assert not torch.equal(other.count, shown.count)
    assert torch.equal(other.value, shown.value)
    assert torch.equal(other.depth, shown.depth)
    assert torch.equal(encoder(other), encoder(shown))


def test_hidden_cell_by_hand() -> None:
    tokens = _tokens()
    shown = hide(tokens, _draw())
    seen = tokens.count * ~shown.masked
    torch.testing.assert_close(shown.depth, seen.sum(1))
    torch.testing.assert_close(shown.value, seen / seen.sum(1, keepdim=True).clamp(min=1))
    assert torch.equal(shown.count, tokens.count)


def test_lost_counts() -> None:
    tokens = _tokens(2000, mean=50.0)
    shown = lose(tokens, _draw())
    left = shown.value * shown.depth[:, None]
    expressed = tokens.count > 20
    share = (left / tokens.count)[expressed]
    gone = share < 1e-6
    assert float(gone.float().mean()) == pytest.approx(0.33, abs=0.01)
    assert float(share[~gone].mean()) == pytest.approx(0.67, abs=0.01)
    assert (left <= tokens.count + 1e-3).all()
    assert torch.equal(shown.count, tokens.count)


def test_a_cell_is_hidden_or_loses_counts() -> None:
    given = corrupt(_tokens(400), _draw())
    is_hidden, is_lost = given.hidden.any(1), given.lost.any(1)
    assert not (is_hidden & is_lost).any()
    assert float(is_lost.float().mean()) == pytest.approx(0.5, abs=0.1)
    assert torch.equal(given.lost[is_lost], ~given.tokens.pad[is_lost])


def test_mean_by_hand() -> None:
    loss = torch.tensor([[1.0, 3, 9], [4, 5, 6], [8, 8, 8]])
    scored = torch.tensor([[True, True, False], [True, False, True], [False] * 3])
    assert float(mean_of(loss, scored)) == pytest.approx((2 + 5) / 2)
    assert float(mean_of(loss, torch.zeros(3, 3, dtype=torch.bool))) == 0


def _losses(encoder: GeneEncoder, terms: GeneTerms, given: Corrupted) -> tuple[Tensor, Tensor, Tensor]:
    out = encoder(given.tokens)
    return (
        *terms.token_losses([Part(torch.arange(len(out)), out)], given),
        terms.query_loss(out[:, 0], encoder.table, given.tokens),
    )


def test_gradients_reach_every_parameter() -> None:
    encoder, terms = _encoder(), GeneTerms(_WIDTH, 4, 0.0)
    losses = _losses(encoder, terms, corrupt(_tokens(), _draw(1)))
    assert all(loss.item() > 0 for loss in losses)
    torch.stack(losses).sum().backward()
    for module in (encoder, terms):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_every_term_falls_on_a_few_cells() -> None:
    encoder, terms, tokens = _encoder(), GeneTerms(_WIDTH, 4, 0.0), _tokens(16)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *terms.parameters()], lr=1e-2)
    course = []
    for step in range(30):
        losses = torch.stack(_losses(encoder, terms, corrupt(tokens, _draw(step))))
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        course.append(losses.detach())
    first, last = torch.stack(course[:6]).mean(0), torch.stack(course[-6:]).mean(0)
    assert (last < 0.95 * first).all(), (first, last)


def test_only_the_cells_that_are_asked_for_are_scored() -> None:
    encoder, terms, given = _encoder().eval(), GeneTerms(_WIDTH, 4, 0.0).eval(), corrupt(_tokens(), _draw(1))
    cells = torch.arange(12) < 5
    out = encoder(given.tokens)
    other = out.clone()
    other[5:] = 7.0
    parts = [Part(rows, out[rows][:, : 2 + int(given.tokens.lengths()[rows].max())]) for rows in cells.nonzero()]
    few = Part(torch.arange(5), out[:5])
    torch.testing.assert_close(terms.token_losses([few], given), terms.token_losses(parts, given))
    assert terms.token_losses([], given) == (0, 0)
    first = terms.query_loss(out[:, 0], encoder.table, given.tokens, cells)
    assert first == terms.query_loss(other[:, 0], encoder.table, given.tokens, cells)
    assert first != terms.query_loss(other[:, 0], encoder.table, given.tokens)


def test_a_batch_without_counts_has_no_loss_and_no_nan() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    given = sparse(nothing, nothing, torch.zeros(4, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    corrupted = corrupt(collate(given, 10, draw=None), _draw())
    losses = _losses(_encoder(), GeneTerms(_WIDTH, 4, 0.0), corrupted)
    assert [loss.item() for loss in losses] == [0, 0, 0]
    torch.stack(losses).sum().backward()


def test_an_answer_by_z_does_not_depend_on_the_other_genes() -> None:
    torch.manual_seed(0)
    terms, table, z = GeneTerms(_WIDTH, 4, 0.0).eval(), GeneTable(_GENES, _WIDTH, None, None), torch.randn(3, _WIDTH)
    genes = torch.arange(_GENES)
    found = terms.decoder(table(genes + 1).expand(3, -1, -1), z)
    torch.testing.assert_close(terms.decoder(table(genes[:4] + 1).expand(3, -1, -1), z), found[:, :4])
    assert not torch.allclose(terms.decoder(table(genes + 1).expand(3, -1, -1), z + 1), found)


def test_genes_asked_of_all_cells_are_looked_up_once() -> None:
    """The same loss and gradients as of genes looked up for every cell."""
    torch.manual_seed(0)
    terms, table, z = GeneTerms(_WIDTH, 4, 0.0), GeneTable(_GENES, _WIDTH, None, None), torch.randn(3, _WIDTH)
    genes, pad = torch.tensor([5, 2, 7]), torch.zeros(3, 3, dtype=torch.bool)
    pad[1, 2] = True
    count = torch.tensor([[3.0, 0, 1], [2, 4, 0], [0, 0, 6]])
    tokens = GeneTokens((genes + 1).expand(3, -1).masked_fill(pad, 0), count, count, pad, pad, count.sum(1))
    found = []
    for own in (None, genes):
        table.zero_grad()
        loss = terms.query_loss(z, table, tokens, genes=own)
        loss.backward()
        found.append((loss.detach(), table.learned.weight.grad.clone()))
    torch.testing.assert_close(found[0], found[1])


def test_predicted_counts_of_all_genes() -> None:
    torch.manual_seed(0)
    terms, table, z = GeneTerms(_WIDTH, 4, 0.0).eval(), GeneTable(_GENES, _WIDTH, None, None), torch.randn(3, _WIDTH)
    found = terms.predict(z, table, torch.arange(_GENES), torch.tensor([10.0, 20, 30]))
    assert found.shape == (3, _GENES)
    assert (found.sum(1) < torch.tensor([10.0, 20, 30])).all()  # some zeros are no counts
