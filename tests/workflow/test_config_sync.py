"""The generated schema and the README's table follow the config models."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mistline.config.load import load_config
from mistline.config.schema import parameter_table, schema_json

BEGIN, END = "<!-- parameters: generated -->\n", "<!-- parameters: end -->\n"


def test_schema_is_current(repository: Path, pytestconfig: pytest.Config) -> None:
    path = repository / "workflow/schemas/config.schema.json"
    if pytestconfig.getoption("--fix"):
        path.write_text(schema_json())
    assert path.read_text() == schema_json(), "run: pytest tests/workflow/test_config_sync.py --fix"


def test_readme_table_is_current(repository: Path, pytestconfig: pytest.Config) -> None:
    path = repository / "README.md"
    before, rest = path.read_text().split(BEGIN)
    table, after = rest.split(END)
    if pytestconfig.getoption("--fix"):
        table = parameter_table()
        path.write_text(before + BEGIN + table + END + after)
    assert table == parameter_table(), "run: pytest tests/workflow/test_config_sync.py --fix"


def test_the_shipped_config_is_valid_and_names_49_slides(repository: Path) -> None:
    values = yaml.safe_load((repository / "config.yaml").read_text())
    config = load_config(values, root=repository)
    assert len(config.slides) == 49
    assert sum(slide.cells or 0 for slide in config.slides) == 17_515_676
