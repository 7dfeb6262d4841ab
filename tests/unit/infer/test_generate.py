from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mistline.core.errors import ConfigError, InputError
from mistline.core.seeds import ranked
from mistline.infer import generate
from mistline.infer.generate import check, check_protocol, dealt

CELL_ONLY = ((True, True, False, False),) * 2
MADE_FOR = SimpleNamespace(autoencoder_sha256="a" * 64, condition_sha256="c" * 64, present=CELL_ONLY, modes=("recon",))


def _latents(autoencoder: str = "a", condition: str = "c") -> SimpleNamespace:
    return SimpleNamespace(autoencoder_sha256=autoencoder * 64, condition_sha256=condition * 64)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_every_cell_is_dealt_another_one(n):
    found = dealt(n, 0)
    assert sorted(found.tolist()) == list(range(n))
    assert (found != np.arange(n)).all()
    assert n < 50 or (found != dealt(n, 1)).any()


def test_a_cell_alone_keeps_its_own():
    assert dealt(1, 0).tolist() == [0]


def test_the_first_cells_of_each_slides_draw_are_tested():
    ids = [f"c{i}" for i in range(30)]
    cells = pd.DataFrame({"slide": ["b"] * 30 + ["a"] * 2, "cell_id": [*ids, "x", "y"]}, index=range(5, 37))
    few, many = generate.tested(cells, 4), generate.tested(cells, 10)
    assert few[:4].tolist() == ranked(ids, 0, "generation", "b")[:4].tolist() == many[:4].tolist()
    assert sorted(few[4:].tolist()) == [30, 31]
    with pytest.raises(InputError, match="none of the encoded cells is in the test split"):
        generate.tested(cells.iloc[:0], 4)


def test_what_it_was_not_trained_with_is_refused():
    check(MADE_FOR, _latents(), "a" * 64, "config.json")
    for origin, decoder, message in (
        (
            _latents(autoencoder="b"),
            "b",
            r"latents of another autoencoder \(bbbbbbbbbbbb, it was trained on those of a",
        ),
        (_latents(), "b", "another autoencoder is to decode its latents"),
        (_latents(condition="d"), "a", "conditions of another run"),
    ):
        with pytest.raises(InputError, match=message):
            check(MADE_FOR, origin, decoder * 64, "config.json")


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (
            "context2img",
            "context2img reads z_n, z_t from genes, and the condition's run gives none; choose one of recon",
        ),
        ("gene2img", "the generator was not trained for gene2img"),
        ("gene2image", "unknown protocol 'gene2image'"),
    ],
)
def test_a_protocol_that_cannot_be_drawn_is_one_sentence(protocol, message):
    check_protocol(MADE_FOR, "recon")
    with pytest.raises(ConfigError, match=message):
        check_protocol(MADE_FOR, protocol)
