from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.models.contract import Context
from mistline.models.fusion.model import Model, gather
from mistline.models.fusion.params import PRESETS, Params
from mistline.models.fusion.training import Part, outputs_of
from mistline.models.predictor import SlideCells
from mistline.train.device import cpu_threads
from mistline.train.predict import predict_fold

PACKAGE = "mistline.models.fusion"
CONTEXT = Context(0, "cpu", 1, None)
GENES_ONLY = [name for name, parts in PRESETS.items() if not {"frozen"} & set(parts.values())]
SMALL = {"width": 16, "hidden": 16, "epochs": 3, "min_epochs": 1, "n_genes": 60}


def trained(problem, **values):
    model = Model.create(Params(**{**SMALL, **values}), problem, CONTEXT)
    return model, list(model.fit(problem, CONTEXT))


def predicted(problem, **values):
    model, _ = trained(problem, **values)
    return list(model.predict(problem, CONTEXT))


@pytest.mark.parametrize("preset", GENES_ONLY)
def test_every_preset_gives_distributions_and_a_course(preset, problem):
    given = problem()
    model, course = trained(given, preset=preset)
    (found,) = model.predict(given, CONTEXT)
    assert found.shape == (256, 7)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert [row["step"] for row in course] == [1, 2, 3]
    assert set(course[0]) == {"step", "loss", "lr", "val_loss", "val_macro_f1"}


@pytest.mark.parametrize(
    "values",
    [
        {"preset": "frozen_only", "frozen": "a"},
        {"preset": "frozen_full", "frozen": "a"},
        {"preset": "img_expr", "frozen_image": "b"},
        {"preset": "multimodal", "frozen_image": "b"},
        {"preset": "multimodal", "encoder": "frozen", "frozen": "a", "frozen_image": "b"},
        {"encoder": "mlp", "graph": "gcn", "image": "frozen", "frozen_image": "b", "fusion": "concat"},
    ],
)
def test_embeddings_of_other_runs_are_read(values, problem, changed):
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=(256, 9)), "b": rng.normal(size=(256, 5))}
    given = changed(problem(), embeddings={name: value.astype(np.float32) for name, value in rows.items()})
    before = predicted(given, **values)[0]
    assert np.isfinite(before).all()
    for name in {values.get("frozen"), values.get("frozen_image")} - {None}:
        other = {key: value[::-1].copy() if key == name else value for key, value in given.slides[0].embeddings.items()}
        assert np.abs(predicted(changed(given, embeddings=other), **values)[0] - before).max() > 1e-4


@pytest.mark.parametrize("parts", [{"image": "trainable"}, {"preset": "multimodal", "image": "trainable"}])
def test_images_are_learned_from(parts, problem, changed):
    class Crops:
        channels = ("DAPI",)

        def __call__(self, rows, size_px):
            light = (label[rows] * 30 + 20)[:, None, None, None]
            return np.broadcast_to(light, (len(rows), 1, size_px, size_px)).astype(np.uint8)

    from tests.unit.models.fusion.conftest import spots

    label = spots(16)["d0s0"].layer
    given = changed(problem(), images=Crops())
    found = predicted(given, **parts, image_size=16, epochs=30, learning_rate=5e-3)[0]
    test = given.slides[0].part == "test"
    assert (found[test].argmax(axis=1) == label[test]).mean() > 0.8
    with pytest.raises(InputError, match="d0s0: it has no images"):
        predicted(problem(), **parts)


def test_slides_together_give_the_logits_of_each_alone(problem):
    both = problem(2)
    params = Params(preset="cross_attention", official=False, **SMALL)
    model, _ = trained(both, **params.model_dump())
    cells, _ = gather(params, both)
    whole = _outputs(model, cells)
    for number, rows in enumerate(np.split(np.arange(len(cells)), 2)):
        alone = gather(params, replace(both, slides=[both.slides[number]]))[0]
        alone._features = replace(cells._features, rows=cells._features.rows[rows])  # genes are fitted on both
        np.testing.assert_allclose(_outputs(model, alone), whole[rows], atol=1e-5)


def _outputs(model, cells):
    found = outputs_of(model.network, Part(cells, np.arange(len(cells))), "cpu")
    return np.concatenate([values.numpy() for _, values in found])


@pytest.mark.parametrize("preset", ["gcn_only", "cross_attention"])
def test_order_of_the_spots_does_not_matter(preset, problem):
    given = problem()
    model, _ = trained(given, preset=preset, scaling="slide", official=preset == "cross_attention")
    before = _outputs(model, gather(model.params, given)[0])
    order = np.random.default_rng(0).permutation(256)
    slide = given.slides[0]
    moved = {name: getattr(slide, name)[order] for name in ("counts", "xy_um", "array_yx", "label", "part")}
    ids = [slide.cell_id[i] for i in order]
    shuffled = replace(given, slides=[replace(slide, cell_id=ids, **moved)])
    np.testing.assert_allclose(_outputs(model, gather(model.params, shuffled)[0]), before[order], atol=1e-4)


