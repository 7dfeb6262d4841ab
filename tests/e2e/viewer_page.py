"""The page's tissue viewer, as a test looks at it and moves in it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Page = Any


class opened:  # noqa: N801  (reads as a sentence)
    """The page, ready; what its console says goes to `complaints`."""

    def __init__(self, browser: Any, path: Path, complaints: list[str], **options: Any) -> None:
        self._context = browser.new_context(viewport={"width": 1400, "height": 1000}, **options)
        self._path, self._complaints = path, complaints

    def __enter__(self) -> Page:
        page = self._context.new_page()
        page.on("console", lambda message: self._complaints.append(message.text))
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("request", lambda request: self._complaints.append(request.url) if asks_network(request.url) else None)
        page.goto(self._path.as_uri())
        ready(page)
        page.evaluate("document.getElementById('tissue').scrollIntoView({ behavior: 'instant' })")
        return page

    def __exit__(self, *problem: object) -> None:
        self._context.close()


def asks_network(address: str) -> bool:
    return not address.startswith(("file:", "data:"))


def ready(page: Page) -> None:
    page.wait_for_selector("#tissue[data-state=complete]", timeout=60_000)


def part(page: Page, name: str) -> Any:
    return page.locator(f"#tissue [data-part='{name}']")


def view(page: Page) -> dict[str, float]:
    return page.evaluate("document.getElementById('tissue').viewer.view()")


def look(page: Page, x: float, y: float, scale: float) -> None:
    page.evaluate("([x, y, k]) => document.getElementById('tissue').viewer.look(x, y, k)", [x, y, scale])


def pixels(page: Page, name: str = "canvas") -> NDArray[np.uint8]:
    """Return what a canvas shows [rows, columns, RGBA]."""
    part(page, name).evaluate("() => new Promise(requestAnimationFrame)")
    address = part(page, name).evaluate("canvas => canvas.toDataURL('image/png')")
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(picture.convert("RGBA"))


def hover(page: Page, cell_id: str) -> None:
    """Point at a cell and wait until the page has read it."""
    x, y = page.evaluate("id => document.getElementById('tissue').viewer.where(id)", cell_id)
    part(page, "canvas").hover(position={"x": x, "y": y})
    page.wait_for_selector(f"[data-part='crop'][data-cell='{cell_id}']", timeout=10_000)
