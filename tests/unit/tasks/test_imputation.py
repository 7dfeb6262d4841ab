"""The task as a whole, on slides and single cells of a few kinds, each with genes of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.core.errors import InputError
from mistline.mist.pair import GENE_COLUMNS, Pair, Reference
from mistline.scrna.guarded import GuardedMatrix
from mistline.store.embeddings import Origin
from mistline.store.imputed import ImputedGenes
from mistline.tasks import imputation
from mistline.tasks.base import MODEL, Scores
from mistline.tasks.imputation_controls import DESCRIPTIONS, controls, deal, weighted_mean
from mistline.tasks.imputation_problem import agreement, clusters
from mistline.tasks.imputation_scores import estimates

KINDS, GENES, CELLS, SINGLE, SIDE = 4, 24, 300, 200, 400.0
PARAMS = imputation.Params(n_folds=2, bootstrap=100, n_neighbors=15, n_correlated=3)
NAMES = tuple(f"g{number:02d}" for number in range(GENES))
RATE = 1 + 12 * (np.arange(GENES) % KINDS == np.arange(KINDS)[:, None])


def drawn(kind: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    return sparse.csr_matrix(rng.poisson(RATE[kind] * rng.uniform(0.5, 2, (len(kind), 1))).astype(np.int32))


def make_pair(slide: str, seed: int = 0, xy: bool = True) -> Pair:
    """Return a slide whose quarters hold a kind each, and single cells of all kinds."""
    rng = np.random.default_rng(seed)
    xy_um = rng.uniform(0, SIDE, (CELLS, 2))
    kind = ((xy_um // (SIDE / 2)) @ [1, 2]).astype(int)
    ids = np.array([f"{slide}{number}" for number in range(CELLS)])
    counts = drawn(rng.integers(0, KINDS, SINGLE), rng)
    reference = Reference(np.array([f"r{i}" for i in range(SINGLE)]), NAMES, NAMES, "counts", counts)
    rows = [
        (slide, gene, gene, gene, fold, "test" if number // KINDS % 2 == fold else "train" if number < 20 else "val")
        for fold in (0, 1)
        for number, gene in enumerate(NAMES)
    ]
    genes = pd.DataFrame(rows, columns=GENE_COLUMNS)
    places = xy_um if xy else np.full_like(xy_um, np.nan)
    return Pair(slide, ids, places, "counts", GuardedMatrix(drawn(kind, rng), NAMES), reference, genes)


@dataclass
class World:
    """The files of the line in memory."""

    made: list[Pair]
    given: ImputedGenes | None = None

    @property
    def is_controls(self) -> bool:
        return self.given is None

    def pairs(self) -> Iterator[Pair]:
        yield from self.made

    def imputed(self) -> ImputedGenes:
        return self.given


def truths(pair: Pair) -> np.ndarray:
    """Return [n, W] of all tested genes, in the order of `NAMES`."""
    found = np.empty((len(pair.cell_id), GENES), dtype=np.float32)
    for fold in pair.folds:
        found[:, [NAMES.index(gene) for gene in pair.tested(fold)]] = pair.truth(fold)
    return found


def imputed(pairs: list[Pair]) -> ImputedGenes:
    """Return what a method says that knows the truth up to an error, and how large this is."""
    rng = np.random.default_rng(9)
    truth = np.concatenate([truths(pair) for pair in pairs])
    sd = rng.uniform(0.1, 1.5, truth.shape).astype(np.float32)
    runs = [
        {"slide": own.slide, "fold": fold, "seconds": 1.5, "peak_mb": 10.0 + fold} for own in pairs for fold in (0, 1)
    ]
    return ImputedGenes(
        slide=np.concatenate([[pair.slide] * CELLS for pair in pairs]),
        cell_id=np.concatenate([pair.cell_id for pair in pairs]),
        genes=NAMES,
        symbols=NAMES,
        fold=np.arange(GENES) // KINDS % 2,
        mean=(truth + sd * rng.normal(size=truth.shape)).astype(np.float32),
        sd=sd,
        origin=Origin("spadit", 0, "w", "v1"),
        about={"protocol": "gene_folds", "runs": runs},
    )


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair("a")


@pytest.fixture(scope="module")
def said(pair) -> ImputedGenes:
    return imputed([pair])


def judge(world: World) -> Scores:
    return imputation.evaluate(world, PARAMS, "gene_folds")


def values(scores: Scores) -> dict[str, dict[str, float]]:
    return {name: {metric: own.value for metric, own in row.metrics.items()} for name, row in scores.rows.items()}


def test_a_method_is_judged_gene_by_gene_with_what_it_costs_and_how_sure_it_is(pair, said):
    found = judge(World([pair], said))
    told, model = values(found), found.model
    assert (found.unit, found.n, set(found.rows)) == ("gene", CELLS, {MODEL, "shuffled"})
    assert set(model.per_unit["pcc"]) == set(NAMES)
    assert told[MODEL]["pcc"] == pytest.approx(np.mean(list(model.per_unit["pcc"].values())))
    assert told[MODEL]["pcc_median"] == pytest.approx(np.median(list(model.per_unit["pcc"].values())))
    assert told[MODEL]["pcc_median"] != told[MODEL]["pcc"]
    for metric, better in (("pcc", 1), ("spearman", 1), ("ssim", 1), ("ssim_windowed", 1), ("rmse", -1), ("js", -1)):
        assert better * told[MODEL][metric] > better * told["shuffled"][metric], metric
    assert told[MODEL]["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert told[MODEL]["sd_r"] > 0.3
    assert "sd_r" not in told["shuffled"]
    about = found.to_json()["settings"]["model"]
    assert (about["seconds"], about["peak_mb"]) == (3.0, 11.0)
    assert about["calibration"]["covered"] == pytest.approx(about["calibration"]["nominal"], abs=0.03)
    assert about["clustering"]["ari"] > 0.3 > found.rows["shuffled"].about["clustering"]["ari"]
    assert all(own.low <= own.value <= own.high for row in found.rows.values() for own in row.metrics.values())
    assert json.dumps(found.to_json(), allow_nan=False)


def test_the_reference_beats_controls_that_do_not_use_it(pair):
    found = judge(World([pair]))
    told = values(found)
    assert set(found.rows) <= set(DESCRIPTIONS)
    assert (set(found.ceilings), "shuffled" in told) == ({"own_correlations"}, False)
    for name in ("knn_transfer", "correlated_genes"):
        for other in ("total_map", "permuted", "zero"):
            assert told[name]["pcc"] > told[other]["pcc"] + 0.2, (name, other)
    assert told["own_correlations"]["pcc"] >= told["correlated_genes"]["pcc"] - 0.02
    assert (told["zero"]["pcc"], told["zero"]["pcc_median"], told["zero"]["auc"]) == (0, 0, 0.5)
    assert told["zero"]["rmse"] == pytest.approx(2**0.5)
    assert found.rows["zero"].about["clustering"]["ari"] == 0
    assert {name: row.about["what"] for name, row in found.rows.items()} == {name: DESCRIPTIONS[name] for name in told}


def test_controls_read_no_tested_gene(pair):
    closed = pair.guarded.close(pair.tested(0))
    told = [controls(own.view(0), PARAMS, 0) for own in (pair, replace(pair, guarded=closed.with_canary()))]
    for name, own in told[0].items():
        np.testing.assert_array_equal(own, told[1][name])
        assert own.dtype == np.float32


def test_a_gene_of_several_slides_is_one_unit(pair):
    pairs = [pair, make_pair("b", 1, xy=False)]
    found = judge(World(pairs, imputed(pairs)))
    assert set(found.model.per_unit["pcc"]) == set(found.model.per_unit["moran_difference"]) == set(NAMES)
    told = found.model.about["per_slide"]
    assert set(told["pcc"]) == {"a", "b"}
    assert set(told["moran_difference"]) == {"a"}
    assert np.mean(list(told["pcc"].values())) == pytest.approx(found.model.metrics["pcc"].value)
    assert found.n == 2 * CELLS
    rng = np.random.default_rng(0)
    of_gene = dict(zip(NAMES, rng.normal(0, 0.2, GENES), strict=True))
    once, twice = (
        estimates({"pcc": {(slide, gene): own for slide in slides for gene, own in of_gene.items()}}, PARAMS)["pcc"]
        for slides in ("a", "ab")
    )
    assert twice.high - twice.low == pytest.approx(once.high - once.low)  # a second slide is no second gene


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: {"about": {"protocol": "other"}}, "they were imputed for other, this is gene_folds"),
        (lambda own: {"cell_id": np.array(["x", *own.cell_id[1:]])}, "300 cells of slide a, and not the 300"),
        (lambda own: {"slide": np.array(["b"] * CELLS)}, "0 cells of slide a, and not the 300 that are judged"),
        (lambda own: {"genes": ("x", *NAMES[1:])}, "g00 is tested in fold 0, and was not imputed there"),
        (lambda own: {"fold": 1 - own.fold}, "g00 is tested in fold 0, and was not imputed there"),
        (
            lambda own: {"mean": np.where(np.arange(GENES) == 2, np.nan, own.mean)},
            "g02 has no value in some cells of slide a",
        ),
    ],
)
def test_what_was_not_imputed_here_is_one_sentence(pair, said, change, message):
    with pytest.raises(InputError, match=f"genes imputed by spadit: {message}"):
        judge(World([pair], replace(said, **change(said))))


def test_a_prediction_that_holds_measured_values_is_refused(pair, said):
    truth = truths(pair)
    hidden = np.random.default_rng(0).uniform(size=truth.shape) < 0.3
    pasted = np.where(hidden & (truth > 0), 0, truth).astype(np.float32)
    with pytest.raises(InputError, match=r"fold 0 of slide a: \d+\.\d% of the values equal .* has read tested genes"):
        judge(World([pair], replace(said, mean=pasted, sd=None)))


def test_every_gene_is_dealt_to_another():
    found = deal(7, np.random.default_rng(0))
    assert sorted(found) == list(range(7))
    assert (found != np.arange(7)).all()


def test_the_mean_of_the_most_correlated_genes_is_weighted_by_the_correlation():
    spatial = np.array([[1, 10, 100]], dtype=np.float32)
    r = np.array([[0.1, -0.5], [0.6, -0.1], [0.2, -0.9]])
    np.testing.assert_allclose(weighted_mean(spatial, r, 2), [[(0.6 * 10 + 0.2 * 100) / 0.8, 5.5]])


def test_clusters_agree_with_themselves_and_a_flat_table_is_one():
    table = RATE[np.arange(200) % KINDS] + np.random.default_rng(0).normal(0, 0.3, (200, GENES))
    own = clusters(table.astype(np.float32), 0)
    assert agreement(own, own) == {name: pytest.approx(1) for name in ("ari", "nmi", "ami")}
    assert own.max() + 1 == KINDS
    assert not clusters(np.ones((50, 3), dtype=np.float32), 0).any()
