"""The tissue viewer in a real browser, driven by playwright: what a person does, and what they then see.

Screenshots stay in tests/artefacts, which git ignores.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from mistline.mist.pyramid import Level
from mistline.stages.report import run
from mistline.store.embeddings import Origin
from mistline.store.imputed import ImputedGenes, write_imputed
from mistline.store.reader import ShardReader
from tests.conftest import REPOSITORY
from tests.e2e.viewer_page import Page, hover, look, opened, part, pixels, ready, view
from tests.unit.report.tree import HOSTILE, Tree, write_tree

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)

ARTEFACTS = REPOSITORY / "tests" / "artefacts"
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--disable-sync"]
N_STORED = 20  # crops in the page, of 40 cells


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewer") / "ein Bericht"
    tree = write_tree(folder / "results")
    settings = {"params": f'{{"viewer_crops": {N_STORED}, "viewer_genes": 3}}', "added": [impute(tree)]}
    run(**tree.options(folder / "report") | settings)
    return folder


def impute(tree: Tree) -> Path:
    """Write a gene that no slide measures, at the cells of slide s2."""
    ids = pd.read_parquet(tree.root / "slides/s2/cells.parquet")["cell_id"].to_numpy(dtype=str)
    mean = np.linspace(0, 2.54, len(ids), dtype=np.float32)[:, None]
    own = ImputedGenes(
        slide=np.full(len(ids), "s2"),
        cell_id=ids,
        genes=("x0",),
        symbols=("X0",),
        fold=np.array([-1]),
        mean=mean,
        sd=mean / 2,
        origin=Origin("net", 0, "weights", tree.version),
        about={},
    )
    write_imputed(tree.root / "added.parquet", own)
    return tree.root / "added.parquet"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        process = driver.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield process
        process.close()


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def page(browser: Any, root: Path, complaints: list[str]) -> Iterator[Page]:
    with opened(browser, root / "report" / "index.html", complaints) as found:
        yield found
    assert complaints == []


def stored(slide: Path, n: int) -> NDArray[np.uint8]:
    """Return the image of record n of a slide."""
    return ShardReader(slide / "shards/cell")[n].image[0]


def alone(slide: Path) -> list[int]:
    """Return cells far enough from all others to be pointed at."""
    xy_um = pd.read_parquet(slide / "cells.parquet")[["x_um", "y_um"]].to_numpy()
    apart = np.linalg.norm(xy_um[:, None] - xy_um[None], axis=2) + np.eye(len(xy_um)) * 99
    return np.flatnonzero(apart.min(axis=1) > 2.0).tolist()


@pytest.mark.parametrize("number", [0, 1])
def test_hover_shows_the_crop_of_the_right_cell(page, root, number):
    slide = root / "results/slides" / f"s{number + 1}"
    if number:
        part(page, "slide").select_option(str(number))
        ready(page)
    ids = pd.read_parquet(slide / "cells.parquet")["cell_id"]
    world = view(page)
    seen: dict[str, int] = {"as stored": 0, "cut": 0}
    for n in alone(slide):
        x, y = pd.read_parquet(slide / "cells.parquet").loc[n, ["x_um", "y_um"]]
        look(page, x, y, world["fit"] * 2)
        hover(page, ids[n])
        assert part(page, "id").inner_text() == ids[n]
        assert_is_crop(page, slide, n, seen)
    assert min(seen.values()) > 3
    assert sum(seen.values()) == len(alone(slide)) > 15


def assert_is_crop(page: Page, slide: Path, n: int, seen: dict[str, int]) -> None:
    """Compare the shown crop with the record: bit for bit where it is stored, closely where it is cut from a tile."""
    shown, wanted = pixels(page, "crop")[:, :, 0].astype(float), stored(slide, n).astype(float)
    how = part(page, "crop").get_attribute("data-how")
    assert shown.shape == wanted.shape
    if how == "as stored":
        seen[how] += 1
        np.testing.assert_array_equal(shown, wanted)
        return
    assert how.startswith("cut from the picture, 0.212 µm a pixel")
    seen["cut"] += 1
    assert np.corrcoef(shown.ravel(), wanted.ravel())[0, 1] > 0.9
    others = [stored(slide, other).astype(float) for other in range(40) if other != n]
    same = [other for other in others if other.shape == wanted.shape]
    assert np.abs(shown - wanted).mean() < min(np.abs(shown - other).mean() for other in same)


def test_the_values_of_a_cell_are_those_of_its_files(page, root):
    slide = root / "results/slides/s1"
    cells = pd.read_parquet(slide / "cells.parquet")
    groups = pd.read_parquet(slide / "metacells.parquet")
    kinds = []
    for n in alone(slide)[:8]:
        hover(page, cells["cell_id"][n])
        names, values = (part(page, "values").locator(tag).all_inner_texts() for tag in ("dt", "dd"))
        found = dict(zip(names, values, strict=True))
        kinds.append(found["kind"])
        assert found["kind"] == (cells["label_kind"][n] or "no value")
        assert found["counts"] == f"{cells['n_counts'][n]:,}"
        assert float(found["cell area (µm²)"]) == pytest.approx(cells["cell_area_um2"][n], rel=1e-3)
        assert found["split"] == "train"
        assert found["meta-cell"] == str(groups["metacell"][n])
        assert found["x, y (µm)"] == f"{cells['x_um'][n]:.1f}, {cells['y_um'][n]:.1f}"
        assert len([name for name in names if name.startswith(HOSTILE)]) == 3
    assert len(set(kinds)) > 2


def test_colour_by_changes_the_map(page):
    names = part(page, "colour").locator("option").all_inner_texts()
    assert names[:5] == ["kind", "split", "meta-cell group, level l1", "meta-cell group, level l2", "meta-cell"]
    shown = []
    for number in range(len(names)):
        part(page, "colour").select_option(str(number))
        page.wait_for_timeout(50)
        shown.append(pixels(page).tobytes())
    assert len(set(shown)) == len(names)


def test_an_imputed_gene_is_called_so_wherever_it_is_shown(page, root):
    title, note = "X0 (imputed by net)", part(page, "imputed")
    assert title not in part(page, "colour").locator("option").all_inner_texts()  # nothing was added to this slide
    part(page, "slide").select_option("1")
    page.wait_for_function("document.querySelector('#tissue [data-part=colour]').textContent.includes('X0')")
    ready(page)
    assert part(page, "colour").locator("optgroup").last.get_attribute("label") == "Imputed by net, not measured"
    assert note.is_hidden()
    part(page, "colour").select_option(label=title)
    page.wait_for_function("!document.querySelector('#tissue [data-part=imputed]').hidden")
    assert note.inner_text().startswith("Imputed by net: no slide measured this gene.")
    slide = root / "results/slides/s2"
    ids = pd.read_parquet(slide / "cells.parquet")["cell_id"]
    n = alone(slide)[-1]
    hover(page, ids[n])
    names, values = (part(page, "values").locator(tag).all_inner_texts() for tag in ("dt", "dd"))
    mean = 2.54 * n / (len(ids) - 1)
    said = dict(zip(names, values, strict=True))[title].replace("mean ", "").split(", sd ")
    assert [float(number) for number in said] == [pytest.approx(mean, abs=0.011), pytest.approx(mean / 2, abs=0.011)]


def test_an_entry_of_the_legend_hides_its_cells(page):
    legend = part(page, "legend").locator("button")
    assert legend.all_inner_texts() == ["</script> (10)", f"{HOSTILE} (10)", "A (10)", "no value (10)"]
    blue = np.array([0x56, 0xB4, 0xE9])  # the first colour

    def n_blue() -> int:
        part(page, "opacity").fill("1")
        return int((np.abs(pixels(page)[:, :, :3].astype(int) - blue).max(axis=2) < 3).sum())

    before = n_blue()
    legend.first.press("Enter")
    assert legend.first.get_attribute("aria-pressed") == "false"
    assert (before > 100, n_blue()) == (True, 0)
    legend.first.press("Enter")
    assert n_blue() == before


def test_keys_move_and_zoom(page):
    start = view(page)
    before = pixels(page)
    part(page, "canvas").focus()
    for key, changed in (("ArrowLeft", "x"), ("ArrowUp", "y"), ("+", "scale")):
        was = view(page)
        page.keyboard.press(key)
        assert (view(page)[changed] < was[changed]) == (key != "+")
        assert view(page)[changed] != was[changed]
    assert (pixels(page) != before).any()
    for key in ("-", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert view(page)["scale"] == pytest.approx(start["scale"])
    page.keyboard.press("+")
    page.keyboard.press("0")
    assert view(page) == start


def test_enter_reads_the_cell_in_the_middle_and_escape_lets_it_go(page, root):
    cells = pd.read_parquet(root / "results/slides/s1/cells.parquet")
    look(page, cells["x_um"][7], cells["y_um"][7], view(page)["fit"] * 2)
    part(page, "canvas").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"[data-part='crop'][data-cell='{cells['cell_id'][7]}']")
    assert part(page, "status").inner_text().startswith(f"cell {cells['cell_id'][7]}, kind: ")
    page.keyboard.press("Escape")
    assert part(page, "none").is_visible()


def test_a_cell_is_found_by_its_id(page, root):
    cells = pd.read_parquet(root / "results/slides/s1/cells.parquet")
    part(page, "find").fill(cells["cell_id"][11])
    part(page, "find").press("Enter")
    page.wait_for_selector(f"[data-part='crop'][data-cell='{cells['cell_id'][11]}']")
    assert view(page)["x"] == pytest.approx(cells["x_um"][11], abs=0.1)
    part(page, "find").fill("nobody")
    part(page, "find").press("Enter")
    assert part(page, "status").inner_text() == "no cell nobody is held of this slide"


def test_the_mouse_drags_and_the_wheel_zooms_only_where_it_is_meant(page):
    box = part(page, "canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    start = view(page)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -200)
    page.wait_for_timeout(100)
    assert view(page)["scale"] == start["scale"]
    page.evaluate("document.getElementById('tissue').scrollIntoView({ behavior: 'instant' })")
    part(page, "canvas").focus()
    page.mouse.wheel(0, -200)
    page.wait_for_function("k => document.getElementById('tissue').viewer.view().scale > k", arg=start["scale"])
    was = view(page)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=4)
    page.mouse.up()
    assert view(page)["x"] == pytest.approx(was["x"] - 60 / was["scale"])
    assert view(page)["y"] == pytest.approx(was["y"] - 30 / was["scale"])


def test_two_fingers_zoom(page):
    script = """() => {
      const canvas = document.querySelector("#tissue [data-part=canvas]"), box = canvas.getBoundingClientRect();
      canvas.setPointerCapture = () => {};
      const send = (type, id, x) => canvas.dispatchEvent(new PointerEvent(type, { pointerId: id, pointerType: "touch",
        clientX: box.left + x, clientY: box.top + 100, bubbles: true }));
      send("pointerdown", 1, 100); send("pointerdown", 2, 200);
      send("pointermove", 2, 300); send("pointerup", 1, 100); send("pointerup", 2, 300);
    }"""
    before = view(page)["scale"]
    page.evaluate(script)
    assert view(page)["scale"] == pytest.approx(2 * before)


def test_an_image_can_be_hidden(page):
    with_image = pixels(page)
    part(page, "opacity").fill("0")
    assert len(np.unique(pixels(page)[:, :, 0])) > 50
    part(page, "image").select_option(label="none")
    ground = np.array([0x0B, 0x0D, 0x10, 0xFF])
    assert (pixels(page)[: with_image.shape[0] // 2] == ground).all()  # the scale bar lies below


def test_tables_sort_beside_it(page):
    table = page.locator("table.sortable").first
    head = table.locator("thead th").first
    for order in ("ascending", "descending"):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == order
        names = table.locator("tbody tr > :first-child").all_inner_texts()
        assert names == sorted(names, reverse=order == "descending")
        assert len(names) == 2


def test_no_element_a_cell_and_nothing_breaks_out_of_the_data(page):
    n_elements = page.evaluate("document.querySelectorAll('#tissue *').length")
    assert n_elements < 200
    assert page.evaluate("[...document.scripts].filter((s) => !s.type).length") == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(browser, root, complaints, scheme):
    ARTEFACTS.mkdir(exist_ok=True)
    path = ARTEFACTS / f"viewer-{scheme}.png"
    with opened(browser, root / "report/index.html", complaints, color_scheme=scheme) as page:
        hover(page, "aaaa0003-1")
        page.screenshot(path=path)
        print(f"screenshot: {path}")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 19, 24)"}[scheme]
    assert path.stat().st_size > 20_000
    assert complaints == []


def test_on_a_narrow_screen_nothing_is_wider_than_it(browser, root, complaints):
    with opened(browser, root / "report/index.html", complaints, has_touch=True) as page:
        page.set_viewport_size({"width": 400, "height": 800})
        page.evaluate("document.getElementById('tissue').scrollIntoView({ behavior: 'instant' })")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        assert part(page, "canvas").bounding_box()["width"] > 300
        x, y = page.evaluate("document.getElementById('tissue').viewer.where('aaaa0005-1')")
        box = part(page, "canvas").bounding_box()
        page.touchscreen.tap(box["x"] + x, box["y"] + y)
        page.wait_for_selector("[data-part='card']:not([hidden])")


def test_the_toy_cohort_shows_its_cells(browser, toy_run, complaints):
    path = toy_run / "results/report/index.html"
    assert path.stat().st_size < 25e6
    slide = next(item for item in sorted((toy_run / "results/slides").iterdir()) if item.name == "toy1")
    cells = pd.read_parquet(slide / "cells.parquet")
    index = pd.read_parquet(slide / "shards/cell.parquet")
    image = Level(slide / "image.ome.zarr").read(0, slice(None))
    seen = 0
    with opened(browser, path, complaints) as page:
        for n in range(0, len(cells), 25):
            look(page, cells["x_um"][n], cells["y_um"][n], view(page)["fit"] * 4)
            hover(page, cells["cell_id"][n])
            shown = pixels(page, "crop")[:, :, 0]
            row, column, side = index.loc[n, ["row_px", "col_px", "side_px"]]
            if part(page, "crop").get_attribute("data-how") == "as stored":
                seen += 1
                np.testing.assert_array_equal(shown, stored(slide, n))
            elif row >= 0 and column >= 0 and row + side <= image.shape[0] and column + side <= image.shape[1]:
                assert np.abs(shown.astype(int) - image[row : row + side, column : column + side]).mean() < 6
    assert seen > 0
    assert complaints == []


def test_the_toy_cohort_shows_its_histology(browser, toy_run, complaints):
    slide = next(path.parents[1] for path in sorted(toy_run.glob("results/slides/*/he/shards")))
    cells = pd.read_parquet(slide / "cells.parquet")
    with opened(browser, toy_run / "results/report/index.html", complaints) as page:
        part(page, "slide").select_option(label=slide.name)
        ready(page)
        part(page, "image").select_option(label="H&E")
        for n in (3, 40, 100):
            look(page, cells["x_um"][n], cells["y_um"][n], view(page)["fit"] * 4)
            hover(page, cells["cell_id"][n])
            shown = np.moveaxis(pixels(page, "crop")[:, :, :3], 2, 0).astype(int)
            assert np.abs(shown - ShardReader(slide / "he/shards/cell")[n].image).mean() < 8
    assert complaints == []
