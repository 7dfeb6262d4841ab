from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mistline.workflow import digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package where stages/cut imports a, a imports b, and c is nobody's."""
    for name, text in {
        "stages/cut.py": "from mistline.a import go\n",
        "a.py": '"""Doc."""\nfrom mistline import b\ngo = b.x\n',
        "b/__init__.py": "x = 1\n",
        "c.py": "y = 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(digest, "PACKAGE", tmp_path)
    clear()
    yield tmp_path
    clear()


def clear() -> None:
    for cached in (digest.code_digest, digest._file, digest._read, digest._templates):
        cached.cache_clear()


def changed(package: Path, name: str, text: str) -> bool:
    before = digest.code_digest("cut")
    (package / name).write_text(text)
    clear()
    return digest.code_digest("cut") != before


def test_an_indirect_edit_counts(package: Path) -> None:
    assert digest.reachable("mistline.stages.cut") == {"mistline.stages.cut", "mistline.a", "mistline.b"}
    assert changed(package, "b/__init__.py", "x = 2\n")


def test_comments_docstrings_and_strangers_do_not_count(package: Path) -> None:
    assert not changed(package, "a.py", '"""Other."""\n# remark\nfrom mistline import b\n\ngo = b.x\n')
    assert not changed(package, "c.py", "y = 2\n")


def test_a_field_that_a_later_python_adds_does_not_count(package: Path, monkeypatch) -> None:
    before = digest.code_digest("cut")
    clear()
    for kind in (ast.FunctionDef, ast.ClassDef, ast.Constant):
        monkeypatch.setattr(kind, "_fields", (*kind._fields, "new"))
        monkeypatch.setattr(kind, "new", [], raising=False)
    assert digest.code_digest("cut") == before


def test_a_template_counts_for_its_room(package: Path) -> None:
    before = digest.code_digest("cut")
    (package / "b/templates").mkdir()
    assert changed(package, "b/templates/page.html", "<p>")
    assert digest.code_digest("cut") != before


def test_modules_chosen_by_name_count(package: Path) -> None:
    assert digest.code_digest("cut") != digest.code_digest("cut", "mistline.c")
