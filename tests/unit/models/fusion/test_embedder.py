from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from mistline.core.errors import InputError
from mistline.models.contract import Context
from mistline.models.fusion.model import Model
from mistline.models.fusion.params import Params
from mistline.train.run import train
from tests.unit.models.fusion.conftest import spots

CONTEXT = Context(0, "cpu", 1, None)
SMALL = {"objective": "reconstruction", "width": 16, "hidden": 16, "n_components": 5, "epochs": 3, "min_epochs": 1}


@dataclass
class Source:
    """Spots of the toy; the last two genes are missing on some slide."""

    slides: list
    values: str = "counts"
    channels: tuple = ()

    def __post_init__(self):
        self.genes = self.slides[0].genes if self.slides else ("a", "b", "c")
        self.common_genes = self.genes[:-2]

    def count(self, scale="cell"):
        return sum(len(item.layer) for item in self.slides)

    def batches(self, needs, shuffle=None):
        for item in self.slides:
            for start in range(0, len(item.layer), 100):
                rows = sparse.csr_matrix(item.counts[start : start + 100])
                yield SimpleNamespace(
                    slide=[item.slide] * rows.shape[0],
                    record_id=[f"{item.slide}-{i}" for i in range(start, start + rows.shape[0])],
                    xy_um=torch.from_numpy(item.xy_um[start : start + 100]),
                    gene_index=torch.from_numpy(rows.indices.astype(np.int64)),
                    gene_count=torch.from_numpy(rows.data),
                    gene_offset=torch.from_numpy(rows.indptr.astype(np.int64)),
                )


def _sources():
    items = list(spots(16).values())
    return Source(items[:2]), Source(items[2:3])


@pytest.mark.parametrize("parts", [{"preset": "gcn_only"}, {}, {"preset": "expr_only"}], ids=str)
def test_every_cell_once_in_order_and_the_same_when_restored(parts):
    train_part, val_part = _sources()
    params = Params(**SMALL, **parts)
    trained = train("mistline.models.fusion", params, train_part, val_part, CONTEXT)
    assert {"loss", "val_loss"} <= set(trained.metrics[0])
    blocks = list(trained.model.embed(train_part, CONTEXT))
    assert [cell for block in blocks for cell in block.cell_id] == [
        f"{item.slide}-{i}" for item in train_part.slides for i in range(256)
    ]
    z = np.concatenate([block.z for block in blocks])
    assert z.shape == (512, 5)
    again = Model.restore(params, trained.model.arrays(), trained.model.genes)
    np.testing.assert_array_equal(np.concatenate([b.z for b in again.embed(train_part, CONTEXT)]), z)
    alone = np.concatenate([b.z for b in again.embed(Source(train_part.slides[:1]), CONTEXT)])
    np.testing.assert_allclose(alone, z[:256], atol=1e-5)


def test_it_learns_to_give_genes_back():
    train_part, val_part = _sources()
    params = Params(**{**SMALL, "preset": "gcn_only", "epochs": 40, "learning_rate": 5e-3})
    course = train("mistline.models.fusion", params, train_part, val_part, CONTEXT).metrics
    assert course[-1]["loss"] < 0.97 * course[0]["loss"]


def test_batches_embed_what_the_whole_slide_does():
    train_part, val_part = _sources()
    params = Params(**SMALL, preset="gcn_only", scaling="slide")
    model = train("mistline.models.fusion", params, train_part, val_part, CONTEXT).model
    sampled = params.model_copy(update={"full_batch_below": 1, "batch_cells": 40})
    other = Model.restore(sampled, model.arrays(), model.genes)
    rows = [np.concatenate([b.z for b in item.embed(val_part, CONTEXT)]) for item in (model, other)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)


def test_no_validation_cell_will_do_and_no_training_cell_will_not():
    train_part, _ = _sources()
    params = Params(**SMALL, preset="gcn_only")
    nothing = Source([])
    nothing.genes, nothing.common_genes = train_part.genes, train_part.common_genes
    trained = train("mistline.models.fusion", params, train_part, nothing, CONTEXT)
    assert len(trained.metrics) == 3
    with pytest.raises(InputError, match="training cells: there is none"):
        train("mistline.models.fusion", params, nothing, train_part, CONTEXT)


def test_other_genes_are_refused():
    train_part, val_part = _sources()
    model = train("mistline.models.fusion", Params(**SMALL, preset="gcn_only"), train_part, val_part, CONTEXT).model
    val_part.common_genes = val_part.common_genes[5:]
    with pytest.raises(InputError, match="5 genes of the model are not on every slide, such as GENE0000"):
        list(model.embed(val_part, CONTEXT))
