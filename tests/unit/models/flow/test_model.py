from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mistline.config.generation import Merge, Sampling
from mistline.core.errors import ConfigError, InputError
from mistline.models.contract import Context
from mistline.models.diffusion import generator as registered
from mistline.models.flow.model import Model
from mistline.models.flow.network import Inputs
from mistline.models.flow.params import Params
from mistline.models.flow.path import TIMES, midpoint
from tests.unit.models.diffusion.synthetic import MICRO
from tests.unit.models.flow.synthetic import SETTINGS, Pairs, trained

PLAIN = Sampling(steps=4, guidance=1.0)


@pytest.fixture(scope="module", autouse=True)
def _micro():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registered.SIZES, "tiny", MICRO)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(_micro, tmp_path_factory) -> Model:
    return trained(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def fresh(_micro, tmp_path_factory) -> Model:
    context = Context(1, "cpu", 1, tmp_path_factory.mktemp("none"))
    return Model.create(Params(**SETTINGS), Pairs(), context)


def told(drawn: torch.Tensor, cells) -> np.ndarray:
    """Return [B] how far each control cell was moved, on average over its latents."""
    return (drawn - cells.start).mean((1, 2, 3)).numpy()


def test_a_flow_moves_control_cells_as_their_targets_say_and_not_as_others_say(model):
    pairs = Pairs(n=96, seed=2)
    cells = pairs.read(np.arange(96))
    moved = told(model.draw(cells, "recon", PLAIN, 0), cells)
    assert np.corrcoef(moved, pairs.follows)[0, 1] > 0.85
    assert 0.6 < np.abs(moved).mean() < 1.4
    drawn = model.draw(cells, "gene2img", PLAIN, 0)
    assert (drawn - cells.mean).square().mean() < 0.3 * (cells.start - cells.mean).square().mean()
    turn = np.random.default_rng(0).permutation(96)
    dealt = told(model.draw(replace(cells, tokens=cells.tokens[turn]), "recon", PLAIN, 0), cells)
    assert abs(np.corrcoef(dealt, pairs.follows)[0, 1]) < 0.4
    assert np.corrcoef(dealt, pairs.follows[turn])[0, 1] > 0.85


def test_guidance_goes_on_from_the_unconditional_velocity_and_its_weight_is_the_published_one_plus_one(model):
    cells = Pairs(n=8, seed=3).read(np.arange(8))
    drawn = {w: model.sample(cells.start, cells.tokens, "recon", Sampling(steps=1, guidance=w)) for w in (0, 1, 1.2)}
    assert np.abs(told(drawn[1.2], cells)).mean() > np.abs(told(drawn[1], cells)).mean()
    with torch.no_grad(), model.net.average.applied():
        tokens = model.net.conditions(cells.tokens, torch.zeros(8, dtype=torch.int64))
        empty = model.net.conditions.empty(8)

        def published(x, time, s=0.2):
            return (1 + s) * model.net.predict(x, time, tokens) - s * model.net.predict(x, time, empty)

        expected = midpoint(published, cells.start, 1)
        unguided = midpoint(lambda x, time: model.net.predict(x, time, empty), cells.start, 1)
    torch.testing.assert_close(drawn[1.2], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(drawn[0], unguided, atol=1e-4, rtol=1e-4)


def test_what_is_drawn_hangs_neither_on_the_batch_nor_on_the_seed_and_survives_being_stored(model):
    cells = Pairs(n=6, seed=4).read(np.arange(6))
    one = model.draw(cells, "recon", Sampling(steps=2), 0)
    few = model.draw(cells, "recon", Sampling(steps=2, batch_size=4), 9)
    torch.testing.assert_close(few, one, atol=1e-5, rtol=1e-5)
    again = Model.restore(model.params, model.arrays(), ())
    assert torch.equal(again.draw(cells, "recon", Sampling(steps=2), 0), one)
    assert "A -> B" in again.describe()["transitions"]


def test_tokens_of_the_unet_can_be_merged_while_it_draws(model):
    cells = Pairs(n=4, seed=4).read(np.arange(4))
    found = [
        model.draw(cells, "recon", Sampling(steps=2, merge=Merge(way="cfg", ratio=ratio, smallest=4)), 0)
        for ratio in (0.0, 0.5)
    ]
    assert torch.isfinite(found[1]).all()
    assert not torch.equal(*found)


def test_the_midpoint_rule_solves_an_ode_to_second_order_and_is_told_the_time():
    """x' = x cos(t) has the solution x0 exp(sin t)."""
    x = torch.full((1, 1, 1, 1), 1.5, dtype=torch.float64)
    exact = 1.5 * np.exp(np.sin(1.0))
    wrong = []
    for steps in (8, 16):
        found = midpoint(lambda x, time: x * np.cos(time / TIMES), x, steps)
        wrong.append(abs(float(found) - exact))
    assert wrong[1] < 1e-3
    assert 3.3 < wrong[0] / wrong[1] < 4.7


def test_a_straight_path_is_followed_exactly_in_one_step():
    start, end = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(midpoint(lambda x, time: end - start, start, 1), end)


def test_sure_pairs_weigh_more_and_the_mean_weight_is_that_of_all_training_pairs(fresh):
    net, pairs = fresh.net.train(False), Pairs()
    confidence = torch.from_numpy(pairs.confidence)
    torch.testing.assert_close(net.mean_weight, confidence.mean().float())
    cells = pairs.read(np.arange(2))
    one = fresh.prepare(cells, "cpu")
    far = Inputs(one.start, torch.stack([one.end[0] + 10, one.end[1]]), one.tokens, torch.tensor([0.9, 0.3]))

    def losses(inputs):
        with torch.no_grad():
            return net(inputs, torch.Generator().manual_seed(0))

    sure, unsure = losses(far), losses(replace(far, confidence=torch.tensor([0.3, 0.9])))
    assert sure["unweighted"] == unsure["unweighted"]
    assert sure["loss"] > 2 * unsure["loss"]
    alike = losses(replace(far, confidence=torch.full((2,), float(net.mean_weight))))
    torch.testing.assert_close(alike["loss"], alike["unweighted"])


def test_condition_dropout_is_drawn_for_each_pair_of_a_batch(fresh):
    tokens = Pairs(n=64).read(np.arange(64)).tokens
    net, before = fresh.net, fresh.net.asked
    net.asked = replace(before, dropout=0.5)
    found = net.ask(tokens, torch.Generator().manual_seed(0))
    net.asked = before
    empty = (found == net.conditions.empty(64)).flatten(1).all(1)
    assert 16 < int(empty.sum()) < 48


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"label": "other"}, "label"),
        ({"transitions": [["B", "A"]]}, "transitions"),
        ({"token_width": 32}, "token_width"),
    ],
)
def test_weights_of_other_settings_are_refused(fresh, changes, what):
    with pytest.raises(InputError, match=f"they are of a model with {what}"):
        Model.restore(Params(**{**SETTINGS, **changes}), fresh.arrays(), ())


def test_a_mode_that_was_not_trained_is_refused(fresh):
    cells = Pairs(n=2).read(np.arange(2))
    with pytest.raises(InputError, match="not trained for it; choose one of recon, gene2img, context2img"):
        fresh.draw(cells, "img2gene", PLAIN, 0)
    with pytest.raises(ConfigError, match="guidance 1 tells nothing"):
        fresh.draw(cells, "recon", Sampling(steps=1, guidance=1, merge=Merge(way="cfg")), 0)


def test_a_flow_starts_from_a_cell_and_cannot_be_run_from_noise():
    assert not hasattr(Model, "invert")  # by which the stages `edit` and `sweep` know whom to refuse
