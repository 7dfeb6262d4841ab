from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mistline.config.base import load_section
from mistline.config.crops import Crops
from mistline.config.load import load_config, read_sheet
from mistline.core.errors import ConfigError

SLIDE = {"slide": "s1", "bundle": "b", "donor": "d", "tissue": "t", "disease": "x"}
NEITHER = {"slide": "t1", "donor": "d", "tissue": "t", "disease": "x"}
TABLE = NEITHER | {"table": "t.h5ad"}


def config(**values: Any) -> Any:
    return load_config({"slides": [SLIDE]} | values, root=Path())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"crop": {}}, "config.crop: unknown key; did you mean crops."),
        ({"crops": {"contxt": 1}}, "config.crops.contxt: unknown key; did you mean context."),
        ({"zzz": 1}, "config.zzz: unknown key; remove it; known keys are cells, crops"),
        ({"models": {"a": {"modl": "pca"}}}, "config.models.a.modl: unknown key; did you mean model."),
        ({"slides": [SLIDE | {"donr": "d"}]}, "config.slides.0.donr: unknown key; did you mean donor."),
        ({"slides": [SLIDE | {"he_image": "he.tif"}]}, "has he_image without he_alignment: they belong together"),
        ({"slides": [SLIDE | {"he_alignment": "m.csv"}]}, "has he_alignment without he_image: they belong together"),
        ({"crops": {"context": 0.5}}, "config.crops.context: input should be greater than or equal to 1, not 0.5"),
        (
            {"scales": [{"name": "cell", "unit": "cell"}, {"name": "n", "unit": "grid"}]},
            "size_px belongs to unit: grid",
        ),
        ({"slides": [SLIDE, SLIDE]}, "slides named more than once: s1"),
        (
            {"slides": [SLIDE, SLIDE | {"slide": "s2", "bundle": "./b/", "donor": "d2"}]},
            "slides s1 and s2 are both b, and their donors differ",
        ),
        ({"slides": [SLIDE | {"bundle": "~/b"}]}, "bundle of slide s1 begins with ~, which only a shell knows: '~/b'"),
        ({"slides": [SLIDE | {"donor": 1}]}, "config.slides.0.donor: text is needed, not 1; put it in quotes: '1'."),
        ({"seeds": 0}, "config.seeds: a list is needed, not 0; put it in brackets: [0]."),
        ({"models": None}, "config.models: keys with values are needed, not None; indent them below it, or remove it."),
        ({"only": "s2"}, "only: names slides that are not in the sheet: s2"),
        ({"slides": [SLIDE | {"slide": "a/b"}]}, "config.slides.0.slide: string should match pattern"),
        ({"slides": [{"slide": "s1", "bundle": "b"}]}, "config.slides.0.donor: this key is required; set it."),
        ({"slides": [NEITHER]}, "config.slides.0: give bundle (a Xenium run) or table (an h5ad or a Visium folder)"),
        ({"slides": [TABLE | {"bundle": "b"}]}, "config.slides.0: bundle and table are both given"),
        ({"slides": [NEITHER | {"tabel": "t.h5ad"}]}, "config.slides.0.tabel: unknown key; did you mean table."),
        ({"slides": [TABLE | {"values": "logs"}]}, "config.slides.0.values: input should be 'counts', 'normalised'"),
        ({"slides": [TABLE | {"um_per_unit": 0}]}, "config.slides.0.um_per_unit: input should be greater than 0"),
        ({"slides": [SLIDE | {"um_per_unit": 0.5}]}, "um_per_unit belongs to a slide given as table"),
        ({"slides": [SLIDE | {"values": "log"}]}, "values belongs to a slide given as table"),
        ({"slides": [SLIDE, TABLE]}, "slides: t1 is a table and s1 a bundle; run them apart"),
        ({"slides": [TABLE, TABLE | {"slide": "t2", "values": "log"}]}, "values differ (t1 counts and t2 log)"),
        ({"splits": {"val_share": 0.5, "test_share": 0.5}}, "leave nothing to train on"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**values)
    assert sentence in str(caught.value)


def test_only_restricts_and_keeps_the_sheet_s_order() -> None:
    slides = [SLIDE | {"slide": name} for name in ("c", "a", "b")]
    assert [slide.slide for slide in config(slides=slides, only="b,c").active_slides] == ["c", "b"]


def test_the_kind_of_a_run_is_that_of_its_active_slides() -> None:
    assert config().kind == "xenium"
    tables = config(slides=[TABLE])
    assert (tables.kind, list(tables.models)) == ("tables", ["pca"])  # the image baseline reads no table
    assert config(slides=[SLIDE, TABLE], only="t1").kind == "tables"
    assert config(slides=[SLIDE, TABLE], only="s1").kind == "xenium"


def test_a_section_from_the_command_line() -> None:
    assert load_section(Crops, '{"context": 2}', "--params").context == 2
    with pytest.raises(ConfigError, match="--params: not valid JSON"):
        load_section(Crops, "{", "--params")


def test_a_sheet_with_empty_fields(tmp_path: Path) -> None:
    sheet = tmp_path / "slides.tsv"
    sheet.write_text("slide\tbundle\tdonor\ttissue\tdisease\tlabels\tcells\ns1\tb\td\tt\tx\t\t12\n")
    loaded = load_config({"slides": str(sheet)}, root=Path())
    assert (loaded.slides[0].labels, loaded.slides[0].cells) == (None, 12)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "no such sheet"),
        ("slide\tbundle\n", "has no rows"),
        ("slide\tbundle\ns1\n", "number of fields differs"),
        ("slide,bundle\ns1,b\n", "separated by ',', not by tabs"),
        ("slide;bundle\ns1;b\n", "separated by ';', not by tabs"),
    ],
)
def test_a_bad_sheet(tmp_path: Path, text: str | None, sentence: str) -> None:
    sheet = tmp_path / "slides.tsv"
    if text is not None:
        sheet.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_sheet(sheet)


@pytest.mark.parametrize("data", [b"slide\tb\xfcndle\ns1\tb\n", b"slide\ns\0\n", "slide\n".encode("utf-16")])
def test_a_sheet_that_is_no_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "slides.tsv").write_bytes(data)
    with pytest.raises(ConfigError):
        load_config({"slides": str(tmp_path / "slides.tsv")}, root=Path())


def test_an_image_belongs_to_a_table():
    assert config(slides=[TABLE | {"image": "i.png"}]).has_images
    assert not config(slides=[TABLE]).has_images
    with pytest.raises(ConfigError, match="has image without table"):
        config(slides=[SLIDE | {"image": "i.png"}])
    with pytest.raises(ConfigError, match="image_um_per_px without image"):
        config(slides=[TABLE | {"image_um_per_px": 0.5}])
