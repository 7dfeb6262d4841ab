"""Settings of every kind, drawn from the schema and mutated from the toy's: loaded as they are, or one sentence."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError

from mistline.config.load import load_config
from mistline.config.root import Config
from mistline.core.errors import ConfigError
from mistline.workflow.registry import check_encoded, check_imputation, resolve_models, resolve_tasks, shown_runs
from mistline.xenium.toy.cohort import plan_cohort, write_cohort
from tests.conftest import REPOSITORY
from tests.fuzz.cases import CHANGED, REFUSED
from tests.fuzz.mutations import BYTES, TEXT, VALUES, change_value

N_CASES, N_NIGHTLY = 50, 700  # of each test
_LONGEST = 5000


def config_settings(nightly: bool) -> settings:
    return settings(
        max_examples=N_NIGHTLY if nightly else N_CASES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def take(values: Any) -> str:
    """Do with settings what the Snakefile does; return what came of it."""
    try:
        config = load_config(values, root=REPOSITORY)
        models = resolve_models(config.models, config.has_images)
        tasks = resolve_tasks(config.tasks, config.active_slides, models)
        check_encoded(config.generation.encoded.test, tasks)
        check_imputation(config.imputation, config.models, models, tasks, config.slides, config.active_slides)
        shown_runs(config.viewer, config.seeds, models)
    except ConfigError as error:
        return _refused(str(error))
    again = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    assert load_config(again, root=REPOSITORY).model_dump(mode="json") == config.model_dump(mode="json")
    return CHANGED


def _refused(said: str) -> str:
    assert "\n" not in said, said
    assert len(said) < _LONGEST, said
    return REFUSED


@pytest.fixture
def found(request: pytest.FixtureRequest) -> Counter[str]:
    """How the cases of a test ended; printed at the end."""
    counts: Counter[str] = Counter()
    request.node.user_properties.append(("fuzz", ["settings", counts]))
    return counts


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config.yaml of a toy cohort, whose bundles are not there."""
    folder = tmp_path_factory.mktemp("toy")
    write_cohort(folder, plan_cohort(2, 4, 0, ("3.0",), n_planes=1, n_stains=1, transcripts=False))
    return folder / "config.yaml"


def test_mutated_settings(toy: Path, nightly: bool, found: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy.parent)
    good = load_configfile(str(toy))
    good["slides"] = load_config(good, root=toy.parent).model_dump(mode="json")["slides"]
    assert take(copy.deepcopy(good)) == CHANGED

    @seed(0)
    @config_settings(nightly)
    @given(st.integers(0, 2**32))
    def check(number: int) -> None:
        values, chance = copy.deepcopy(good), random.Random(number)
        for _ in range(chance.choice([1, 1, 2, 5])):
            change_value(values, chance)
        found[take(values)] += 1

    check()
    assert set(found) == {CHANGED, REFUSED}


def test_settings_drawn_from_the_schema(nightly: bool, found: Counter[str]) -> None:
    schema = Config.model_json_schema()

    @seed(1)
    @config_settings(nightly)
    @given(drawn(schema, schema["$defs"]))
    def check(values: Any) -> None:
        found[take(values)] += 1

    check()


def test_mutated_text(
    toy: Path, nightly: bool, found: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.parent)
    text, path = toy.read_bytes(), tmp_path / "config.yaml"
    # Snakemake's own reader has no sentence for these; it reads the file before any of this program does.
    ways = [way for name, way in (BYTES | TEXT).items() if name != "deeply nested"]

    @seed(2)
    @config_settings(nightly)
    @given(st.integers(0, 2**32))
    def check(number: int) -> None:
        chance = random.Random(number)
        path.write_bytes(chance.choice(ways)(text, chance))
        try:
            values = load_configfile(str(path))
        except (WorkflowError, UnicodeError, yaml.YAMLError, ValueError):
            found[REFUSED] += 1
            return
        found[take(values)] += 1

    check()


def drawn(schema: dict[str, Any], known: dict[str, Any], depth: int = 0) -> SearchStrategy[Any]:
    """Return values of a schema, and now and then something else."""
    if "$ref" in schema:
        return drawn(known[schema["$ref"].rsplit("/", 1)[1]], known, depth)
    if "anyOf" in schema:
        return st.one_of([drawn(item, known, depth + 1) for item in schema["anyOf"]])
    anything = st.sampled_from(VALUES)
    if "enum" in schema or "const" in schema:
        return st.one_of(st.sampled_from(schema.get("enum", [schema.get("const")])), anything)
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        parts = {name: drawn(item, known, depth + 1) for name, item in schema["properties"].items()}
        required = {name: parts.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional=_few(parts, depth))
    if kind == "object":
        inner = schema.get("additionalProperties")
        values = drawn(inner, known, depth + 1) if isinstance(inner, dict) else anything
        return st.dictionaries(st.text(max_size=5), values, max_size=2)
    if kind == "array":
        inner = schema.get("items") or {}
        return st.lists(drawn(inner, known, depth + 1), max_size=2)
    plain = {
        "string": st.text(max_size=8),
        "integer": st.integers(-1, 2**65),
        "number": st.floats(),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return st.one_of(plain[kind], plain[kind], anything) if kind in plain else anything


def _few(parts: dict[str, SearchStrategy[Any]], depth: int) -> dict[str, SearchStrategy[Any]]:
    """Leave the deepest out: whole settings are many."""
    return parts if depth < 4 else {}
