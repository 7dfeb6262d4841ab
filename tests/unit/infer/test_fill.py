"""Filling with a model that answers by rule, so that every window it is asked can be looked at."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from mistline.core.errors import InputError
from mistline.infer.fill import Control, fill

K, STEP, WINDOW = 6, 10.0, 60.0


class Nearest:
    """Answers with the meta-cell of the nearest seen cell, half sure; the rest is shared."""

    window_um = WINDOW
    expression = np.eye(K, dtype=np.float32)
    is_quantised = True

    def __init__(self) -> None:
        self.asked = []

    def entered(self, told):
        return told.argmax(axis=1)

    def tell(self, seen_xy_um, seen_metacell, target_xy_um):
        self.asked.append((seen_xy_um.copy(), seen_metacell.copy(), target_xy_um.copy()))
        near = seen_metacell[cKDTree(seen_xy_um).query(target_xy_um)[1]]
        return 0.5 * np.eye(K)[near] + 0.5 / K


def tissue(n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a grid of cells, stripes of meta-cells, and a hole of 20 x 20 cells in the middle."""
    xy = np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2) * STEP
    hidden = (np.abs(xy - xy.mean(axis=0)) < 100).all(axis=1)
    return xy, (xy[:, 1] // 80).astype(np.int64) % K, hidden


def test_a_hole_is_filled_from_its_rim_inwards_and_nothing_seen_is_touched():
    xy, metacell, hidden = tissue()
    before = metacell.copy()
    found = fill(Nearest(), xy, metacell, hidden)
    assert found.rows.tolist() == np.flatnonzero(hidden).tolist()
    assert (metacell == before).all()
    np.testing.assert_allclose(found.told.sum(axis=1), 1, rtol=1e-6)
    assert set(found.way) == {"generated"}
    # Cells as far as half a window from what is truly seen come first; each round goes as much further.
    depth = cKDTree(xy[~hidden]).query(xy[hidden])[0]
    assert (found.round[depth < WINDOW / 2] == 1).all()
    assert (found.round[depth > WINDOW / 2] > 1).all()
    assert found.round.max() >= 3
    assert all(depth[found.round == k].min() < depth[found.round == k + 1].min() for k in range(1, found.round.max()))
    rim = found.round == 1
    assert (found.told[rim].argmax(axis=1) == before[hidden][rim]).mean() > 0.7


def test_windows_are_centred_on_seen_cells_and_read_once():
    xy, metacell, hidden = tissue()
    model = Nearest()
    found = fill(model, xy, metacell, hidden)
    assert found.windows == len(model.asked) < hidden.sum() * 2
    for seen, ids, targets in model.asked:
        assert len(seen) == len(ids) >= 5
        assert (np.abs(seen).max(axis=1) <= WINDOW / 2).all()
        assert (np.hypot(*targets.T) < WINDOW / 2).all()
        assert (seen == 0).all(axis=1).any()
        assert (ids >= 0).all()
        assert not {tuple(place) for place in seen.tolist()} & {tuple(place) for place in targets.tolist()}


def test_hidden_meta_cells_are_not_read():
    xy, metacell, hidden = tissue()
    plain = fill(Nearest(), xy, metacell, hidden)
    other = fill(Nearest(), xy, np.where(hidden, 10**6, metacell), hidden)
    np.testing.assert_array_equal(plain.told, other.told)


class ByPlace(Nearest):
    """Answers by where the window's other cells lie, so that windows disagree."""

    def tell(self, seen_xy_um, seen_metacell, target_xy_um):
        super().tell(seen_xy_um, seen_metacell, target_xy_um)
        return np.tile(np.eye(K)[len(self.asked) % K], (len(target_xy_um), 1))


def test_a_cell_has_the_mean_of_at_most_so_many_windows():
    xy, metacell, hidden = tissue()
    model = ByPlace()
    found = fill(model, xy, metacell, hidden, Control(n_frontier=3))
    times = found.told * 3
    assert (
        np.isclose(times, times.round(), atol=1e-5).all(axis=1) | np.isclose(times % 1.5, 0, atol=1e-5).all(1)
    ).all()
    assert sum(len(targets) for _, _, targets in model.asked) <= 3 * hidden.sum()
    alone = fill(ByPlace(), xy, metacell, hidden, Control(n_frontier=1))
    assert set(np.unique(alone.told)) == {0.0, 1.0}


def test_generated_cells_come_back_as_their_likeliest_meta_cell():
    xy = np.stack([np.arange(30) * STEP, np.zeros(30)], axis=1)
    metacell, hidden = np.full(30, 2), np.arange(30) >= 10
    model = Nearest()
    found = fill(model, xy, metacell, hidden)
    assert found.round.tolist() == sorted(found.round.tolist())
    assert found.round[-1] > 3
    assert (found.told.argmax(axis=1) == 2).all()
    assert all((ids == 2).all() for _, ids, _ in model.asked)


def test_cells_far_from_everything_are_told_of():
    xy, metacell, hidden = tissue()
    lonely = np.array([[-100.0, 200.0], [9e4, 9e4]])
    places, ids = np.concatenate([xy, lonely]), np.concatenate([metacell, [0, 0]])
    found = fill(Nearest(), places, ids, np.concatenate([hidden, [True, True]]))
    assert found.way[-2:].tolist() == ["widened", "section_mean"]
    assert (found.round[-2:] > found.round[:-2].max()).all()
    shares = np.bincount(metacell[~hidden], minlength=K) / (~hidden).sum()
    np.testing.assert_allclose(found.told[-1], shares, rtol=1e-6)


def test_a_window_with_too_little_context_tells_nothing():
    xy = np.array([[0.0, 0], [10, 0], [20, 0], [5, 5], [500, 500]])
    found = fill(Nearest(), xy, np.array([1, 1, 1, 0, 2]), np.array([False, False, False, True, False]))
    assert found.way.tolist() == ["section_mean"]
    np.testing.assert_allclose(found.told[0], [0, 0.75, 0.25, 0, 0, 0])
    few = fill(
        Nearest(),
        xy,
        np.array([1, 1, 1, 0, 2]),
        np.array([False, False, False, True, False]),
        Control(least_context=3),
    )
    assert few.way.tolist() == ["generated"]


def test_cells_at_one_place_and_a_limit_of_the_context():
    xy, metacell, hidden = tissue()
    xy[hidden] = np.round(xy[hidden], -2)  # many at the same place
    model = Nearest()
    found = fill(model, xy, metacell, hidden, Control(most_context=12))
    assert np.isfinite(found.told).all()
    assert max(len(ids) for _, ids, _ in model.asked) == 12


class Profiles(Nearest):
    """Answers with the mean profile of the seen cells of a window."""

    is_quantised = False

    def entered(self, told):
        return told.astype(np.float32)

    def tell(self, seen_xy_um, seen, target_xy_um):
        self.asked.append((seen_xy_um.copy(), seen.copy(), target_xy_um.copy()))
        return np.tile(seen.mean(axis=0), (len(target_xy_um), 1))


def test_profiles_are_filled_as_they_are():
    xy, _, hidden = tissue()
    profile = np.stack([xy[:, 0], -xy[:, 1], np.ones(len(xy))], axis=1).astype(np.float32)
    model = Profiles()
    model.expression = np.eye(3, dtype=np.float32)
    found = fill(model, xy, np.where(hidden[:, None], np.nan, profile), hidden)
    assert found.told.shape == (hidden.sum(), 3)
    np.testing.assert_allclose(found.told[:, 2], 1, rtol=1e-6)
    error = np.abs(found.told[:, :2] - profile[hidden, :2]).max(axis=1)
    assert error[found.round == 1].max() < WINDOW  # what lies deeper adds the errors of what was filled before
    lonely = np.array([[5000.0, 5000.0]])
    far = fill(model, np.r_[xy, lonely], np.r_[profile, [[0, 0, 0]]], np.r_[hidden, True])
    np.testing.assert_allclose(far.told[-1], profile[~hidden].mean(axis=0), rtol=1e-6)
    assert far.way[-1] == "section_mean"


@pytest.mark.parametrize("answer", [np.full((1, K), np.nan), np.zeros((1, K)), -np.ones((1, K)), np.ones((1, K - 1))])
def test_what_is_no_probability_is_refused(answer):
    xy, metacell, hidden = tissue()
    model = Nearest()
    model.tell = lambda seen, ids, targets: np.tile(answer, (len(targets), 1))
    with pytest.raises(InputError, match="that are no probabilities"):
        fill(model, xy, metacell, hidden)


@pytest.mark.parametrize("hidden", [True, False])
def test_something_must_be_hidden_and_something_seen(hidden):
    xy, metacell, _ = tissue()
    with pytest.raises(InputError, match="some must be hidden and some seen"):
        fill(Nearest(), xy, metacell, np.full(len(xy), hidden))
