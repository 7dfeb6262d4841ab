"""Cells with changed counts are told as a slide would tell in which they had these counts."""

from __future__ import annotations

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.models.contract import Context, Needs
from mistline.models.spatia.edited import Cells, encode_again
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Params

TOKENS = ("z", "z_gene", "z_n", "z_t")
TINY = {"size": "tiny", "gene_layers": 1, "image_layers": 1, "decoder_layers": 1}


def told(model: Model, slide, context: Context) -> np.ndarray:
    """[n, 2, 4, D] of a slide, as `encode_cells` writes it: what the model does not give is 0."""
    found = np.zeros((slide.count(), 2, 4, model.params.width), dtype=np.float32)
    for number, (reading, modality) in enumerate({"all": "image", "genes": "genes"}.items()):
        if model.params.embeds(modality):
            blocks = list(model.embed_as(slide, context, reading))
            for place, token in enumerate(TOKENS):
                parts = [block.z if token == "z" else block.parts.get(token) for block in blocks]
                if parts[0] is not None:
                    found[:, number, place] = np.concatenate(parts)
    return found


def cells(model: Model, slide, rows: list[int], counts: np.ndarray) -> Cells:
    size = model.params.image_size if "image" in model.params.modalities else None
    batch = next(iter(slide.batches(Needs(image_size=size, batch_size=slide.count()))))
    image = None if batch.image is None else batch.image[rows]
    return Cells(slide, [batch.record_id[i] for i in rows], batch.side_um[rows], image, counts)


@pytest.mark.parametrize("values", [{}, {"preset": "gene_only"}])
def test_a_changed_cell_is_told_as_in_a_slide_of_its_own(values, source, tmp_path):
    slide, context = source(90), Context(0, "cpu", 1, tmp_path)
    model = Model.create(Params(**TINY, **values), slide, context)
    before = told(model, slide, context)
    rows = [3, 71]
    same = encode_again(model, cells(model, slide, rows, slide.counts[rows]), before[rows], context)
    np.testing.assert_allclose(same, before[rows], atol=1e-5)

    changed = slide.counts[[3]].copy()
    changed[0, :4] = [0, 50, 0, 7]
    found = encode_again(model, cells(model, slide, [3], changed), before[[3]], context)
    slide.counts[3] = changed[0]
    np.testing.assert_allclose(found, told(model, slide, context)[[3]], atol=1e-5)
    given = [model.params.embeds(modality) for modality in ("image", "genes")]
    moved = np.abs(found - before[[3]])[:, :, :2].max(axis=(0, 3)) > 1e-3  # z and z_gene, in each reading
    assert moved.tolist() == [[given[0]] * 2, [given[1]] * 2]
    np.testing.assert_array_equal(found[:, :, 2:], before[[3]][:, :, 2:])


def test_a_cell_may_lose_all_its_counts(source, tmp_path):
    slide, context = source(40), Context(0, "cpu", 1, tmp_path)
    model = Model.create(Params(**TINY), slide, context)
    none = np.zeros((1, len(slide.genes)), dtype=np.int64)
    assert np.isfinite(
        encode_again(model, cells(model, slide, [0], none), np.zeros((1, 2, 4, 64), "f4"), context)
    ).all()


@pytest.mark.parametrize("values", [{"preset": "image_only"}, {"preset": "shuffled_pairs"}])
def test_a_model_that_does_not_read_the_cells_own_genes_is_refused(values, source, tmp_path):
    slide, context = source(70), Context(0, "cpu", 1, tmp_path)
    model = Model.create(Params(**TINY, **values), slide, context)
    given = cells(model, slide, [0], slide.counts[[0]])
    with pytest.raises(InputError, match="no genes, or those of other cells"):
        encode_again(model, given, np.zeros((1, 2, 4, 64), "f4"), context)
