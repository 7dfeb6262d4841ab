"""Filling in cells, and what is told of wanted genes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from mistline.core.errors import InputError
from mistline.models.spadit.diffusion import Schedule
from mistline.models.stdiff.inpainting import Noise, inpaint
from mistline.models.stdiff.model import Model
from mistline.models.stdiff.params import Params
from mistline.scrna.guarded import GuardedMatrix
from tests.unit.models.spadit.pairs import context, pair, pcc

SETTINGS = {
    "size": "tiny", "depth": 1, "width": 32, "levels": 50, "sampling_steps": 5, "samples": 4, "steps": 20,
    "validate_every": 10, "train_batch": 64,
}  # fmt: skip


def _imputed(view, tmp_path, seed=0, **settings):
    model = Model.create(Params(**{**SETTINGS, **settings}), view, context(tmp_path, seed))
    rows = list(model.fit(view, context(tmp_path, seed)))
    return model, rows, model.impute(view, context(tmp_path, seed))


def test_wanted_genes_are_told_with_their_spread(tmp_path):
    view, truth = pair(m=400)
    model, rows, found = _imputed(view, tmp_path, steps=200, learning_rate=5e-3)
    assert found.mean.shape == found.sd.shape == truth.shape
    assert found.mean.dtype == found.sd.dtype == np.float32
    assert np.median(pcc(found.mean, truth)) > 0.4
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]
    assert set(model.describe()) == {"Network", "Training", "Spread"}


def test_nothing_of_closed_genes_is_read_and_the_same_seed_gives_the_same_bytes(tmp_path):
    view, truth = pair()
    guarded = GuardedMatrix(
        sparse.csr_matrix(np.hstack([view.spatial, truth])), [*view.genes, *view.wanted], view.wanted
    )
    plain, canary = (
        _imputed(replace(view, spatial=own.take(view.genes).toarray().astype(np.float32)), tmp_path)[2]
        for own in (guarded, guarded.with_canary())
    )
    assert plain.mean.tobytes() == canary.mean.tobytes()
    assert plain.sd.tobytes() == canary.sd.tobytes()
    assert _imputed(view, tmp_path, seed=1)[2].mean.tobytes() != plain.mean.tobytes()


def test_a_cell_is_told_the_same_in_another_batch(tmp_path):
    view, _ = pair()
    model, _, together = _imputed(view, tmp_path)
    model.params = model.params.model_copy(update={"sample_batch": 7})
    apart = model.impute(view, context(tmp_path))
    np.testing.assert_allclose(apart.mean, together.mean, rtol=0, atol=1e-5)


def test_inpainting_draws_the_rest_of_a_gaussian_given_what_is_known():
    """Two genes with correlation 0.8: the second follows the first with slope 0.8 where the network is exact."""
    schedule, among = Schedule(200), torch.tensor([[1.0, 0.8], [0.8, 1.0]])

    def predict(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        a, s = (float(value[0]) for value in schedule.at(levels[:1]))
        return a * x @ torch.linalg.inv(a**2 * among + s**2 * torch.eye(2)) @ among

    known = torch.tensor([-1.5, 0.0, 1.5]).repeat_interleave(400)[:, None]
    drawn = inpaint(schedule, predict, known, Noise([1, 2, 3], (400, 2)), 50, 8)[:, 1].reshape(3, 400)
    torch.testing.assert_close(drawn.mean(1), torch.tensor([-1.2, 0.0, 1.2]), rtol=0, atol=0.15)
    torch.testing.assert_close(drawn.std(1), torch.full((3,), 0.6), rtol=0, atol=0.1)


def test_noise_belongs_to_the_cell():
    both = Noise([3, 8], (2, 4))
    alone = Noise([8], (2, 4))
    for _ in range(2):
        assert torch.equal(both()[2:], alone())


def test_too_few_single_cells_are_refused(tmp_path):
    view, _ = pair(m=10)
    with pytest.raises(InputError, match="10 single cells"):
        Model.create(Params(**SETTINGS), view, context(tmp_path))
