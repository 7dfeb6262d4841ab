"""The model as a whole: it learns, its embedding is a function of the slide alone, and what does not fit is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mistline.core.errors import InputError
from mistline.models.contract import Context
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import PRESETS, Params

SMALL = {
    "width": 16,
    "heads": 2,
    "gene_layers": 1,
    "gene_mlp": 32,
    "query_genes": 20,
    "image_width": 16,
    "image_heads": 2,
    "image_layers": 1,
    "image_mlp": 32,
    "decoder_width": 16,
    "decoder_heads": 2,
    "decoder_layers": 1,
    "decoder_mlp": 32,
    "train_batch": 32,
}


def _params(**values) -> Params:
    return Params(size="tiny", **{**SMALL, **values})


def _context(tmp_path: Path, seed: int = 0) -> Context:
    return Context(seed, "cpu", 1, tmp_path / "resume")


def _train(model: Model, source, steps: int = 4, rate: float = 1.0) -> list[dict[str, float]]:
    groups = [{**group, "lr": group["lr"] * rate} for group in model.groups()]
    optimiser = torch.optim.AdamW(groups, fused=True)
    model.net.train()
    course, needs = [], model.recipe(source).needs
    while len(course) < steps:
        for batch in source.batches(needs, shuffle=len(course)):
            torch.manual_seed(len(course))
            losses = model.net(model.prepare(batch, "cpu"), torch.Generator().manual_seed(len(course)))
            optimiser.zero_grad()
            losses["loss"].backward()
            optimiser.step()
            course.append({name: value.item() for name, value in losses.items()})
    return course


def _trained(source, tmp_path: Path, steps: int = 2, **values) -> Model:
    model = Model.create(_params(**values), source, _context(tmp_path))
    _train(model, source, steps)
    return model


def _embedded(model: Model, source, tmp_path: Path) -> dict[str, np.ndarray]:
    blocks = list(model.embed(source, _context(tmp_path)))
    found = {name: np.concatenate([block.parts[name] for block in blocks]) for name in blocks[0].parts}
    found["z"] = np.concatenate([block.z for block in blocks])
    found["cell_id"] = np.array([cell for block in blocks for cell in block.cell_id])
    return found


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_a_step_and_embeds(preset, source, tmp_path):
    model = Model.create(_params(preset=preset), source(70), _context(tmp_path))
    course = _train(model, source(70), 1)
    assert all(np.isfinite(value) for row in course for value in row.values())
    still = {name for name, p in model.net.named_parameters() if p.requires_grad and p.grad is None}
    assert all(name.endswith(".absent") for name in still)  # no cell of the step went without that modality
    found = _embedded(model, source(70), tmp_path)
    assert found["z"].shape == (70, 16)
    assert all(np.isfinite(values).all() for name, values in found.items() if name != "cell_id")
    expected = {"z_c", "z_img", "z_gene"} | ({"z_n", "z_t"} if "niche" in model.params.levels else set())
    assert expected | {"z", "cell_id"} == set(found)


def test_thirty_two_cells_are_learned(source, tmp_path):
    """Above the least that any model reaches: of counts, the entropy of the best Poisson; of pixels, 0.

    Measured: 0.09 of what it was at first, and 0.005 of either image.
    """
    cells = source(32, kinds=32)
    still = {"dropout": 0.0, "modality_dropout": 0.0, "level_dropout": 0.0, "warmup_steps": 10}
    wide = {"width": 32, "image_width": 32, "decoder_width": 32}
    model = Model.create(_params(**still, **wide, learning_rate=5e-3), cells, _context(tmp_path))
    course = _train(model, cells, 150)
    counts = torch.from_numpy(cells.counts).double()
    least = (-torch.distributions.Poisson(counts.clamp(min=1e-9)).log_prob(counts)).mean().item()
    first, last = (
        {name: np.mean([row[name] for row in rows]) for name in course[0]} for rows in (course[:1], course[-20:])
    )
    assert last["genes_query"] - least < 0.2 * (first["genes_query"] - least)
    assert last["image_cell"] < 0.2 * first["image_cell"]
    assert last["image_niche"] < 0.2 * first["image_niche"]


def test_embedding_is_the_same_each_time_and_after_restoring(source, tmp_path):
    cells = source(150)
    model = _trained(cells, tmp_path)
    first = _embedded(model, cells, tmp_path)
    assert first["cell_id"].tolist() == cells.ids
    torch.manual_seed(5)
    _same(first, _embedded(model, cells, tmp_path))
    again = Model.restore(model.params, model.arrays(), model.genes)
    _same(first, _embedded(again, cells, tmp_path))
    assert not list((tmp_path / "resume").glob("*"))


def test_batch_size_changes_no_bit(source, tmp_path):
    cells = source(150)
    model = _trained(cells, tmp_path)
    found = []
    for batch_size in (1, 100, 1000):
        params = _params(batch_size=batch_size)
        found.append(_embedded(Model.restore(params, model.arrays(), model.genes), cells, tmp_path))
    _same(found[0], found[1])
    _same(found[0], found[2])


def test_order_of_the_cells_changes_rounding_only(source, tmp_path):
    cells = source(150)
    model = _trained(cells, tmp_path, members=4, niches=2)
    turn = np.random.default_rng(0).permutation(150)
    one, other = _embedded(model, cells, tmp_path), _embedded(model, cells.turned(turn), tmp_path)
    for name in set(one) - {"cell_id"}:
        np.testing.assert_allclose(one[name][turn], other[name], atol=2e-5, err_msg=name)


def test_a_cell_is_not_in_its_own_context(source, tmp_path):
    cells, changed = source(150), source(150)
    model = _trained(cells, tmp_path)
    changed.counts[17] *= np.arange(1, 21)  # the same genes, so that its group is padded alike
    one, other = _embedded(model, cells, tmp_path), _embedded(model, changed, tmp_path)
    np.testing.assert_array_equal(one["z_n"][17], other["z_n"][17])
    np.testing.assert_array_equal(one["z_t"][17], other["z_t"][17])
    assert not np.array_equal(one["z_c"][17], other["z_c"][17])
    neighbours = np.flatnonzero(cells._tile("niche") == cells._tile("niche")[17])
    for other_cell in neighbours[neighbours != 17]:
        assert not np.array_equal(one["z_n"][other_cell], other["z_n"][other_cell])


@pytest.mark.parametrize("embed_from", ["genes", "image"])
def test_one_modality_is_enough_and_the_other_is_not_read(embed_from, source, tmp_path):
    cells, changed = source(80), source(80, seed=3)
    model = _trained(cells, tmp_path)
    one = Model.restore(_params(embed_from=embed_from), model.arrays(), model.genes)
    found = _embedded(one, cells, tmp_path)
    assert np.isfinite(found["z"]).all()
    changed.xy_um = cells.xy_um
    if embed_from == "genes":
        changed.counts = cells.counts
        changed.channels = ()
    else:
        changed.kind = cells.kind
    _same(found, _embedded(one, changed, tmp_path))


def test_slides_without_images_are_embedded_by_genes(source, tmp_path):
    cells = source(40, channels=0)
    model = _trained(cells, tmp_path, preset="gene_only")
    assert np.isfinite(_embedded(model, cells, tmp_path)["z"]).all()
    with pytest.raises(InputError, match="gene_only"):
        Model.create(_params(), cells, _context(tmp_path))


def test_shuffled_pairs_have_the_genes_of_other_cells(source, tmp_path):
    cells = source(130)
    model = _trained(cells, tmp_path, preset="shuffled_pairs")
    true = Model.restore(_params(), model.arrays(), model.genes)
    one, other = _embedded(model, cells, tmp_path), _embedded(true, cells, tmp_path)
    _same(one, _embedded(model, cells, tmp_path))
    assert (np.abs(one["z_gene"] - other["z_gene"]).max(1) > 1e-3).mean() > 0.9


def test_slide_with_unknown_genes_is_mapped_or_refused(source, tmp_path, caplog):
    cells = source(40)
    model = _trained(cells, tmp_path)
    found = _embedded(model, cells, tmp_path)
    turned = source(40)
    turned.genes, turned.counts = (*turned.genes[::-1], "new"), np.pad(turned.counts[:, ::-1], ((0, 0), (0, 1)))
    turned.panels = {"s": np.ones(21, dtype=bool)}
    with caplog.at_level(logging.INFO, "mistline.models"):
        np.testing.assert_allclose(_embedded(model, turned, tmp_path)["z"], found["z"], atol=2e-5)
    assert "slide s: the model knows 20 of its 21 genes; the other 1 are left out" in caplog.text
    turned.genes = tuple(f"other{i}" for i in range(21))
    with pytest.raises(InputError, match="slide s: the model knows 0 of its 21 genes, fewer than 50%"):
        _embedded(model, turned, tmp_path)


def _unseen(source, first: int):
    """Return a training part, and a slide of the same dataset that measured genes from `first` on."""
    seen, other = source(40), source(40)
    seen.panels = {"s": np.arange(20) < 15, "t": np.arange(20) >= first}
    seen.counts[:, 15:] = 0
    other.panels, other.slide, other.slides = seen.panels, "t", ("t",)
    other.counts[:, :first] = 0
    return seen, other


def test_genes_of_no_training_slide_are_left_out_and_counted(source, tmp_path, caplog):
    seen, other = _unseen(source, first=5)
    with caplog.at_level(logging.INFO, "mistline.models"):
        model = Model.create(_params(), seen, _context(tmp_path))
    told = "slide t: the model knows 10 of its 15 genes; the other 5 are left out"
    assert told in caplog.text
    assert model.describe()["genes left out in embedding"] == "5 of slide t, which no training slide measured"
    caplog.clear()
    model = Model.restore(model.params, model.arrays(), model.genes)
    with caplog.at_level(logging.INFO, "mistline.models"):
        found = _embedded(model, other, tmp_path)
    assert told in caplog.text
    other.counts[:, 15:] += 7
    _same(found, _embedded(model, other, tmp_path))


def test_a_slide_of_other_genes_is_refused_before_training(source, tmp_path):
    seen, _ = _unseen(source, first=11)
    with pytest.raises(InputError, match="slide t: the model knows 4 of its 9 genes, fewer than 50%"):
        Model.create(_params(), seen, _context(tmp_path))
    Model.create(_params(min_overlap=0.4), seen, _context(tmp_path))
    Model.create(_params(embed_from="image"), seen, _context(tmp_path))


def test_a_gene_with_a_given_vector_is_known(source, tmp_path):
    seen, _ = _unseen(source, first=5)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(18, 32)), columns=[f"v{i}" for i in range(32)])
    table.insert(0, "gene_id", seen.genes[:18])
    table.to_parquet(tmp_path / "vectors.parquet")
    model = Model.create(_params(gene_vectors=str(tmp_path / "vectors.parquet")), seen, _context(tmp_path))
    assert model.describe()["genes left out in embedding"] == "2 of slide t, which no training slide measured"


def test_other_channels_are_refused(source, tmp_path):
    model = _trained(source(40), tmp_path)
    with pytest.raises(InputError, match="channels"):
        _embedded(model, source(40, channels=3), tmp_path)


@pytest.mark.parametrize(
    ("values", "genes", "told"),
    [
        ({"heads": 4}, None, "heads 2"),
        ({"image_heads": 4}, None, "image_heads 2"),
        ({}, ("x",) * 20, "vocabulary"),
        ({"fusion_layers": 2}, None, "fusion.to"),
    ],
)
def test_weights_of_another_model_are_refused(values, genes, told, source, tmp_path):
    model = Model.create(_params(), source(20), _context(tmp_path))
    with pytest.raises(InputError, match=told):
        Model.restore(_params(**values), model.arrays(), genes or model.genes)


def test_values_that_are_no_counts_are_refused(source, tmp_path):
    cells = source(20)
    cells.values = "log"
    with pytest.raises(InputError, match="raw counts"):
        Model.create(_params(), cells, _context(tmp_path))


def test_same_seed_same_weights(source, tmp_path):
    one, other, third = (Model.create(_params(), source(20), _context(tmp_path, seed)).arrays() for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not all(np.array_equal(one[name], third[name]) for name in one)


def test_norms_biases_and_embeddings_do_not_decay(source, tmp_path):
    model = Model.create(_params(), source(20), _context(tmp_path))
    names = {id(value): name for name, value in model.net.named_parameters()}
    plain = {names[id(p)] for group in model.groups() if not group["weight_decay"] for p in group["params"]}
    decayed = {names[id(p)] for group in model.groups() if group["weight_decay"] for p in group["params"]}
    assert plain | decayed == set(names.values())
    assert {"genes.table.learned.weight", "fusion.norm.bias", "image.cls_token", "fusion.image_side.absent"} <= plain
    assert all(name.endswith("weight") for name in decayed - {"channels.mix"})


def test_given_gene_vectors_are_kept_frozen_and_restored(source, tmp_path):
    cells = source(40)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(18, 32)), columns=[f"v{i}" for i in range(32)])
    table.insert(0, "gene_id", cells.genes[:18])
    path = tmp_path / "vectors.parquet"
    table.to_parquet(path)
    model = Model.create(_params(gene_vectors=str(path)), cells, _context(tmp_path))
    before = model.net.genes.table.vectors.clone()
    _train(model, cells, 2)
    assert torch.equal(before, model.net.genes.table.vectors)
    again = Model.restore(model.params, model.arrays(), model.genes)
    _same(_embedded(model, cells, tmp_path), _embedded(again, cells, tmp_path))
    with pytest.raises(InputError, match="18 of 20"):
        Model.create(_params(gene_vectors=str(path), min_mapped=0.95), cells, _context(tmp_path))


def test_panels_of_slides_are_respected(source, tmp_path):
    cells = source(40)
    cells.panels = {"s": np.arange(20) < 15}
    model = Model.create(_params(), cells, _context(tmp_path))
    batch = next(iter(cells.batches(model.recipe(cells).needs)))
    inputs = model.prepare(batch, "cpu")
    assert (inputs.cells.genes.panel == 1).all()
    assert model.net.measured[1].tolist() == [True] * 15 + [False] * 5
