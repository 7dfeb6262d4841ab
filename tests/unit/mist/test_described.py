from __future__ import annotations

import json
from pathlib import Path

import pytest

from mistline.core.errors import InputError
from mistline.mist.described import Described, read_described

IMAGE = {"slide": "s1", "shape_px": [30, 40], "pixel_size_um": 0.2125}
BUNDLE = {"slide": "s1", "image": {"shape_px": [30, 40]}, "pixel_size_um": 0.2125}


@pytest.mark.parametrize("values", [IMAGE, BUNDLE])
def test_both_files_say_the_same(values: dict, tmp_path: Path) -> None:
    path = tmp_path / "image.json"
    path.write_text(json.dumps(values))
    assert read_described(path) == Described("s1", (30, 40), 0.2125)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1], "not the JSON object"),
        (BUNDLE | {"image": 3}, "not the JSON object"),
        ({"slide": "s1", "shape_px": [30, 40]}, "holds no 'pixel_size_um'"),
        (IMAGE | {"shape_px": [30]}, r"shape_px is \[30\], not two whole numbers"),
        (IMAGE | {"shape_px": [30, 0]}, "not two whole numbers"),
        (IMAGE | {"shape_px": [30, True]}, "not two whole numbers"),
        (IMAGE | {"shape_px": "ab"}, "not two whole numbers"),
        (IMAGE | {"pixel_size_um": "0.2"}, "pixel_size_um is '0.2', not a number above zero"),
        (IMAGE | {"pixel_size_um": -1}, "not a number above zero"),
        (IMAGE | {"slide": None}, "slide is None, not a name"),
    ],
)
def test_what_cannot_be_is_one_sentence(values: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "image.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=sentence) as caught:
        read_described(path)
    assert "\n" not in str(caught.value)
