"""How long the page takes to open with a slide of 100,000 cells, and what it weighs.

The page is made by the stage from a result tree of that many cells, and opened from disk by the browser anew for each
measurement. It is open when the map of the tissue, all cells coloured, is drawn and an arrow key has moved it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from mistline.report.page import BUDGET_BYTES
from mistline.stages.report import run
from tests.benchmarks.bench import Bench, Gate
from tests.unit.report import tree

_CELLS = 100_000
_SHAPE = (6000, 8000)
_LIMIT_S = 2.0
_NODES = 20_000  # of the whole page: far below one a cell
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--disable-sync")

_MOVE = """async () => {
  const canvas = document.querySelector("#tissue canvas"), host = document.getElementById("tissue");
  const before = host.viewer.view().x;
  canvas.focus();
  canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return host.viewer.view().x < before ? performance.now() / 1000 : null;
}"""
_FRAME = """async () => {
  const { viewer } = document.getElementById("tissue"), { x, y, fit } = viewer.view(), found = [];
  for (let zoom = 1; zoom < 40; zoom *= 1.3) {
    const start = performance.now();
    viewer.look(x, y, fit * zoom);
    found.push(performance.now() - start);
  }
  return Math.max(...found);
}"""


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates of the page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise RuntimeError("no chromium on this machine (Debian: apt-get install chromium)")
    page = _page(bench)
    size = page.stat().st_size
    yield Gate("page of a slide of 100,000 cells", "MB", size / 1e6, limit=BUDGET_BYTES / 1e6)
    opened, loaded, frames, nodes = zip(*(_open(page, browser) for _ in range(bench.rounds)), strict=True)
    note = f"document parsed after {median(loaded):.2f} s; slowest frame while zooming {median(frames):.0f} ms"
    yield Gate("page open: map drawn and moved by a key", "s", median(opened), limit=_LIMIT_S, note=note)
    yield Gate("elements of the page", "", max(nodes), limit=_NODES)


def _page(bench: Bench) -> Path:
    """Make the page, once."""
    folder = bench.work / f"report-{_CELLS}cells"
    page = folder / "report" / "index.html"
    shutil.rmtree(folder, ignore_errors=True)
    usual = tree.N_CELLS, tree.SHAPE
    tree.N_CELLS, tree.SHAPE = _CELLS, _SHAPE
    try:
        run(**tree.write_tree(folder / "results", n_slides=1).options(folder / "report"))
    finally:
        tree.N_CELLS, tree.SHAPE = usual
    return page


def _open(page: Path, browser: str) -> tuple[float, float, float, int]:
    """Return seconds until the map moved and until the document was parsed, the slowest frame in ms, and elements."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        process = driver.chromium.launch(executable_path=browser, args=list(SWITCHES))
        try:
            shown = process.new_page(viewport={"width": 1400, "height": 1000})
            shown.goto(page.as_uri(), wait_until="commit")
            shown.wait_for_selector("#tissue[data-state=ready], #tissue[data-state=complete]")
            moved = shown.evaluate(_MOVE)
            if moved is None:
                raise RuntimeError("the map did not move")
            parsed = shown.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000")
            shown.wait_for_selector("#tissue[data-state=complete]")
            nodes = shown.evaluate("document.querySelectorAll('*').length")
            return moved, parsed, shown.evaluate(_FRAME), nodes
        finally:
            process.close()
