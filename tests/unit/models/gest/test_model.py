"""The registered model: what it holds, learns, embeds and answers."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from mistline.config.base import validate
from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.infer.fill import fill
from mistline.models.contract import Context
from mistline.models.gest.model import Model
from mistline.models.gest.params import Params
from tests.unit.models.gest import synthetic
from tests.unit.models.gest.synthetic import SETTINGS, K, Tissue


def _context(folder, seed: int = 0) -> Context:
    return Context(seed, "cpu", 1, folder)


def _created(folder, tissue: Tissue | None = None, seed: int = 0, **settings) -> Model:
    return Model.create(Params(**{**SETTINGS, **settings}), tissue or Tissue(n=200), _context(folder, seed))


def _embedded(model: Model, tissue: Tissue, folder) -> np.ndarray:
    return np.concatenate([block.z for block in model.embed(tissue, _context(folder))])


def test_neighbours_tell_what_a_cell_is(learnt):
    _, rows = learnt
    chance = Tissue(n=300, seed=9).metacell
    share = np.bincount(chance, minlength=K) / len(chance)
    assert rows[-1]["val_accuracy"] > share.max() + 0.15
    assert rows[-1]["val_level_0"] < 0.9 * -(share * np.log(share)).sum()


def test_asked_places_follow_the_cells_around_them(learnt):
    model, _ = learnt
    tissue = Tissue(n=600, seed=4)
    inside = (np.abs(tissue.xy_um - 120) < 40).all(axis=1)
    hidden = inside & (np.random.default_rng(0).random(len(inside)) < 0.5)
    near = (np.abs(tissue.xy_um - 120) < 45).all(axis=1) & ~hidden
    given = (tissue.xy_um[near] - 120, tissue.metacell[near], tissue.xy_um[hidden] - 120)
    found = model.tell(*given)
    assert found.shape == (hidden.sum(), K)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == tissue.metacell[hidden]).mean() > 0.45
    with pytest.raises(InputError, match="no cell is seen"):
        model.tell(np.zeros((0, 2)), np.zeros(0, dtype=int), given[2])


def test_restored_it_embeds_the_same_to_the_bit(learnt, tmp_path):
    model, _ = learnt
    tissue = Tissue(n=150, seed=2)
    again = Model.restore(model.params, model.arrays(), model.genes)
    before = _embedded(model, tissue, tmp_path)
    assert before.shape == (150, model.params.width)
    np.testing.assert_array_equal(before, _embedded(again, tissue, tmp_path))
    assert again.describe() == model.describe()
    with pytest.raises(InputError, match="window_um"):
        Model.restore(Params(**{**SETTINGS, "window_um": 91}), model.arrays(), model.genes)


def test_the_niche_is_embedded(learnt, tmp_path):
    model, _ = learnt
    tissue = Tissue(n=150, seed=2)
    before = _embedded(model, tissue, tmp_path)
    near = np.linalg.norm(tissue.xy_um - tissue.xy_um[0], axis=1)
    others = np.flatnonzero((near < 40) & (tissue.metacell != tissue.metacell[0]))
    swapped = Tissue(n=150, seed=2)
    one, two = others[0], np.flatnonzero((near < 40) & (tissue.metacell != tissue.metacell[others[0]]))[-1]
    swapped.metacell[[one, two]] = swapped.metacell[[two, one]]
    after = _embedded(model, swapped, tmp_path)
    assert np.abs(after[0] - before[0]).max() > 1e-3
    far = (np.abs(tissue.xy_um - tissue.xy_um[one]) > 50).any(axis=1)
    far &= (np.abs(tissue.xy_um - tissue.xy_um[two]) > 50).any(axis=1)
    np.testing.assert_allclose(after[far], before[far], atol=1e-5)


def test_where_the_slide_lies_changes_nothing(learnt, tmp_path):
    model, _ = learnt
    tissue, moved = Tissue(n=100, seed=2), Tissue(n=100, seed=2)
    tissue.xy_um = np.round(tissue.xy_um * 8) / 8  # moving it by 4096 um is exact
    moved.xy_um = tissue.xy_um + np.float32(4096)
    np.testing.assert_array_equal(_embedded(model, tissue, tmp_path), _embedded(model, moved, tmp_path))
    hidden = (np.abs(tissue.xy_um - 120) < 40).all(axis=1)
    filled = [fill(model, item.xy_um, item.metacell, hidden).told for item in (tissue, moved)]
    np.testing.assert_array_equal(*filled)


def test_windows_are_of_the_part_of_their_centre(tmp_path):
    train, val = Tissue(n=200), Tissue(n=200, seed=1)
    model = _created(tmp_path, train)
    with pytest.raises(InputError, match="no part"):
        model.prepare(val.read(np.arange(4)), "cpu")
    model.meet(val)
    for tissue in (train, val):
        rows = np.arange(6)
        inputs = model.prepare(tissue.read(rows), "cpu")
        inside = (np.abs(tissue.xy_um[rows][:, None] - tissue.xy_um) <= 45).all(axis=2)
        assert inputs.lengths == tuple(inside.sum(axis=1).tolist())
        np.testing.assert_array_equal(inputs.content.numpy(), tissue.metacell[np.nonzero(inside)[1]])
        at_centre = (inputs.delta_um == 0).all(dim=1)
        assert inputs.window[at_centre].tolist() == rows.tolist()


def test_slides_do_not_mix_and_small_windows_are_left_out(tmp_path):
    tissue = Tissue(n=200, slides=("a", "b"))
    tissue.xy_um[0] = 5000
    model = _created(tmp_path, tissue)
    rows = np.array([0, 150, 3])
    inputs = model.prepare(tissue.read(rows), "cpu")
    inside = (np.abs(tissue.xy_um[rows][:, None] - tissue.xy_um) <= 45).all(axis=2)
    inside &= tissue.slide[rows][:, None] == tissue.slide
    assert sorted(inputs.lengths) == sorted(inside.sum(axis=1)[1:].tolist())
    assert "left out" in model.describe()["Windows"]
    with pytest.raises(InputError, match="windows of 1 um"):
        _created(tmp_path, tissue, window_um=1.0)


def test_the_seed_decides_the_weights(tmp_path):
    one, two, other = (_created(tmp_path, seed=seed).arrays() for seed in (1, 1, 2))
    assert {name: value.tobytes() for name, value in one.items()} == {n: v.tobytes() for n, v in two.items()}
    assert one["tokens.read.weight"].tobytes() != other["tokens.read.weight"].tobytes()


def test_same_seed_same_training(learnt, tmp_path):
    rows = [synthetic.trained(tmp_path / name, steps=6)[1] for name in ("one", "two")]
    assert rows[0] == rows[1]


def test_a_table_gets_meta_cells_of_its_own(tmp_path):
    tissue = Tissue(n=300, own=False)
    model = _created(tmp_path, tissue, n_metacells=K, n_components=4, levels=(3, 2), min_cells_metacell=5)
    assert model.prepare(tissue.read(np.arange(4)), "cpu").content.max() < K
    again = Model.restore(model.params, model.arrays(), model.genes)
    np.testing.assert_array_equal(again.cells_of(tissue).cells.content, model.cells_of(tissue).cells.content)
    assert len({*zip(tissue.metacell, model.cells_of(tissue).cells.content, strict=True)}) == K
    np.testing.assert_array_equal(_embedded(again, tissue, tmp_path), _embedded(model, tissue, tmp_path))


def test_other_meta_cells_are_refused(tmp_path):
    model, other = _created(tmp_path), Tissue(n=50)
    other.vocabulary.expression[0, 0] += 1
    with pytest.raises(InputError, match="not those"):
        _embedded(model, other, tmp_path)
    with pytest.raises(InputError, match="no meta-cells"):
        _embedded(model, Tissue(n=50, own=False), tmp_path)


def test_every_weight_is_in_one_group(tmp_path):
    model = _created(tmp_path)
    groups = model.groups()
    assert sum(len(group["params"]) for group in groups) == len(list(model.net.parameters()))
    plain = next(group["params"] for group in groups if group["weight_decay"] == 0)
    assert any(value is model.net.tokens.asked for value in plain)
    assert not any(value is model.net.tokens.read.weight for value in plain)


@pytest.mark.parametrize(
    "wrong", [{"width": 18, "heads": 2}, {"width": 20, "heads": 3}, {"min_cells": 9, "max_cells": 8}]
)
def test_settings_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ConfigError):
        validate(Params, wrong, "models.gest.params")


def test_sizes_fill_in_and_steps_of_places_follow_the_training_window():
    assert Params(size="paper").step_um == 3.0
    assert Params(size="tiny", width=16).width == 16
    assert Params(size="tiny").niche_um == Params(size="tiny").window_um
    assert Params(window_um=90).step_um == 3.0
    assert Params(window_um=900).step_um == 4.5
    assert Params(window_um=300, bin_um=1).step_um == 1.0


PLAIN = {"quantised": False, "n_components": 4}


def test_without_quantisation_profiles_are_read_and_learned(tmp_path):
    model, rows = synthetic.trained(tmp_path, steps=60, **PLAIN)
    assert rows[-1]["val_loss"] < 0.95  # of genes of variance 1
    tissue = Tissue(n=200, seed=3)
    content = model.cells_of(tissue).cells.content
    np.testing.assert_allclose(content, tissue.expression, atol=1e-5)
    given = (tissue.xy_um[:50] - 120, content[:50], tissue.xy_um[50:60] - 120)
    told = model.tell(*given)
    assert told.shape == (10, model.expression.shape[0])
    np.testing.assert_array_equal(model.entered(told) @ model.expression, told)
    again = Model.restore(model.params, model.arrays(), model.genes)
    np.testing.assert_array_equal(again.tell(*given), told)
    np.testing.assert_array_equal(_embedded(again, tissue, tmp_path), _embedded(model, tissue, tmp_path))
    with pytest.raises(InputError, match="quantised False, the settings say True"):
        Model.restore(Params(**SETTINGS), model.arrays(), model.genes)


def test_training_goes_on_from_a_trained_model(learnt, tmp_path):
    model, rows = learnt
    path = tmp_path / "weights.safetensors"
    save_file(model.arrays(), path)
    start = {"start": str(path), "start_sha256": hash_file(path)}
    again, more = synthetic.trained(tmp_path, **start, steps=2, learning_rate=1e-5)
    assert more[-1]["val_loss"] == pytest.approx(rows[-1]["val_loss"], abs=0.05)
    assert again.describe()["Meta-cells"] == model.describe()["Meta-cells"]
    with pytest.raises(InputError, match="start_sha256"):
        _created(tmp_path, **{**start, "start_sha256": "0" * 64})
    other = Tissue(n=200)
    other.vocabulary.expression[0, 0] += 1
    with pytest.raises(InputError, match="not those"):
        _created(tmp_path, other, **start)
    with pytest.raises(ConfigError, match="belong together"):
        validate(Params, {"start": str(path)}, "models.gest.params")


def test_a_preset_changes_one_part_and_settings_that_are_given_stand():
    assert Params(preset="no_quantisation").quantised is False
    assert (Params(preset="l16h16", size="paper").layers, Params(preset="l16h16", layers=3).layers) == (16, 3)
    with pytest.raises(ConfigError, match="unknown preset 'l3h3'"):
        validate(Params, {"preset": "l3h3"}, "models.gest.params")
