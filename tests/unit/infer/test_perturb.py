"""Perturbing tissue whose rule is known: what is generated at a place is the mean of the cells within 30 um."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mistline.config.perturbation import Perturbation
from mistline.core.errors import ConfigError, InputError
from mistline.infer.fill_slides import Cells
from mistline.infer.perturb import Change, changed
from mistline.infer.perturb_slides import Opened, perturb_slides
from mistline.infer.requantise import profiles_of
from mistline.models.gest.vocabulary import Query
from mistline.store.embeddings import Origin

GENES = ("LIGAND", "TARGET", "OTHER", "MORE")
RULE = Perturbation(activated=("ligand",), inhibited=("OTHER",), n_rois=1, radius_um=40, ring_um=60, sweep=(0.25, 0.5))
CENTRES = np.array([[0, 1, 1, 1], [3, 1, 0, 1], [0, 3, 1, 1]], dtype=np.float32)  # plain, ligand, responding


class Model:
    """Cells near a ligand respond; the query gives each profile its nearest centre."""

    window_um, is_quantised, genes, expression = 60.0, True, GENES, CENTRES
    params = SimpleNamespace(min_overlap=0.5)
    query = Query(
        np.array([2]), np.array([1.0]), np.full(4, 0.25), np.zeros(4, np.float32), np.eye(4, dtype=np.float32), CENTRES
    )

    def entered(self, told):
        return told.argmax(axis=1)

    def tell(self, seen_xy_um, seen, target_xy_um):
        near = np.hypot(*(target_xy_um[:, None] - seen_xy_um).transpose(2, 0, 1)) <= 30
        share = 0.5 * (near & (seen == 1)).any(axis=1)
        return np.stack([1 - share, np.zeros_like(share), share], axis=1)


class Source:
    """Profiles as they are measured."""

    genes, symbols, slides, values = GENES, GENES, ("s",), "log"

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.panels = rows, {"s": np.ones(4, dtype=bool)}

    def batches(self, needs):
        for start in range(0, len(self.rows), 500):
            yield SimpleNamespace(genes=torch.from_numpy(self.rows[start : start + 500]), measured=None)


@pytest.fixture(scope="module")
def opened() -> Opened:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 350, (800, 2)).astype(np.float32)
    content = np.zeros(len(xy), dtype=np.int64)
    rows = CENTRES[content] + rng.uniform(-0.1, 0.1, (len(xy), 4)).astype(np.float32)
    rows[0, 0] = 4  # the largest ligand of the slide
    rows = np.maximum(rows, 0)
    content = Model.query.assign(rows, np.ones_like(rows, dtype=bool))
    return Opened(Cells("s", [f"c{i}" for i in range(len(xy))], xy, content, np.ones(len(xy), bool)), Source(rows))


def run(opened: Opened, rule: Perturbation = RULE, model: Model | None = None):
    origin = Origin("gest", 0, "w", "v1")
    return perturb_slides(model or Model(), [("s", lambda: opened)], rule, origin, lambda: pytest.fail("not asked for"))


def test_a_change_is_that_of_the_paper():
    away, width = np.array([0.0, 20.0, 1000.0]), 20.0
    found = changed(np.full((3, 3), 2.0), away, Change((0,), (2,)), np.array([5.0, 9.0, 9.0]), width)
    share = np.exp([0, -0.5, -1250])
    np.testing.assert_allclose(found, np.stack([5 * share, np.full(3, 2.0), 2 * (1 - share)], axis=1))


def test_targets_move_around_the_changed_circle_and_nowhere_else(opened):
    found = run(opened)
    told = found.told @ CENTRES

    def mean(variant, sigma, cells):
        own = (found.variant == variant) & np.isclose(found.sigma, sigma) & cells
        return told[own, 1].mean()

    near, far = found.distance_um <= 60, found.distance_um > 75
    assert mean("perturbed", 0.5, near) > mean("control", 0, near) + 0.1
    assert mean("perturbed", 0.25, near) < mean("perturbed", 0.5, near)
    for variant, sigma, cells in (("perturbed", 0.5, far), ("elsewhere", 0.5, near), ("random_genes", 0.5, near)):
        assert mean(variant, sigma, cells) == pytest.approx(mean("control", 0, cells)), variant
    roi = found.about["rois"][0]
    assert roi["elsewhere_is_far"]
    assert (roi["other_activated"], roi["other_inhibited"]) in ((["TARGET"], ["MORE"]), (["MORE"], ["TARGET"]))
    share = {(own["variant"], own["sigma"]): own["share"] for own in found.about["share_changed"]}
    assert 0 < share["perturbed", 0.25] < share["perturbed", 0.5] < 1
    again = run(opened)
    np.testing.assert_array_equal(found.told, again.told)
    for variant in ("perturbed", "elsewhere"):
        own = (found.variant == variant) & np.isclose(found.sigma, 0.5)
        assert found.cell_id[own].tolist() == found.cell_id[found.variant == "control"].tolist()


def test_the_largest_value_is_that_of_visible_cells(opened):
    cells = opened.cells
    rule = RULE.model_copy(update={"inhibited": (), "at": (("s", 175.0, 175.0),), "sweep": ()})

    def bright(x: float) -> Opened:
        xy = cells.xy_um.copy()
        xy[0] = x, 175
        return Opened(Cells("s", cells.cell_id, xy, cells.content, cells.tested), opened.source)

    share = [run(own, rule).about["share_changed"][0]["share"] for own in (bright(20), bright(245))]
    assert share[0] > share[1] == 0  # without the one bright cell, no ligand is high enough for another meta-cell


class Profiles(Model):
    """Sees cells as profiles."""

    is_quantised, expression = False, np.eye(4, dtype=np.float32)

    def entered(self, told):
        return told.astype(np.float32)

    def tell(self, seen_xy_um, seen, target_xy_um):
        near = np.hypot(*(target_xy_um[:, None] - seen_xy_um).transpose(2, 0, 1)) <= 30
        return (near @ seen) / np.maximum(near.sum(axis=1, keepdims=True), 1)


def test_cells_that_are_profiles_are_changed_as_they_are(opened):
    rows = np.concatenate([batch.genes.numpy() for batch in opened.source.batches(None)])
    cells = opened.cells
    found = run(Opened(Cells("s", cells.cell_id, cells.xy_um, rows, cells.tested), opened.source), model=Profiles())
    first = [
        found.told[(found.variant == name) & (found.distance_um < 50)][:, 0].mean() for name in ("control", "perturbed")
    ]
    assert first[1] > first[0] + 0.1
    assert next(own["share"] for own in found.about["share_changed"] if own["variant"] == "perturbed") > 0.9


def test_genes_that_a_slide_did_not_measure_are_neither_read_nor_drawn(opened):
    source, measured = Source(opened.source.rows), np.array([True, True, True, False])
    source.panels = {"s": measured}
    model = Model()
    model.query = replace(Model.query, mean=np.full(4, 0.5, np.float32))
    batch = SimpleNamespace(
        genes=torch.tensor([[0.1, 0.9, 1.0, 9.0], [2.0, 1.0, 0.4, 0.0]]),
        measured=torch.from_numpy(measured).expand(2, 4),
    )
    profiles = profiles_of(model, source, lambda: pytest.fail("not asked for"))
    told = profiles.content(profiles.of(batch))
    assert told.tolist() == model.query.assign(batch.genes.numpy(), batch.measured.numpy()).tolist()
    apart = batch.genes.numpy() - [0, 0, 0, 1e3]  # so large a value would decide it
    assert told.tolist() == profiles.content(np.maximum(apart, 0)).tolist()
    other = Change((0,), (1,)).other(profiles.measured, 0, "s")
    assert other == Change((2,), ())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activated": ("LIGANT",)}, ConfigError, "unknown gene 'LIGANT'; did you mean LIGAND"),
        ({"at": (("t", 1.0, 1.0),)}, ConfigError, "slide 't' has no test cells here; choose one of s"),
        ({"radius_um": 2.0}, InputError, "no circle of 2 um"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(opened, change, error, message):
    with pytest.raises(error, match=message):
        run(opened, RULE.model_copy(update=change))


def test_a_gene_that_was_not_measured_or_is_unknown_to_the_model_is_refused(opened):
    lacking = Source(opened.source.rows)
    lacking.panels = {"s": np.array([False, True, True, True])}
    with pytest.raises(InputError, match="slide s did not measure ligand"):
        run(Opened(opened.cells, lacking))
    model = Model()
    model.genes = ("X", *GENES[1:])
    with pytest.raises(InputError, match="knows cells by 4 genes, and ligand is none of them"):
        run(opened, model=model)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no gene is activated or inhibited"),
        ({"activated": ["A"], "inhibited": ["a"]}, "gene A is named twice"),
        ({"activated": ["A"], "sweep": [0]}, "a width is a share of the radius above 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Perturbation(**given)
