from __future__ import annotations

import numpy as np
import pytest

from mistline.core.errors import InputError
from mistline.models.contract import Context
from mistline.models.pca.model import Model
from mistline.models.pca.params import Params

CONTEXT = Context(0, "cpu", 1, None)


def _fit(source, **params):
    model = Model.create(Params(**params), source, CONTEXT)
    list(model.fit(source, source, CONTEXT))
    return model


def _z(model, source):
    return np.concatenate([block.z for block in model.embed(source, CONTEXT)])


def test_reads_only_genes_measured_everywhere(memory_source):
    source = memory_source()
    model = _fit(source)
    before = _z(model, source)
    source.counts[:, -2:] = 999
    assert model.genes == source.common_genes
    np.testing.assert_array_equal(_z(model, source), before)


def test_depth_of_a_cell_does_not_matter(memory_source):
    source = memory_source()
    model = _fit(source, n_components=3)
    before = _z(model, source)
    source.counts *= 3
    np.testing.assert_allclose(_z(model, source), before, atol=1e-5)


def test_depth_is_the_median_of_training_cells(memory_source):
    source = memory_source()
    assert _fit(source).arrays()["depth"][0] == np.median(source.counts[:, :-2].sum(axis=1))


def test_genes_are_found_by_name(memory_source):
    source = memory_source()
    model = _fit(source)
    before = _z(model, source)
    source.genes, source.counts = source.genes[::-1], source.counts[:, ::-1]
    np.testing.assert_array_equal(_z(model, source), before)


def test_a_vocabulary_without_its_genes_is_refused(memory_source):
    model = _fit(memory_source())
    with pytest.raises(InputError, match="8 genes of the model are not in its vocabulary, such as ENSG0010"):
        _z(model, memory_source(n_genes=10))


def test_no_common_gene_is_refused(memory_source):
    source = memory_source()
    source.common_genes = ()
    with pytest.raises(InputError, match="no gene is measured on every slide"):
        Model.create(Params(), source, CONTEXT)
