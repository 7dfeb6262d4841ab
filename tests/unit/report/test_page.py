"""The page: whole, self-contained, escaped, within its budget, the same twice."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest

from mistline.core.errors import OutputError
from mistline.report import page
from mistline.stages.report import run
from tests.unit.report.tree import HOSTILE, N_CELLS, write_tree

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


class Outline(HTMLParser):
    """Collects what the tests ask of a page, and fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def outline(made) -> Outline:
    return Outline(made.page)


def test_tags_nest_and_ids_are_unique(outline):
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20


def test_contents_link_to_every_section(outline):
    sections = [attributes["id"] for attributes in outline.all("section")]
    assert sections == [name for name in page.SECTIONS if name not in ("generation", "unseen", "imputation")]
    links = [attributes["href"] for attributes in outline.all("a")]
    assert [f"#{name}" for name in sections] == [link for link in links if link != "#main"][: len(sections)]


def test_nothing_is_fetched(made, outline):
    assert all(attributes["src"].startswith("data:image/") for attributes in outline.all("img") if "src" in attributes)
    assert [attributes["href"] for attributes in outline.all("link")] == ["data:,"]
    assert not re.search(r"https?://|@import|url\(", made.page)


def test_what_users_write_is_escaped(made):
    assert HOSTILE not in made.page
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; &#39;co&#39;" in made.page
    assert made.page.count("<script>") == 2  # tables; viewer


def test_every_picture_says_what_it_is(outline):
    shown = [attributes for attributes in outline.all("img") if "src" in attributes]
    assert all(len(attributes["alt"]) > 15 for attributes in shown)
    assert all(int(attributes["width"]) > 150 for attributes in shown)


def test_charts_and_pictures_of_tissue_are_there(outline):
    papers = [attributes.get("class") for attributes in outline.all("img")]
    assert papers.count("light") > 4
    assert papers.count("lightbox") == 2 * 6  # two slides: morphology, splits, groups and three sheets


def test_numbers_of_the_overview(made):
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd[^>]*>([^<]+)</dd>", made.page))
    assert facts["cells"] == str(2 * N_CELLS)
    assert (facts["slides"], facts["donors"], facts["niche tiles"], facts["genes"]) == ("2", "2", "2", "12")
    assert facts["dataset version"] in (made.tree.version, made.tree.version[:12])


def test_sections_say_what_was_found(made):
    assert "Leakage check passed" in made.page
    assert "6 of 86 cells are not in the dataset" in made.page
    assert "(1 of the 6 asked for were too small and dropped)" in made.page
    assert "No benchmark files were given" in made.page


def test_without_tasks_the_page_says_why(tmp_path):
    tree = write_tree(tmp_path / "results", n_slides=1, with_scores=False)
    run(**tree.options(tmp_path / "report"))
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "No task was evaluated" in text
    assert "verdicts" not in text.split("</style>")[1].split("<script>")[0]


def test_a_page_above_the_budget_is_refused():
    assert page.check_size("µ" * 10, 20) == 20
    with pytest.raises(OutputError, match="more than"):
        page.check_size("µ" * 10, 19)


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        page.render(title="t")


def test_the_same_tree_gives_the_same_bytes_whoever_draws(made, tmp_path):
    run(**made.tree.options(tmp_path / "again"), threads=2)
    for first in sorted(path for path in made.out.rglob("*") if path.is_file() and ".meta." not in path.name):
        assert (tmp_path / "again" / first.relative_to(made.out)).read_bytes() == first.read_bytes(), first


def test_figures_and_tables_are_written(made):
    figures = {path.name for path in (made.out / "figures").iterdir()}
    assert {"s1.morphology.png", "s1.morphology.svg", "s2.cell.png", "clustering.fixed.svg"} <= figures
    assert "metacell_pcc.png" in figures
    assert {path.stem for path in map(Path, figures) if path.suffix == ".png"} == {
        path.stem for path in map(Path, figures) if path.suffix == ".svg"
    }
    assert (made.out / "tables" / "clustering.fixed.csv").is_file()
