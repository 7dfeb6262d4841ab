"""The report in a real browser: no error on the console, tables sort, modes switch, pictures enlarge."""

from __future__ import annotations

import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mistline.stages.report import run
from tests.unit.report.tree import write_tree

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)

SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=8000",
    "--window-size=1400,1000",
    "--dump-dom",
]

# Loads the report beside itself, lets it run, does SCRIPT(window, document) and leaves what it returns in the page.
WRAPPER = """<!doctype html><meta charset="utf-8"><iframe src="index.html" width="1300" height="900"></iframe><script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => setTimeout(() => {
  const act = (window, document) => { %s };
  const out = document.createElement("pre");
  out.id = "result";
  out.textContent = JSON.stringify(act(frame.contentWindow, frame.contentDocument));
  document.body.append(out);
}, 200));
</script>"""

Act = Callable[..., object]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and tells nobody."""

    def log_message(self, *words: object) -> None:
        pass


def browse(address: str, profile: Path, *more: str) -> tuple[str, list[str]]:
    """Return the page's final DOM and the lines of its console."""
    command = [BROWSER, *SWITCHES, *more, f"--user-data-dir={profile}", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser") / "ein Bericht"
    run(**write_tree(root / "results").options(root / "report"))
    return root / "report"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


@pytest.fixture
def act(folder: Path, server: str, tmp_path: Path) -> Act:
    """Run a script in the report's page and return its value."""

    def do(script: str, *more: str) -> object:
        (folder / "wrapper.html").write_text(WRAPPER % script, encoding="utf-8")
        dom, console = browse(f"{server}/wrapper.html", tmp_path / "profile", *more)
        assert console == []
        return json.loads(html.unescape(re.search(r'<pre id="result">(.*?)</pre>', dom, re.DOTALL)[1]))

    return do


def test_opens_from_disk_without_an_error(folder, tmp_path):
    dom, console = browse((folder / "index.html").as_uri(), tmp_path / "profile")
    assert console == []
    assert 'aria-sort="none"' in dom  # the script ran to its end or near it
    assert re.search(r'id="theme"[^>]*>(Dark|Light) mode<', dom)


def test_an_error_would_have_been_seen(folder, tmp_path):
    text = (folder / "index.html").read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace('"use strict";', '"use strict"; nowhere();'), encoding="utf-8")
    _, console = browse(broken.as_uri(), tmp_path / "profile")
    assert any("nowhere is not defined" in line for line in console)


SORT = """
  const table = document.querySelector("#table-clustering\\\\.fixed table");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
  const head = (n) => table.tHead.rows[0].cells[n];
  const found = [names()];
  for (const column of [2, 2, 0]) {
    head(column).querySelector("button").click();
    found.push([head(column).getAttribute("aria-sort"), names(), table.querySelectorAll("[aria-sort=none]").length]);
  }
  found.push(head(2).textContent.trim());
  return found;
"""


def test_tables_sort_by_number_and_by_name(act):
    before, falling, rising, by_name, title = act(SORT)
    assert title == "ari"
    hostile = before[0]
    shuffled = [name for name in before if name.startswith("shuffled")]
    worst = sorted(shuffled, key=lambda name: name.startswith(f"shuffled ({hostile}"))  # the weaker model's first
    assert falling[:2] == ["descending", [hostile, "coordinates", "pca", *worst[::-1]]]
    assert rising[:2] == ["ascending", falling[1][::-1]]
    assert by_name[0] == "ascending"
    assert sorted(by_name[1]) == sorted(before)
    assert by_name[1].index("coordinates") < by_name[1].index("pca") < by_name[1].index(shuffled[0])
    assert {falling[2], rising[2], by_name[2]} == {4}  # of five columns only one is sorted


MODES = """
  const filters = (paper) => new Set([...document.querySelectorAll(`details[open] img.${paper}`)]
    .map((image) => window.getComputedStyle(image).filter));
  const state = () => [[...filters("light")], [...filters("lightbox")],
    window.getComputedStyle(document.body).backgroundColor, document.getElementById("theme").textContent];
  const before = state();
  document.getElementById("theme").click();
  const after = state();
  document.getElementById("theme").click();
  return [before, after, state()];
"""


@pytest.mark.parametrize("system", ["light", "dark"])
def test_dark_and_light_follow_the_system_and_the_button(act, system):
    light = [["none"], ["none"], "rgb(246, 247, 249)", "Dark mode"]
    dark = [["invert(0.91) hue-rotate(180deg) brightness(1.12)"], ["none"], "rgb(15, 19, 24)", "Light mode"]
    first, second = (light, dark) if system == "light" else (dark, light)
    assert act(MODES, f"--blink-settings=preferredColorScheme={int(system == 'light')}") == [first, second, first]


ENLARGE = """
  const zoom = document.querySelector("button.zoom");
  zoom.focus();
  const focused = document.activeElement === zoom;
  zoom.click();
  const dialog = document.getElementById("zoom");
  const image = dialog.querySelector("img");
  const opened = [dialog.open, image.src === zoom.querySelector("img").src, image.alt];
  dialog.querySelector("button").click();
  return [focused, ...opened, dialog.open];
"""


def test_pictures_enlarge_and_close(act):
    focused, opened, same, alt, still_open = act(ENLARGE)
    assert (focused, opened, same, still_open) == (True, True, True, False)
    assert alt == "DAPI image of slide s1 with a scale bar"


def test_nothing_is_wider_than_the_page(act):
    assert act("const root = document.documentElement; return root.scrollWidth - root.clientWidth;") == 0
