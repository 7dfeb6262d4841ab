"""Whitening, null tokens, and what each mode lets the U-Net see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mistline.models.diffusion.conditions import MODE_NUMBERS, Conditions, whitening
from mistline.models.diffusion.modes import MODES, READINGS, TOKENS, offered
from tests.unit.models.diffusion.synthetic import ALL

N, D, W = 5, 6, 8
CELL_ONLY = ((True, True, False, False),) * 2


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(N, len(READINGS), len(TOKENS), D, generator=torch.Generator().manual_seed(0))


def _conditions(present=ALL) -> Conditions:
    torch.manual_seed(0)
    return Conditions(D, W, present)


def _modes(name: str) -> torch.Tensor:
    return torch.full((N,), MODE_NUMBERS[name])


def test_leading_components_have_unit_covariance_and_the_others_are_damped():
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(D, D)))[0]
    spread = np.array([30, 25, 20, 2, 1, 1e-3])
    rows = (3 + rng.normal(size=(4000, D)) * spread @ turned).astype(np.float32)
    mean, matrix = whitening(rows)
    white = np.cov(((rows - mean) @ matrix).T, bias=True)[::-1, ::-1]
    expected = np.minimum(1, spread**2 / (spread**2).mean())
    np.testing.assert_allclose(np.diag(white), expected, rtol=0.1, atol=1e-4)
    np.testing.assert_allclose(white, np.diag(np.diag(white)), atol=1e-3)


def test_what_does_not_vary_stays_zero():
    mean, matrix = whitening(np.full((9, D), 2.5, dtype=np.float32))
    assert not matrix.any()
    assert (mean == 2.5).all()


def test_each_reading_and_token_is_whitened_by_its_own(tokens):
    sample = tokens.repeat(40, 1, 1, 1) + 0.1 * torch.randn(N * 40, 2, 4, D)
    conditions = _conditions()
    conditions.fit(sample)
    for reading, token in ((0, 0), (1, 2)):
        mean, matrix = whitening(sample[:, reading, token].numpy())
        np.testing.assert_array_equal(conditions.mean[reading, token].numpy(), mean)
        np.testing.assert_array_equal(conditions.matrix[reading, token].numpy(), matrix)
    assert not torch.equal(conditions.matrix[0, 0], conditions.matrix[1, 2])


@pytest.mark.parametrize("mode", list(MODES))
def test_a_mode_sees_its_tokens_of_its_reading_and_no_other(mode, tokens):
    conditions = _conditions()
    before = conditions(tokens, _modes(mode))
    for reading, token in np.ndindex(len(READINGS), len(TOKENS)):
        changed = tokens.clone()
        changed[:, reading, token] += 1
        is_seen = READINGS[reading] == MODES[mode].reading and TOKENS[token] in MODES[mode].tokens
        after = conditions(changed, _modes(mode))
        assert (after != before).any() == is_seen
        assert ((after != before).any(dim=(0, 2)).nonzero().flatten() == token).all()


def test_no_image_is_read_by_the_modes_that_hide_it():
    assert {MODES[name].reading for name in ("gene2img", "context2img")} == {"genes"}
    assert not {"z", "z_gene"} & set(MODES["context2img"].tokens)


def test_what_is_not_told_is_the_null_token_of_its_place(tokens):
    conditions = _conditions(CELL_ONLY)
    found = conditions(tokens, _modes("recon"))
    assert torch.equal(found[:, 2:], conditions.null[2:].expand(N, -1, -1))
    assert not (found[:, :2] == conditions.null[:2]).all(-1).any()
    dropped = torch.tensor([True, False, True, False, False])
    found = conditions(tokens, _modes("gene2img"), dropped)
    assert torch.equal(found[dropped], conditions.empty(2))
    assert torch.equal(found[~dropped], conditions(tokens, _modes("gene2img"))[~dropped])


def test_cells_of_a_batch_may_ask_differently(tokens):
    conditions = _conditions()
    names = ["recon", "context2img", "gene2img", "recon", "gene2img"]
    found = conditions(tokens, torch.tensor([MODE_NUMBERS[name] for name in names]))
    alone = [conditions(tokens, _modes(name))[i] for i, name in enumerate(names)]
    torch.testing.assert_close(found, torch.stack(alone))


def test_a_run_without_levels_offers_no_context():
    assert offered(ALL) == tuple(MODES)
    assert offered(CELL_ONLY) == ("recon", "gene2img")
    assert offered(((True,) * 4, (False,) * 4)) == ("recon",)
