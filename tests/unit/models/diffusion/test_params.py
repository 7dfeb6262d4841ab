from __future__ import annotations

import pytest

from mistline.config.base import validate
from mistline.core.errors import ConfigError
from mistline.models.diffusion.params import Params
from tests.unit.models.diffusion.synthetic import SETTINGS


def test_the_paper_size_is_trained_as_the_paper_says():
    params = Params(condition="spatia", autoencoder="vae", size="paper")
    assert (params.learning_rate, params.warmup_steps, params.train_batch, params.steps) == (1e-4, 500, 256, 25_000)
    assert (params.condition_dropout, params.ema, params.n_noise_steps) == (0.1, 0.9999, 1000)
    assert params.serves() == {"images"}


def test_a_size_fills_in_what_is_not_said():
    params = Params(**{**SETTINGS, "steps": 7})
    assert (params.steps, params.warmup_steps, params.learning_rate) == (7, 20, 4e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modes": ["recon", "recon"]}, "modes names one twice"),
        ({"modes": ["gene2image"]}, "gene2img"),
        ({"beta_start": 0.5}, "beta_start 0.5 is above beta_end 0.012"),
        ({"condition": ""}, "condition"),
    ],
)
def test_what_cannot_be_is_one_sentence(change, message):
    with pytest.raises(ConfigError, match=message):
        validate(Params, {**SETTINGS, **change}, "models.cells.params")
