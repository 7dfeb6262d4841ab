"""What the layers of the toy must show: places tell a slide's layers and nothing of another donor's; genes of the
neighbours help, everywhere.
"""

from __future__ import annotations

import numpy as np
import pytest

from mistline.models.contract import Context
from mistline.models.fusion.model import Model
from mistline.models.fusion.params import Params
from mistline.tasks.domain_folds import donors_out, leave_out, random_spots, spatial_blocks
from mistline.tasks.label_controls import nearest_labels
from tests.unit.models.fusion.conftest import cells_table, problem_of, spots
from tests.unit.tasks.divided import long

N_GENES = 300
CONTEXT = Context(0, "cpu", 1, None)


def _scores(items, fold, scaling="train"):
    """Return accuracy on the tested spots: the nearest places' labels, genes alone, genes of neighbours."""
    problem = problem_of(items, fold)
    truth = {item.slide: item.layer for item in items}
    tested = [slide.part == "test" for slide in problem.slides]
    label = np.concatenate([truth[slide.slide][own] for slide, own in zip(problem.slides, tested, strict=True)])
    found = {"places": (_by_places(problem, truth)[np.concatenate(tested)] == label).mean()}
    for name, preset in (("mlp", "expr_only"), ("gcn", "gcn_only")):
        model = Model.create(Params(preset=preset, epochs=45, width=64, hidden=64, scaling=scaling), problem, CONTEXT)
        list(model.fit(problem, CONTEXT))
        rows = zip(model.predict(problem, CONTEXT), tested, strict=True)
        predicted = np.concatenate([values[own].argmax(axis=1) for values, own in rows])
        found[name] = (predicted == label).mean()
    return found


def _by_places(problem, truth):
    scaled = [(slide.xy_um - slide.xy_um.min(0)) / np.ptp(slide.xy_um, axis=0) for slide in problem.slides]
    xy, part = np.concatenate(scaled), np.concatenate([slide.part for slide in problem.slides])
    label = np.concatenate([truth[slide.slide] for slide in problem.slides])
    train, val = part == "train", part == "val"
    return nearest_labels(xy[train], label[train], xy[val], label[val], xy, 7)[0].argmax(axis=1)


@pytest.fixture(scope="module")
def slides():
    return list(spots(30, N_GENES).values())


def test_at_random_spots_places_alone_do_about_as_well(slides):
    found = _scores(slides[:1], long(random_spots(cells_table(slides[:1]), "label_layer", 0.6, 0)))
    assert abs(found["places"] - found["gcn"]) < 0.1
    assert found["gcn"] > found["mlp"] + 0.15


def test_in_blocks_places_alone_collapse(slides):
    folds = long(spatial_blocks(cells_table(slides[:1]), "label_layer", 4, 2, 0))
    found = [_scores(slides[:1], folds[folds["fold"] == number]) for number in (0, 2)]
    mean = {name: np.mean([scores[name] for scores in found]) for name in found[0]}
    assert mean["places"] < 0.7
    assert mean["gcn"] > mean["mlp"] + 0.05


def test_in_another_donor_places_alone_are_at_chance(slides):
    chosen = [slides[0], slides[2]]
    folds = long(leave_out(cells_table(chosen), "label_layer", donors_out(cells_table(chosen)), 0))
    found = _scores(chosen, folds[folds["fold"] == 0], "slide")  # each donor has its own level of every gene
    largest = np.bincount(slides[0].layer).max() / len(slides[0].layer)
    assert found["places"] < largest + 0.05
    assert found["gcn"] >= found["mlp"]
