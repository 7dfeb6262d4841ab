"""The model and the task of workflow/docs/add-a-model.md, taken out of the page, pass the tests it gives them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import mistline.models
import mistline.tasks

PAGE = "workflow/docs/add-a-model.md"
FILE = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def written(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, whose models and tasks are found beside those of the package."""
    for name, text in FILE.findall((repository / PAGE).read_text()):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for package in (mistline.models, mistline.tasks):
        folder = tmp_path / "src" / package.__name__.replace(".", "/")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    return tmp_path


def _test_of(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (test,) = [value for name, value in vars(module).items() if name.startswith("test_")]
    return test


def test_the_model(written, memory_source, tmp_path):
    _test_of(written / "tests/unit/models/signatures/test_signatures.py")(memory_source, tmp_path)


def test_the_task(written, cohort):
    _test_of(written / "tests/unit/tasks/test_depth.py")(cohort)
