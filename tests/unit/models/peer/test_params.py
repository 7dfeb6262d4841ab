from __future__ import annotations

import pytest

from mistline.config.base import validate
from mistline.core.errors import ConfigError
from mistline.models.peer.params import METHODS, Params
from mistline.tasks.peers.run import script
from mistline.workflow.registry import resolve_models
from tests.conftest import REPOSITORY


def params(**values):
    return validate(Params, values, "models.x.params")


def test_what_a_method_serves_and_reads_is_known_before_it_is_installed():
    assert params(method="celltypist").serves() == {"prediction"}
    assert params(method="celltypist").reads() == {"genes"}
    assert params(method="banksy").serves() == {"embedding"}
    assert params(method="graphst").reads() == {"genes", "coordinates"}


def test_settings_are_the_authors_where_none_are_given():
    assert params(method="banksy", options={"lambda": 0.2}).settings == {
        "lambda": 0.2,
        "neighbours": 15,
        "components": 20,
    }


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"method": "celtypist"}, "models.x.params.method: unknown method 'celtypist'; did you mean celltypist"),
        ({"method": "banksy", "options": {"lamda": 1.0}}, "unknown option 'lamda'; did you mean lambda"),
        ({"method": "banksy", "options": {"neighbours": 2.5}}, "options.neighbours: 2.5 is not a int, as 15 is"),
        ({"method": "celltypist", "options": {"use_SGD": 1}}, "options.use_SGD: 1 is not a bool, as False is"),
        ({}, "models.x.params.method: this key is required; set it"),
    ],
)
def test_wrong_settings_are_one_sentence(values, sentence):
    with pytest.raises(ConfigError, match="(?s).*" + sentence.replace("(", r"\(")):
        params(**values)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_has_its_script_and_its_lock(method):
    assert script(method).is_file()
    lock = (REPOSITORY / "envs/peers" / f"{method}.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert "--index" not in lock
    asked = [line for line in (REPOSITORY / "envs/peers" / f"{method}.in").read_text().splitlines() if "==" in line]
    assert asked
    assert all(f"{line} \\" in lock for line in asked)


def test_a_script_never_imports_this_package():
    assert all("mistline" not in script(method).read_text() for method in METHODS)


def test_a_run_of_a_peer_resolves():
    from mistline.config.models import ModelRun

    found = resolve_models({"x": ModelRun(model="peer", params={"method": "celltypist"})})["x"]
    assert found.serves == {"prediction"}
