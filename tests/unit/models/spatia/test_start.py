"""Before any step, embeddings tell cells apart in all directions, and draws stay those of the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mistline.models.contract import Context
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Params


def _model(source, tmp_path, **values) -> Model:
    return Model.create(Params(size="tiny", **values), source, Context(0, "cpu", 1, tmp_path))


def test_shares_of_z_start_with_mean_0_and_variance_1_but_for_the_faintest(source, tmp_path):
    cells = source(250, seed=2)
    model = _model(cells, tmp_path)
    needs = replace(model.recipe(cells).needs, batch_size=250)
    inputs = model.prepare(next(iter(cells.batches(needs))), "cpu")
    model.net.eval()
    with torch.no_grad():
        found = model.net.encode(inputs.cells, use_image=True, use_genes=True)
    for share in (found.z_image, found.z_genes):
        assert share.mean(0).abs().max() < 0.3
        spread = share.std(0)
        assert spread.max() < 1.3  # those that would need more than a fourfold gain stay below 1
        assert (spread - 1).abs().median() < 0.1
    kind = torch.from_numpy(cells.kind)
    centres = torch.stack([found.z[kind == one].mean(0) for one in range(3)])
    nearest = torch.cdist(found.z, centres).argmin(1)
    assert (nearest == kind).float().mean() > 0.9


@pytest.mark.parametrize("n", [1, 2, 5])
def test_very_few_cells_are_no_sample_and_no_failure(n, source, tmp_path):
    arrays = _model(source(n), tmp_path).arrays()
    assert all(np.isfinite(value).all() for name, value in arrays.items() if value.dtype.kind == "f")
