"""Classes from z: what is learned of a label, a parent and an unknown one; off, no label is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from mistline.core.errors import ConfigError
from mistline.models.contract import Context
from mistline.models.spatia.class_heads import Classes, ClassHead, ClassHeads, numbers, read_classes
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Params

CLASSES = Classes("cell_type", ("B", "T4", "T8", "Tumour"), {"Lymphocyte": ("B", "T4", "T8"), "T": ("T4", "T8")})


def _labelled(source, n: int = 30):
    """Return cells with labels of their kinds; every fifth has none."""
    cells = source(n)
    plain = cells._records

    def records(scale, size, genes, rows, context=None):
        batch = plain(scale, size, genes, rows, context)
        if scale == "cell":
            names = [None if row % 5 == 0 else f"kind{cells.kind[row]}" for row in rows]
            batch.names["labels"]["cell_type"] = names
        return batch

    cells._records = records
    return cells


def _params(**values) -> Params:
    return Params(size="tiny", preset="gene_only", gene_layers=1, width=16, heads=2, train_batch=30, **values)


def _context(tmp_path) -> Context:
    return Context(0, "cpu", 1, tmp_path)


def test_a_leaf_says_no_to_all_others_and_yes_to_what_is_above_it():
    head = ClassHead(8, CLASSES)
    names = CLASSES.names
    t4 = names.index("T4")
    assert dict(zip(names, head.target[t4].tolist(), strict=True)) == {
        "B": 0, "T4": 1, "T8": 0, "Tumour": 0, "Lymphocyte": 1, "T": 1,
    }  # fmt: skip
    assert head.scored[t4].all()


def test_a_parent_says_nothing_about_its_leaves():
    head, names = ClassHead(8, CLASSES), CLASSES.names
    scored = dict(zip(names, head.scored[names.index("T")].tolist(), strict=True))
    assert scored == {"B": 1, "T4": 0, "T8": 0, "Tumour": 1, "Lymphocyte": 1, "T": 1}
    target = dict(zip(names, head.target[names.index("Lymphocyte")].tolist(), strict=True))
    scored = dict(zip(names, head.scored[names.index("Lymphocyte")].tolist(), strict=True))
    assert target["Lymphocyte"] == 1
    assert target["Tumour"] == 0
    assert scored == {"B": 0, "T4": 0, "T8": 0, "Tumour": 1, "Lymphocyte": 1, "T": 0}


def test_a_parent_is_the_log_sum_exp_of_its_leaves():
    head = ClassHead(8, CLASSES)
    assert torch.allclose(head.leaves.bias, torch.tensor(-0.13))
    logits = head(torch.randn(5, 8))
    torch.testing.assert_close(logits[:, 5], logits[:, 1:3].logsumexp(1))


def test_loss_is_the_mean_of_binary_cross_entropies_over_what_is_scored():
    head, z = ClassHead(8, CLASSES), torch.randn(4, 8)
    number = torch.tensor([1, -1, 5, -1])
    logits = head(z)
    first = functional.binary_cross_entropy_with_logits(logits[0], head.target[1])
    third = functional.binary_cross_entropy_with_logits(
        logits[2], head.target[5], weight=head.scored[5], reduction="sum"
    )
    expected = (first + third / head.scored[5].sum()) / 2
    torch.testing.assert_close(head.loss(z, number), expected)
    assert head.loss(z, torch.full((4,), -1)).item() == 0


def test_classes_come_from_the_training_records(source):
    cells = _labelled(source)
    (found,) = read_classes(cells, ("cell_type",), {"cell_type": {"few": ("kind0", "kind1")}})
    assert found.leaves == ("kind0", "kind1", "kind2")
    assert Classes.from_json(found.as_json()) == found
    from mistline.models.contract import Needs

    batch = next(iter(cells.batches(Needs(batch_size=10))))
    expected = [-1 if row % 5 == 0 else cells.kind[row] for row in range(10)]
    assert numbers(batch, (found,))[:, 0].tolist() == expected
    assert numbers(batch, (Classes("cell_type", ("kind0", "other"), {}),)).max() <= 0
    assert numbers(batch, ()) is None
    with pytest.raises(ConfigError, match="no training record has a label stage"):
        read_classes(cells, ("stage",), {})


def test_off_means_that_no_label_is_read(source, tmp_path):
    assert "labels" not in _params().reads()
    cells = _labelled(source)
    model = Model.create(_params(), cells, _context(tmp_path))
    inputs = model.prepare(next(iter(cells.batches(model.recipe(cells).needs))), "cpu")
    assert inputs.classes is None
    assert not any(name.startswith("classes") for name in model.net(inputs, torch.Generator()))
    assert ClassHeads(8, ())(torch.zeros(2, 8), None) == {}


def test_z_learns_the_classes_and_the_model_comes_back(source, tmp_path):
    cells = _labelled(source)
    params = _params(class_heads=("cell_type",), class_parents={"cell_type": {"few": ("kind0", "kind1")}})
    assert "labels" in params.reads()
    model = Model.create(params, cells, _context(tmp_path))
    optimiser = torch.optim.AdamW(model.groups())
    inputs = model.prepare(next(iter(cells.batches(model.recipe(cells).needs))), "cpu")
    course = []
    for step in range(40):
        losses = model.net(inputs, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        course.append(losses["classes_cell_type"].item())
    assert np.mean(course[-5:]) < 0.5 * course[0]
    again = Model.restore(params, model.arrays(), model.genes)
    assert again.classes == model.classes


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="twice"):
        _params(class_heads=("a", "a"))
    with pytest.raises(ValueError, match="none of class_heads: b"):
        _params(class_heads=("a",), class_parents={"b": {"x": ("y",)}})
