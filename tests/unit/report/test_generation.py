"""The section of generated images: what is shown of which cells, in which columns, with which numbers."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import jinja2
import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.core.files import write_json
from mistline.report import page
from mistline.report.generation import GenerationFiles, view_generation
from mistline.report.generation_sheets import edit_sheet, one_edit, picture_sheet, read_real, shown_cells
from mistline.report.pictures import Album
from mistline.report.plots.contact import contact
from mistline.report.plots.responses import responses, speed
from mistline.report.plots.theme import LIGHT, LIGHTBOX, styled
from mistline.report.sources import open_slide
from mistline.report.tables import write_csv
from mistline.store.pictures import read_pictures
from tests.unit.report.generated import GENES, LEVELS, sweep, write_generated
from tests.unit.report.test_page import Outline
from tests.unit.report.tree import HOSTILE, PIXEL_UM, write_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("generation") / "results", n_slides=1, with_scores=False)


@pytest.fixture(scope="module")
def files(tree) -> GenerationFiles:
    return GenerationFiles(**write_generated(tree, "s1"))


@pytest.fixture(scope="module")
def slides(tree):
    return [open_slide(tree.root, tree.root / "dataset/splits", entry, ["niche"]) for entry in tree.entries]


@pytest.fixture(scope="module")
def made(tree, files, slides, tmp_path_factory):
    """The view, the folder of its figures, and the section as the page has it."""
    folder = tmp_path_factory.mktemp("figures")
    view = view_generation(files, slides, tree.version, Album(folder, 10**6, 0))
    loader = jinja2.PackageLoader("mistline.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return view, folder, environment.get_template("sections/generation.html.j2").render(generation=view)


def test_every_picture_is_on_the_page_and_a_file(made):
    _, folder, text = made
    names = {"generation.cells.gene2img", "edits.cells.0", "edits.cells.0.nucleus", "sweep.cells"}
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in folder.glob("*.svg")} == names
    outline = Outline(text)
    assert outline.open == []
    papers = [attributes["class"] for attributes in outline.all("img")]
    assert sorted(papers) == ["light", "light", "lightbox", "lightbox"]
    assert HOSTILE[:12] not in text
    assert "NUCSIZE and &lt;script&gt;aler" in text
    assert "No layer has the 256 tokens" in text


def test_nothing_generated_leaves_the_section_out(tree, slides):
    assert view_generation(GenerationFiles(), slides, tree.version, Album(tree.root, 0, 0)) is None
    for generated, is_left_out in ((GenerationFiles(), True), (GenerationFiles(sweeps=[tree.root]), False)):
        gathered = SimpleNamespace(quality={}, generated=generated, filled=(), results=SimpleNamespace(comparisons=[]))
        assert ("generation" in page._omitted(gathered)) == is_left_out


def test_a_sheet_shows_the_stored_image_of_the_drawn_cells(files, slides):
    item = read_pictures(files.pictures[0])
    rows = shown_cells(item, 0)
    assert len(rows) == len(set(rows.tolist())) == 8
    real = read_real(item, rows, {"s1": slides[0]})
    assert [side for _, side in real] == [pytest.approx(2 * (8 + row % 5) * PIXEL_UM) for row in rows]
    sheet = picture_sheet(item, rows, real)
    assert [line.label for line in sheet.lines] == ["real", "autoencoder", "generated", "dealt"]
    np.testing.assert_array_equal(sheet.lines[2].images[3], item.images["generated"][rows[3], 0])
    assert sheet.titles[0].split("\n")[0] == item.cell_id[rows[0]]
    others = picture_sheet(item, rows, read_real(item, rows, {}))  # slides without images
    assert [line.label for line in others.lines] == ["autoencoder", "generated", "dealt"]


def test_an_edit_is_laid_out_by_cell_and_level(files):
    item = read_pictures(files.edits[0])
    edit = one_edit(item, 0)
    assert edit.levels == tuple(LEVELS)
    assert edit.own == 2
    sheet = edit_sheet(edit, 0)
    levels = ["0", "x0.5", "x1 (own)", "x2", "x4"]
    assert sheet.titles == ["original", *levels, *levels]
    line = sheet.lines[0]
    images = {kind: values[0, :, 0].astype(float) for kind, values in edit.images.items()}
    np.testing.assert_array_equal(line.images[1], images["edited"][0])
    np.testing.assert_array_equal(line.changes[1], images["edited"][0] - images["own"][0])
    np.testing.assert_array_equal(line.changes[-1], images["inverted"][4] - images["returned"][4])
    assert line.changes[0] is None is line.changes[3]
    assert line.changes[1].min() < -sheet.limit / 2  # a smaller nucleus is darker
    assert line.changes[5].max() > sheet.limit / 2


def test_without_the_own_level_the_own_image_leads(files):
    item = read_pictures(files.edits[0])
    for row in item.about["rows"]:
        row["counts"] = [[4, 9]]
    sheet = edit_sheet(one_edit(item, 0), 0)
    assert sheet.titles[:3] == ["original", "own", "0"]
    assert len(sheet.titles) == len(sheet.lines[0].images) == len(sheet.lines[0].changes) == 13


def test_no_text_is_cut(files, slides):
    item, edits = read_pictures(files.pictures[0]), one_edit(read_pictures(files.edits[0]), 0)
    rows = shown_cells(item, 0)
    ways = {"edited": "from noise", "inverted": "by inversion", "dealt": "control: others' levels"}
    with styled(LIGHTBOX):
        drawn = [contact(LIGHTBOX, picture_sheet(item, rows, read_real(item, rows, {"s1": slides[0]})))]
        drawn.append(contact(LIGHTBOX, edit_sheet(edits, 0)))
    with styled(LIGHT):
        drawn.append(responses(LIGHT, edits.responses(ways), edits.levels, f"level of {', '.join(GENES)}"))
        for figure in drawn:
            figure.draw_without_rendering()
            width, height = figure.get_size_inches() * figure.dpi
            for text in [own for axes in figure.axes for own in axes.texts] + figure.legends[:1]:
                box = text.get_window_extent()
                assert 0 <= box.x0 <= box.x1 <= width, text
                assert 0 <= box.y0 <= box.y1 <= height, text
            for axes in figure.axes if figure.legends else []:
                assert axes.get_tightbbox().x0 >= 0
                assert axes.get_tightbbox().y1 <= height


def test_the_speed_table_marks_what_differs(made, tmp_path):
    view, *_ = made
    table = view.sweeps[0].table
    write_csv(table, tmp_path)
    lines = list(csv.DictReader((tmp_path / "sweep.cells.csv").open()))
    assert [(line["merging"], line["merging_ratio"], line["steps"]) for line in lines[:3]] == [
        ("none", "0.0", "50"), ("cfg", "0.25", "50"), ("cfg", "0.75", "50"),
    ]  # fmt: skip
    assert float(lines[2]["times_as_fast"]) == pytest.approx(1.375)
    assert lines[0]["psnr_to_unmerged"] == ""
    psnr = [title.title for title in table.columns].index("PSNR")
    assert [row.cells[psnr].tag for row in table.rows[:5]] == ["", "", "", "", "≠"]
    assert "Self-attention takes 25% of sampling (without any of it: 1.33 times as fast)" in view.sweeps[0].sentence


def test_measures_of_all_images_are_a_file(made, tmp_path):
    view, *_ = made
    table = next(table for table in view.files if table.name == "edits.cells")
    write_csv(table, tmp_path)
    lines = list(csv.DictReader((tmp_path / "edits.cells.csv").open()))
    assert len(lines) == 2 * len(LEVELS) * 6
    assert {line["level"] for line in lines} == set(LEVELS)
    edited = [float(line["area"]) for line in lines if line["image"] == "edited" and line["cell"] == "aaaa0000-1"]
    assert edited == sorted(edited)


def test_files_of_another_dataset_are_refused(tree, files, slides, tmp_path):
    album = Album(tmp_path, 10**6, 0)
    write_json(tmp_path / "other.json", sweep("f" * 64))
    for other in (files.pictures, files.edits):
        with pytest.raises(InputError, match="was made from dataset"):
            view_generation(GenerationFiles(pictures=other), slides, "f" * 64, album)
    with pytest.raises(InputError, match="was made from dataset ffffffffffff"):
        view_generation(GenerationFiles(sweeps=[tmp_path / "other.json"]), slides, tree.version, album)
    write_json(tmp_path / "other.json", {"model": "cells"})
    with pytest.raises(InputError, match="lacks seed"):
        view_generation(GenerationFiles(sweeps=[tmp_path / "other.json"]), slides, tree.version, album)


def test_one_row_is_drawn(files):
    """A sweep of one row has no line to draw, and an axis of one place."""
    from mistline.report.plots.responses import Point

    with styled(LIGHT):
        speed(LIGHT, {"PSNR": [Point("no merging", 50, 1.0, 20.0, 19.0, 21.0)]}).draw_without_rendering()
