from __future__ import annotations

import numpy as np

from mistline.core.seeds import derive, generator, ranked


def test_known_value() -> None:
    # A change of this number changes every split and every vocabulary ever made.
    assert derive(0, "make_splits", "d01") == 2808707262168276411


def test_names_separate_streams() -> None:
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert generator(1, "x").integers(1 << 60) == generator(1, "x").integers(1 << 60)
    assert generator(1, "x").integers(1 << 60) != generator(2, "x").integers(1 << 60)


def test_a_draw_depends_on_the_ids_and_not_on_their_order_or_number() -> None:
    ids = [f"cell-{i}" for i in range(500)]
    drawn = [ids[i] for i in ranked(ids, 0, "generation", "s1")]
    assert sorted(drawn) == sorted(ids)
    turned = ids[::-1]
    assert [turned[i] for i in ranked(turned, 0, "generation", "s1")] == drawn
    some = ids[::3]
    assert [some[i] for i in ranked(some, 0, "generation", "s1")] == [name for name in drawn if name in set(some)]
    assert drawn[:3] == ["cell-385", "cell-244", "cell-37"]  # a change of these changes every drawn sample


def test_draws_of_other_names_are_independent() -> None:
    ids = [f"cell-{i}" for i in range(2000)]
    first, other, again = (ranked(ids, seed, *names) for seed, *names in ((0, "a", "b"), (0, "ab"), (1, "a", "b")))
    for one in (other, again):
        shared = len(set(first[:1000].tolist()) & set(one[:1000].tolist()))
        assert 430 < shared < 570
    places = np.argsort(first)
    assert abs(np.corrcoef(places, np.arange(2000))[0, 1]) < 0.1
    assert len(ranked([], 0)) == 0
