from __future__ import annotations

import pytest

from mistline.config.load import load_config
from mistline.core.errors import ConfigError

SLIDE = {"slide": "s1", "bundle": "b", "donor": "d", "tissue": "t", "disease": "x"}
MODELS = {"one": {"model": "pca"}, "two": {"model": "image"}}


def config(tmp_path, **viewer):
    return load_config({"slides": [SLIDE], "models": MODELS, "seeds": [3, 4], "viewer": viewer}, root=tmp_path)


@pytest.mark.parametrize(
    ("viewer", "sentence"),
    [
        ({"models": ["tow"]}, "viewer.models: tow not among models: one, two"),
        ({"seeds": [0]}, "viewer.seeds: 0 not among seeds: 3, 4"),
        ({"n_clusters": 1}, r"config\.viewer\.n_clusters"),
    ],
)
def test_what_is_not_trained_cannot_be_shown(tmp_path, viewer, sentence):
    with pytest.raises(ConfigError, match=sentence):
        config(tmp_path, **viewer)
