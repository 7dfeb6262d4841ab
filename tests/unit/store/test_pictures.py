from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.store.embeddings import Origin
from mistline.store.pictures import Pictures, read_origin, read_pictures, write_pictures

ORIGIN = Origin("cells", 1, "ab" * 32, "v1")


@pytest.fixture
def pictures() -> Pictures:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (3, 1, 8, 8)).astype(np.uint8) for name in ("generated", "dealt")}
    return Pictures(
        np.array(["a", "a", "ß"]), np.array(["c-1", "c-2", "c-1"]), images, ORIGIN, {"steps": 50, "guidance": 2.0}
    )


def test_what_is_written_is_read(pictures, tmp_path):
    path = tmp_path / "new" / "p.safetensors"
    write_pictures(path, pictures)
    found = read_pictures(path)
    assert found.origin == read_origin(path) == ORIGIN
    assert found.about == pictures.about
    assert (found.slide.tolist(), found.cell_id.tolist()) == (["a", "a", "ß"], ["c-1", "c-2", "c-1"])
    assert set(found.images) == {"generated", "dealt"}
    assert all(np.array_equal(found.images[name], pictures.images[name]) for name in found.images)


def test_equal_pictures_are_equal_bytes(pictures, tmp_path):
    paths = [tmp_path / f"{number}.safetensors" for number in range(2)]
    write_pictures(paths[0], pictures)
    write_pictures(paths[1], replace(pictures, images=dict(reversed(pictures.images.items()))))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_is_damaged_is_refused(pictures, tmp_path):
    path = tmp_path / "p.safetensors"
    with pytest.raises(InputError, match="no such file; run generate"):
        read_pictures(path)
    write_pictures(path, pictures)
    whole = path.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    for bytes_, message in ((whole[:-9], "not readable"), (changed, "not those that were written"), (b"x", "not read")):
        path.write_bytes(bytes_)
        with pytest.raises(InputError, match=message):
            read_pictures(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slide": np.array(["a"])}, "3 cells of 1 slides"),
        ({"images": {}}, "there is no image"),
        ({"images": {"generated": np.zeros((3, 1, 8, 8), np.float32)}}, "float32"),
        ({"images": {"generated": np.zeros((2, 1, 8, 8), np.uint8)}}, "of 3 cells"),
        ({"images": {"a": np.zeros((3, 1, 8, 8), np.uint8), "b": np.zeros((3, 1, 9, 9), np.uint8)}}, "the first"),
    ],
)
def test_wrong_pictures_are_not_written(pictures, tmp_path, change, message):
    path = tmp_path / "p.safetensors"
    with pytest.raises(InputError, match=message):
        write_pictures(path, replace(pictures, **change))
    assert not path.exists()
