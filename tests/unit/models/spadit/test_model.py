"""The network, training, and what is told of wanted genes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from mistline.config.base import validate
from mistline.core.errors import ConfigError, InputError
from mistline.models.spadit.diffusion import ddim, paired_noise
from mistline.models.spadit.items import Items
from mistline.models.spadit.model import Model
from mistline.models.spadit.network import Denoiser, Sizes, Told
from mistline.models.spadit.params import Params
from mistline.scrna.guarded import GuardedMatrix
from tests.unit.models.spadit.pairs import asked, context, pair, pcc

SETTINGS = {
    "size": "tiny", "depth": 1, "width": 16, "heads": 2, "patches": 4, "n_metacells": 8, "neighbours": 3, "levels": 50,
    "sampling_steps": 4, "samples": 8, "steps": 12, "validate_every": 4, "train_batch": 16,
}  # fmt: skip


def _imputed(view, tmp_path, seed=0, **settings):
    model = Model.create(Params(**{**SETTINGS, **settings}), view, context(tmp_path, seed))
    rows = list(model.fit(view, context(tmp_path, seed)))
    return model, rows, model.impute(view, context(tmp_path, seed))


def test_wanted_genes_are_told_with_their_spread(tmp_path):
    view, truth = pair()
    model, rows, found = _imputed(view, tmp_path)
    assert found.mean.shape == found.sd.shape == truth.shape
    assert found.mean.dtype == found.sd.dtype == np.float32
    assert (found.sd > 0).all()
    assert pcc(found.mean, truth).min() > 0.5
    assert 0.75 < (np.abs(truth - found.mean) < 1.645 * found.sd).mean() <= 1
    assert [row["step"] for row in rows] == [0, 4, 8, 12]
    assert set(model.describe()) == {"Network", "Diffused", "Estimate", "Training", "Samples"}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    view, _ = pair()
    first, again, other = (_imputed(view, tmp_path, seed, steps=5)[2] for seed in (0, 0, 1))
    assert first.mean.tobytes() == again.mean.tobytes()
    assert first.sd.tobytes() == again.sd.tobytes()
    assert first.mean.tobytes() != other.mean.tobytes()


def test_a_gene_alone_is_told_as_it_is_among_others(tmp_path):
    view, _ = pair()
    model, _, together = _imputed(view, tmp_path)
    alone = model.impute(asked(view, [2]), context(tmp_path))
    np.testing.assert_allclose(alone.mean[:, 0], together.mean[:, 2], rtol=0, atol=2e-6)
    np.testing.assert_allclose(alone.sd[:, 0], together.sd[:, 2], rtol=0, atol=2e-6)


def test_nothing_of_closed_genes_is_read(tmp_path):
    view, truth = pair()
    names = [*view.genes, *view.wanted]
    guarded = GuardedMatrix(sparse.csr_matrix(np.hstack([view.spatial, truth])), names, view.wanted)
    plain, canary = (
        _imputed(replace(view, spatial=own.take(view.genes).toarray().astype(np.float32)), tmp_path, steps=5)[2]
        for own in (guarded, guarded.with_canary())
    )
    assert plain.mean.tobytes() == canary.mean.tobytes()
    assert plain.sd.tobytes() == canary.sd.tobytes()


def test_a_training_target_is_not_in_its_own_condition():
    view, _ = pair()
    items = Items(Params(**SETTINGS), view, 0)
    held = items._own / items._near_unit
    for gene in range(len(held)):
        near = items.train.told.near[gene].numpy()
        assert (np.abs(near - held[gene]).max(axis=1) > 1e-6).all()


def test_validation_genes_are_in_no_condition_and_shape_nothing_that_is_trained():
    view, _ = pair()
    rng = np.random.default_rng(1)
    changed = view.spatial.copy()
    changed[:, view.is_val] = rng.gamma(1.0, 1.0, size=(len(changed), view.is_val.sum()))
    plain, other = (Items(Params(**SETTINGS), replace(view, spatial=values), 0) for values in (view.spatial, changed))
    assert torch.equal(plain.train.rest, other.train.rest)
    np.testing.assert_array_equal(plain.val.estimate, other.val.estimate)
    for name in ("base", "profile", "near", "near_profile", "likeness"):
        for genes in ("train", "val"):
            assert torch.equal(*(getattr(getattr(items, genes).told, name) for items in (plain, other)))
    assert not torch.equal(plain.val.rest, other.val.rest)


@pytest.mark.parametrize("settings", [{"space": "raw"}, {"base": "mean"}, {"guidance": 2.0}, {"n_components": 2}])
def test_other_ways_tell_finite_values(settings, tmp_path):
    view, _ = pair(n=60)
    _, _, found = _imputed(view, tmp_path, steps=2, **settings)
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.sd).all()


def test_values_below_zero_are_cut_only_where_asked(tmp_path):
    view, _ = pair()
    view = replace(view, spatial=view.spatial - 3)
    plain, cut = (_imputed(view, tmp_path, steps=0, clip=clip)[2].mean for clip in (False, True))
    assert plain.min() < 0
    np.testing.assert_array_equal(cut, np.maximum(plain, 0))


def test_too_few_genes_are_refused(tmp_path):
    view, _ = pair()
    few = replace(
        view, genes=view.genes[:4], is_val=view.is_val[:4], spatial=view.spatial[:, :4], reference=view.reference[:, :4]
    )
    with pytest.raises(InputError, match="3 training genes and 1 validation genes"):
        Model.create(Params(**SETTINGS), few, context(tmp_path))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="width 64 cannot be divided among 7 heads"):
        validate(Params, {"size": "tiny", "heads": 7}, "models.x.params")
    with pytest.raises(ConfigError, match="sampling_steps 60 is above levels 50"):
        validate(Params, {"levels": 50, "sampling_steps": 60}, "models.x.params")
    assert Params(size="paper").model_dump().items() >= {"depth": 16, "width": 512, "heads": 16}.items()


def _told(n: int, profile: torch.Tensor) -> Told:
    nothing = torch.zeros(n, 2)
    return Told(nothing, profile, torch.zeros(n, 1, 2), torch.zeros(n, 1, 2), torch.zeros(n, 1))


def test_conditional_samples_are_a_linear_gaussian_given_its_condition(tmp_path):
    """x = A c + noise: samples of the trained network at w = 1 have the conditional mean and spread."""
    torch.manual_seed(0)
    matrix, spread = torch.tensor([[0.8, 0.0], [0.3, -0.6]]), 0.5
    condition = torch.randn(2000, 2)
    values = condition @ matrix.T + spread * torch.randn(2000, 2)
    view, _ = pair()
    model = Model.create(Params(**{**SETTINGS, "levels": 200, "condition_dropout": 0.0}), view, context(tmp_path))
    model.net = Denoiser(Sizes(2, 2, 2, 16, 1, 2))
    model._weight = torch.ones(2)
    optimiser = torch.optim.AdamW(model.net.parameters(), 5e-3)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / 200)
        rows = torch.randint(2000, (128,))
        loss = model._loss(
            values[rows], torch.randn(128, 2), (torch.rand(128) * 200).long(), _told(128, condition[rows])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    asked_for = torch.tensor([[1.0, 0.5], [-0.7, 1.2], [0.0, 0.0]])
    told = _told(3, asked_for).take(torch.arange(3).repeat_interleave(64))
    with torch.no_grad():
        drawn = ddim(
            model.schedule, lambda x, t: model._predicted(x, t, told), paired_noise([1, 2, 3], 64, 2).flatten(0, 1), 25
        ).reshape(3, 64, 2)
    torch.testing.assert_close(drawn.mean(1), asked_for @ matrix.T, rtol=0, atol=0.12)
    torch.testing.assert_close(drawn.std(1), torch.full((3, 2), spread), rtol=0, atol=0.2)
