from __future__ import annotations

from mistline.core.seeds import derive, generator


def test_known_value() -> None:
    # A change of this number changes every split and every vocabulary ever made.
    assert derive(0, "make_splits", "d01") == 2808707262168276411


def test_names_separate_streams() -> None:
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert generator(1, "x").integers(1 << 60) == generator(1, "x").integers(1 << 60)
    assert generator(1, "x").integers(1 << 60) != generator(2, "x").integers(1 << 60)
