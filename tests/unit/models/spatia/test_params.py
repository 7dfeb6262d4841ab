"""Presets and sizes fill in what is not given, and what contradicts itself is refused in a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mistline.config.base import validate
from mistline.core.errors import ConfigError
from mistline.models.spatia.params import PRESETS, SIZES, Params


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", SIZES)
def test_every_preset_of_every_size(preset, size):
    params = Params(preset=preset, size=size)
    for name, value in {**SIZES[size], **PRESETS[preset]}.items():
        assert getattr(params, name) == value
    assert Params.model_validate(params.model_dump(mode="json")) == params


def test_paper_is_as_published():
    params = Params(size="paper")
    assert (params.width, params.gene_layers, params.gene_mlp) == (256, 8, 1024)
    assert (params.image_width, params.image_layers, params.image_heads, params.image_mlp) == (768, 12, 12, 3072)
    assert (params.decoder_width, params.decoder_layers, params.decoder_mlp) == (512, 8, 2048)
    assert (params.patch, params.image_size, params.mask_ratio) == (16, 224, 0.75)


def test_what_is_given_wins():
    params = Params(size="tiny", preset="cell_only", width=32, steps=7)
    assert (params.width, params.steps, params.epochs, params.levels) == (32, 7, None, ("cell",))


@pytest.mark.parametrize(
    ("values", "reads"),
    [
        ({}, {"genes", "image", "coordinates"}),
        ({"preset": "cell_only"}, {"genes", "image"}),
        ({"preset": "no_image"}, {"genes", "coordinates"}),
        ({"preset": "no_genes"}, {"image", "coordinates"}),
        ({"preset": "gene_only"}, {"genes"}),
        ({"embed_from": "image"}, {"image", "coordinates"}),
        ({"embed_from": "image", "preset": "mae"}, {"image"}),
    ],
)
def test_says_what_an_embedding_knows(values, reads):
    assert Params(**values).reads() == reads


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"preset": "fusoin"}, "unknown preset"),
        ({"levels": ["niche"]}, "need cell"),
        ({"levels": ["cell", "tissue"]}, "needs level niche"),
        ({"pairs": "shuffled", "modalities": ["genes"]}, "needs the modalities"),
        ({"embed_from": "image", "preset": "no_image"}, "not among"),
        ({"preset": "no_genes", "lambda_image": 0}, "nothing else"),
        ({"width": 60, "heads": 8}, "cannot be divided"),
        ({"image_size": 50}, "no multiple"),
        ({"image_weights": "a.pt"}, "belong together"),
        ({"steps": 5, "epochs": 5}, "epochs or steps"),
        ({"combine_weight": 0.5}, "official"),
        ({"widths": 5}, "did you mean width"),
        ({"size": "huge"}, "tiny"),
    ],
)
def test_refused(values, told):
    with pytest.raises(ConfigError) as error:
        validate(Params, values, "models.spatia.params")
    assert told in str(error.value)


def test_imports_no_torch():
    code = "import sys, mistline.models.spatia.params; assert not {'torch', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