@pytest.mark.parametrize("preset", ["gat_only", "gcn_only", "cross_attention"])
def test_a_cell_without_neighbours_and_two_at_one_place_are_no_trouble(preset, problem, changed):
    given = problem()
    xy = given.slides[0].xy_um.copy()
    xy[0], xy[5] = 1e6, xy[6]
    given = changed(given, xy_um=xy, array_yx=None)
    (found,) = predicted(given, preset=preset, neighbours={"kind": "radius", "radius_um": 110.0})
    assert np.isfinite(found).all()


def test_cells_without_label_stay_in_the_graph(problem, changed):
    given = problem()
    before = predicted(given, preset="gcn_only")[0]
    counts = given.slides[0].counts.tolil()
    counts[given.slides[0].part == "unlabelled"] = 0
    after = predicted(changed(given, counts=sparse.csr_matrix(counts)), preset="gcn_only")[0]
    labelled = given.slides[0].part != "unlabelled"
    assert np.abs(after - before)[labelled].max() > 1e-3


@pytest.mark.parametrize("preset", ["expr_only", "gat_only", "cross_attention"])
def test_same_seed_same_bytes_other_seed_others(preset, problem):
    given = problem()
    first, second = (predicted(given, preset=preset)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    model = Model.create(Params(preset=preset, **SMALL), given, replace(CONTEXT, seed=1))
    list(model.fit(given, replace(CONTEXT, seed=1)))
    assert next(iter(model.predict(given, CONTEXT))).tobytes() != first.tobytes()


def test_threads_change_nothing_that_counts(problem):
    given, found = problem(), []
    for threads in (1, 2):
        with cpu_threads(threads):
            found.append(predicted(given, preset="cross_attention")[0])
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("preset", ["expr_only", "gcn_only", "gat_only", "cross_attention"])
def test_batches_predict_what_the_whole_slide_does(preset, problem):
    given = problem(2)
    model, _ = trained(given, preset=preset)
    whole = _outputs(model, gather(model.params, given)[0])
    cells, _ = gather(model.params.model_copy(update={"full_batch_below": 1, "batch_cells": 50}), given)
    found = np.full_like(whole, np.nan)
    for chosen, values in outputs_of(model.network, Part(cells, np.arange(len(cells))), "cpu"):
        assert len(chosen) <= 50
        found[chosen] = values.numpy()
    np.testing.assert_allclose(found, whole, atol=1e-4)


def test_sampled_training_learns_too(problem):
    from tests.unit.models.fusion.conftest import spots

    given = problem(1)
    found = predicted(
        given, preset="gcn_only", full_batch_below=1, batch_cells=64, fanout=3, epochs=25, width=32, n_genes=200
    )[0]
    test = given.slides[0].part == "test"
    assert (found[test].argmax(axis=1) == spots(16)["d0s0"].layer[test]).mean() > 0.5


def test_genes_are_chosen_and_scaled_by_training_cells_alone(problem, changed):
    given = problem()
    params = Params(preset="gcn_only", **SMALL)
    before = gather(params, given)[0]._features
    counts = given.slides[0].counts.copy()
    others = np.flatnonzero(given.slides[0].part != "train")
    values = counts.toarray()
    values[others] = 7 * values[others][:, ::-1]
    shuffled = sparse.csr_matrix(values)
    after = gather(params, changed(given, counts=shuffled))[0]._features
    np.testing.assert_array_equal(before.scaler.mean, after.scaler.mean)
    np.testing.assert_array_equal(before.scaler.spread, after.scaler.spread)
    by_slide = gather(params.model_copy(update={"scaling": "slide"}), given)[0]._features
    assert (by_slide.scaler.mean != before.scaler.mean).any()


def test_what_is_missing_is_said(problem, changed):
    given = problem()
    with pytest.raises(InputError, match="share no gene"):
        Model.create(Params(preset="gated"), replace(given, genes=()), CONTEXT)
    nowhere = changed(given, xy_um=np.full((256, 2), np.nan), array_yx=None)
    with pytest.raises(InputError, match="d0s0: its cells have no coordinates"):
        trained(nowhere, preset="gat_only")
    assert np.isfinite(predicted(nowhere, preset="expr_only")[0]).all()
    with pytest.raises(InputError, match="d0s0: its cells lie on no array"):
        trained(changed(given, array_yx=None), preset="gat_only", neighbours={"kind": "hexagonal"})


def test_an_embedding_that_is_not_finite_is_refused_with_the_cell(problem, changed):
    rows = np.zeros((256, 4), dtype=np.float32)
    rows[17, 2] = np.nan
    given = changed(problem(), embeddings={"a": rows})
    with pytest.raises(InputError, match=f"d0s0/{given.slides[0].cell_id[17]}: its embedding by a is not finite"):
        predict_fold(PACKAGE, Params(preset="frozen_only", frozen="a", **SMALL), given, CONTEXT)


def test_one_class_among_the_training_cells_is_no_trouble(problem, changed):
    given = problem()
    label = np.where(given.slides[0].label >= 0, 2, -1)
    (found,) = predicted(changed(given, label=label), preset="gat_only", epochs=30)
    assert (found.argmax(axis=1) == 2).mean() > 0.98


def test_slide_cells_hold_no_label_of_a_tested_cell(problem):
    slide: SlideCells = problem().slides[0]
    assert (slide.label[slide.part == "test"] == -1).all()
