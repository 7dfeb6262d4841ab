"""What the registered model learns, draws, keeps and refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mistline.config.generation import Sampling
from mistline.core.errors import InputError
from mistline.infer.generate import dealt
from mistline.models.contract import Context
from mistline.models.diffusion.model import Model
from mistline.models.diffusion.params import Params
from tests.unit.models.diffusion import synthetic
from tests.unit.models.diffusion.synthetic import SETTINGS, SHAPE, Cells

QUICK = Sampling(steps=6, guidance=2.0)


@pytest.fixture(scope="module")
def cells() -> Cells:
    return Cells(n=24, seed=2)


@pytest.fixture
def small(monkeypatch):
    synthetic.micro(monkeypatch)


def _follows(drawn: torch.Tensor, number: np.ndarray) -> float:
    return float(np.corrcoef(drawn.mean((1, 2, 3)), number)[0, 1])


def _restored(model: Model) -> Model:
    with pytest.MonkeyPatch.context() as patch:
        synthetic.micro(patch)
        return Model.restore(model.params, model.arrays(), ())


def test_what_is_drawn_follows_the_condition_and_not_the_noise(learnt, cells):
    batch = cells.read(np.arange(cells.n))
    drawn = learnt.draw(batch, "gene2img", QUICK, seed=3)
    assert drawn.shape == (cells.n, *SHAPE)
    assert _follows(drawn, cells.follows) > 0.9
    other = dealt(cells.n, 3)
    others = learnt.draw(replace(batch, tokens=batch.tokens[other]), "gene2img", QUICK, seed=3)
    assert abs(_follows(others, cells.follows)) < 0.6
    assert _follows(others, cells.follows[other]) > 0.9


def test_same_seed_same_bytes_and_batches_change_nothing(learnt, cells):
    batch = cells.read(np.arange(10))
    drawn = learnt.draw(batch, "recon", QUICK, seed=3)
    assert torch.equal(drawn, learnt.draw(batch, "recon", QUICK, seed=3))
    few = learnt.draw(batch, "recon", QUICK.model_copy(update={"batch_size": 3}), seed=3)
    torch.testing.assert_close(drawn, few, rtol=1e-4, atol=1e-4)
    turned = learnt.draw(cells.read(np.arange(10)[::-1].copy()), "recon", QUICK, seed=3)
    torch.testing.assert_close(drawn, turned.flip(0), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn, learnt.draw(batch, "recon", QUICK, seed=4), atol=1e-2)


def test_a_cell_is_inverted_and_drawn_again(learnt, cells):
    batch = cells.read(np.arange(4))
    plain = Sampling(steps=10, guidance=1)
    noise = learnt.invert(batch.mean, batch.tokens, "recon", plain)
    again = learnt.sample(batch.tokens, "recon", plain, (), noise)
    assert (again - batch.mean).square().mean().sqrt() < 0.05
    assert (noise - batch.mean).square().mean().sqrt() > 0.5


def test_the_file_holds_the_average_and_gives_the_same_images(learnt, cells):
    batch = cells.read(np.arange(4))
    kept = {name for name in learnt.net.state_dict() if name.startswith("average.")}
    assert len(kept) == 1 + len(list(learnt.net.parameters()))  # an interrupted training goes on with it
    own = learnt.net.average.get_buffer("conditions/null")
    assert not torch.equal(own, learnt.net.conditions.null)
    arrays = learnt.arrays()
    assert not kept & set(arrays)
    np.testing.assert_array_equal(arrays["conditions.null"], own.numpy())
    again = _restored(learnt)
    assert {name: array.tobytes() for name, array in again.arrays().items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert torch.equal(again.draw(batch, "recon", QUICK, 3), learnt.draw(batch, "recon", QUICK, 3))
    assert again.made_for == learnt.made_for


def test_validation_is_of_the_average_and_draws_the_same_each_time(learnt, cells):
    inputs = learnt.prepare(cells.read(np.arange(16)), "cpu")
    net = learnt.net.eval()
    first, second = (net(inputs, torch.Generator().manual_seed(1))["loss"].item() for _ in range(2))
    assert first == second
    with torch.no_grad():
        own = _restored(learnt).net.losses(inputs, torch.Generator().manual_seed(1))["loss"].item()
    assert own == first


def test_a_mode_without_any_token_is_not_trained_and_not_drawn(small, tmp_path, cells):
    alone = Cells(n=40, present=((True, True, False, False),) * 2)
    model = Model.create(Params(**SETTINGS), alone, Context(0, "cpu", 1, tmp_path))
    assert model.made_for.modes == ("recon", "gene2img")
    assert model.describe()["draws"] == "recon, gene2img"
    batch = alone.read(np.arange(3))
    with pytest.raises(InputError, match="context2img: this generator was not trained for it; choose one of recon"):
        model.draw(batch, "context2img", QUICK, 0)
    with pytest.raises(InputError, match="no token for context2img"):
        Model.create(Params(**{**SETTINGS, "modes": ["context2img"]}), alone, Context(0, "cpu", 1, tmp_path))
    with pytest.raises(InputError, match="none of the encoded cells is in the training split"):
        Model.create(Params(**SETTINGS), Cells(n=0), Context(0, "cpu", 1, tmp_path))


def test_weights_of_other_settings_are_refused(learnt, small):
    for change, message in (
        ({"prediction": "epsilon"}, "prediction v, the settings say epsilon"),
        ({"token_width": 24}, "token_width 16, the settings say 24"),
    ):
        with pytest.raises(InputError, match=message):
            Model.restore(learnt.params.model_copy(update=change), learnt.arrays(), ())
    arrays = learnt.arrays()
    del arrays["conditions.null"]
    with pytest.raises(InputError, match=r"lacks conditions\.null"):
        Model.restore(learnt.params, arrays, ())


def test_all_weights_are_trained(learnt):
    grouped = [value for group in learnt.groups() for value in group["params"]]
    assert len(grouped) == len(list(learnt.net.parameters()))
    assert {group["weight_decay"] for group in learnt.groups()} == {0.0, 0.01}
