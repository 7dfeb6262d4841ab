from __future__ import annotations

import pytest

from mistline.config.base import validate
from mistline.config.models import ModelRun
from mistline.core.errors import ConfigError
from mistline.models.fusion.params import PRESETS, Params
from mistline.workflow.registry import resolve_models

GIVEN = {"frozen_only": ["frozen"], "frozen_gated": ["frozen"], "frozen_full": ["frozen"]}
GIVEN |= {"img_expr": ["frozen_image"], "multimodal": ["frozen_image"]}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_survive_json(preset):
    params = Params(preset=preset, **dict.fromkeys(GIVEN.get(preset, []), "other"))
    assert Params.model_validate(params.model_dump(mode="json")) == params
    assert params.upstream() == ("other",) * len(GIVEN.get(preset, []))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoder": "none"}, "encoder, graph and image are all none"),
        ({"preset": "gat_onyl"}, "unknown preset 'gat_onyl': known are expr_only, gat_only"),
        ({"encoder": "mlp", "fusion": "gated"}, "fusion gated needs two of encoder, graph and image"),
        ({"encoder": "mlp", "image": "trainable", "fusion": "cross_attention"}, "cross_attention needs an encoder"),
        ({"encoder": "mlp", "image": "trainable"}, "image trainable beside another part needs a fusion"),
        ({"preset": "gated", "official": True}, "official belongs to fusion cross_attention"),
        ({"encoder": "frozen"}, "encoder frozen and frozen: give both or neither"),
        ({"preset": "multimodal"}, "image frozen and frozen_image: give both or neither"),
        ({"preset": "expr_only", "neighbours": {"k": [12]}}, "neighbours are set, and graph is none"),
        ({"preset": "gat_only", "neighbours": {"k": [6, 12, 24]}}, "one for each of the 2 graph layers"),
        ({"preset": "gat_only", "neighbours": {"kind": "radius"}}, "radius_um belongs to kind radius"),
        ({"preset": "gat_only", "neighbours": {"kind": "delaunay", "k": [6, 9]}}, "several k belong to kind nearest"),
        ({"preset": "frozen_full", "frozen": "pca", "objective": "reconstruction"}, "no frozen encoder, no image"),
        ({"preset": "gat_only", "heads": 3}, "width 128 cannot be divided among 3 heads"),
        ({"preset": "gat_only", "epoch": 3}, "did you mean epochs"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(values, said):
    with pytest.raises(ConfigError, match=r"models\.m") as error:
        validate(Params, values, "models.m")
    assert said in str(error.value)


def test_what_a_preset_sets_can_be_changed():
    params = Params(preset="cross_attention", graph="gcn", official=False)
    assert (params.encoder, params.graph, params.fusion, params.official) == ("mlp", "gcn", "cross_attention", False)


def test_without_any_part_it_is_cross_attention_that_knows_places():
    params = Params(epochs=3)
    assert (params.encoder, params.graph, params.fusion, params.official) == ("mlp", "gat", "cross_attention", False)


def test_what_it_serves_and_reads():
    assert Params(preset="gated").serves() == {"prediction"}
    assert Params(preset="gated", objective="reconstruction").serves() == {"embedding"}
    assert Params(preset="expr_only").reads() == {"genes"}
    assert Params(preset="gcn_only").reads() == {"genes", "coordinates"}
    assert Params(preset="frozen_full", frozen="pca").reads() == {"coordinates"}
    assert Params(encoder="mlp", image="trainable", fusion="gated").reads() == {"genes", "image"}


def test_images_are_refused_for_tables_and_unknown_runs_by_name():
    trainable = {"m": ModelRun(model="fusion", params={"image": "trainable"})}
    with pytest.raises(ConfigError, match="reads images"):
        resolve_models(trainable, has_images=False)
    runs = {"pca": ModelRun(model="pca"), "m": ModelRun(model="fusion", params={"encoder": "frozen", "frozen": "pac"})}
    with pytest.raises(ConfigError, match="did you mean pca"):
        resolve_models(runs)
