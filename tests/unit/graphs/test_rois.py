from __future__ import annotations

import numpy as np
import pytest

from mistline.config.perturbation import Perturbation
from mistline.core.errors import InputError
from mistline.graphs.rois import away_um, elsewhere, place_rois

RULE = Perturbation(activated=("A",), radius_um=40, ring_um=60)


def slide(n: int = 4000, side: float = 1000.0) -> tuple[list[str], np.ndarray]:
    return [f"c{i}" for i in range(n)], np.random.default_rng(0).uniform(0, side, (n, 2))


def test_circles_and_rings_hold_test_cells_only_and_do_not_overlap():
    ids, xy = slide()
    tested = xy[:, 0] < 600
    assert [roi.number for roi in place_rois(ids, xy, tested, RULE, "s")] == [0, 1, 2]
    many = RULE.model_copy(update={"n_rois": 20})
    rois = place_rois(ids, xy, tested, many, "s")
    assert 3 < len(rois) < 20  # as many as fit
    rows = np.concatenate([part for roi in rois for part in (roi.inside, roi.ring)])
    assert len(np.unique(rows)) == len(rows)
    assert tested[rows].all()
    for roi in rois:
        away = away_um(xy, roi.centre_um)
        assert away[roi.inside].max() <= 40 < away[roi.ring].min() <= away[roi.ring].max() <= 100
        assert len(roi.inside) + len(roi.ring) == (away <= 100).sum()
    order = np.random.default_rng(1).permutation(len(ids))
    again = place_rois([ids[i] for i in order], xy[order], tested[order], many, "s")
    assert [roi.centre_um for roi in again] == [roi.centre_um for roi in rois]


def test_a_far_circle_is_out_of_reach_of_what_is_generated_where_the_slide_is_large_enough():
    ids, xy = slide()
    for roi in place_rois(ids, xy, np.ones(len(ids), bool), RULE.model_copy(update={"n_rois": 10}), "s"):
        far = elsewhere(roi, ids, xy, RULE, 160, "s")
        assert far.is_far
        assert len(far.inside) >= RULE.least_cells
        # A ring's cell is generated from windows whose corners reach half a side and half a diagonal away.
        least = np.sqrt(np.square(xy[far.inside][:, None] - xy[roi.ring]).sum(axis=2)).min()
        assert least > 80 + 80 * np.sqrt(2)
    near = elsewhere(roi, ids, xy, RULE, 3000, "s")
    assert not near.is_far
    assert near.away_um > far.away_um
    assert not set(near.inside) & {*roi.inside, *roi.ring}


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ((5000, 5000), "its circle holds 0 cells, fewer than 5"),
        ((600, 500), "of its cells are no test cells"),
        ((500, 500), ""),
    ],
)
def test_a_named_circle_is_taken_or_refused_in_a_sentence(at, message):
    ids, xy = slide()
    rule = RULE.model_copy(update={"at": (("s", *at), ("other", 1.0, 1.0))})
    if not message:
        (roi,) = place_rois(ids, xy, xy[:, 0] < 620, rule, "s")
        assert roi.centre_um == at
        return
    with pytest.raises(InputError, match=message):
        place_rois(ids, xy, xy[:, 0] < 620, rule, "s")


def test_a_slide_on_which_none_fits_is_refused():
    ids, xy = slide(200)
    with pytest.raises(InputError, match="slide s: no circle of 40 um with a ring of 60 um holds 5 cells in each"):
        place_rois(ids, xy, xy[:, 0] < 100, RULE, "s")
