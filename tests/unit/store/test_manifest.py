from __future__ import annotations

import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_json
from mistline.store.manifest import read_manifest, version_of, write_manifest

CONTENT = {"slides": [{"slide": "s2"}, {"slide": "s1"}], "scales": [{"name": "cell"}], "channels": ["DAPI"]}


def test_what_is_written_is_read_back_with_its_version(tmp_path):
    version = write_manifest(tmp_path / "dataset/manifest.json", CONTENT)
    for path in (tmp_path, tmp_path / "dataset", tmp_path / "dataset/manifest.json"):
        found = read_manifest(path)
        assert found.version == version == version_of(found.content)
        assert list(found.slides) == ["s2", "s1"]
        assert list(found.scales) == ["cell"]
        assert found.channels == ("DAPI",)


def test_the_version_follows_the_content_and_not_the_order_of_keys(tmp_path):
    first = write_manifest(tmp_path / "a.json", CONTENT)
    assert write_manifest(tmp_path / "b.json", dict(reversed(CONTENT.items()))) == first
    assert write_manifest(tmp_path / "c.json", {**CONTENT, "channels": ["H&E"]}) != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "not the manifest of a dataset"),
        ([1], "not the manifest of a dataset"),
        ({"format": "mist", "format_version": 99}, "format 99, this program reads format 1"),
        ({"format": "mist", "format_version": 1, "version": "0"}, "its content was changed after it was sealed"),
    ],
)
def test_what_is_no_sound_manifest_is_refused(tmp_path, content, message):
    write_json(tmp_path / "manifest.json", content)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path)


def test_a_named_file_that_is_missing_is_an_error(tmp_path):
    write_manifest(tmp_path / "manifest.json", CONTENT)
    found = read_manifest(tmp_path)
    assert found.locate("manifest.json") == tmp_path / "manifest.json"
    with pytest.raises(InputError, match="the manifest names it, but it is not there"):
        found.locate("../slides/s1/cells.parquet")
