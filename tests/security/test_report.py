"""The report shows hostile names as text, wherever they come from."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mistline.stages.report import run
from tests.unit.report import tree

HOSTILE = "</script></style></title>\"'><img src=x onerror=alert(1)><script>alert(1)</script>{{7*7}}<!--"


class Found(HTMLParser):
    """What of a page a browser would obey."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.handlers: list[str] = []
        self.links: list[str] = []
        self.comments: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_hostile_names_are_shown_and_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tissue of the sheet, a problem of a bundle, a label of cells and the name of a model."""
    monkeypatch.setattr(tree, "HOSTILE", HOSTILE)
    run(**tree.write_tree(tmp_path / "results").options(tmp_path / "report"))
    written = (tmp_path / "report/index.html").read_text()
    assert "<img src=x" not in written
    assert "alert(1)</script>" not in written
    page = Found(written)
    assert not page.handlers
    assert not page.comments
    assert not [link for link in page.links if re.match(r"x$|javascript:|https?:|file:|//", link)]
    assert (page.tags["title"], page.tags["style"]) == (1, 1)
    assert HOSTILE in "".join(page.text)
    for figure in (tmp_path / "report").rglob("*.svg"):
        assert not re.search(r"<script|onerror=|<img", figure.read_text()), figure
