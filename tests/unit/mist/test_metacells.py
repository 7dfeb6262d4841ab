"""Fitting, querying and judging the vocabulary on planted types."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mistline.config.metacells import Metacells
from mistline.core.errors import InputError
from mistline.mist.expression import CountsFile, log_normalise
from mistline.mist.metacell_fit import Source, fit_vocabulary
from mistline.mist.metacell_quality import Judged, _histogram, as_types, judge
from mistline.mist.metacells import Query, Vocabulary, assign_slide, read_vocabulary, write_vocabulary

N_TYPES = 4
GENES = [f"ENSG{i:011d}" for i in range(24)]
SETTINGS = Metacells(n_metacells=12, n_components=6, levels=(4, 3, 2), min_cells=5, n_restarts=2)


def planted(n: int, genes: list[str] = GENES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return counts [n, g] and the type of each cell; gene i is high in type i modulo N_TYPES."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, N_TYPES, n)
    number = np.array([int(gene[4:]) for gene in genes])
    return rng.poisson(0.2 + 8.0 * (number % N_TYPES == kind[:, None])), kind


def write(path: Path, counts: np.ndarray, genes: list[str] = GENES) -> Path:
    anndata.AnnData(
        sparse.csr_matrix(counts.astype(np.int32)),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(counts))]),
        var=pd.DataFrame({"symbol": [f"S{gene[-2:]}" for gene in genes]}, index=genes),
    ).write_h5ad(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source("s1", write(tmp_path / "s1.h5ad", planted(400)[0]), np.arange(400) < 300)


@pytest.fixture
def vocabulary(source: Source) -> Vocabulary:
    return fit_vocabulary([source], SETTINGS, seed=0)


def expression_of(vocabulary: Vocabulary, source: Source) -> np.ndarray:
    with CountsFile(source.counts) as file:
        return log_normalise(file.rows(0, file.n_cells), vocabulary.target_sum).toarray()


def test_centres_are_means_of_training_cells_and_the_target_their_median_total(vocabulary, source):
    counts = planted(400)[0][:300]
    assert vocabulary.target_sum == np.median(counts.sum(axis=1))
    expression = expression_of(vocabulary, source)[:300]
    assert vocabulary.n_cells.sum() == 300
    mean = (vocabulary.c_expr * vocabulary.n_cells[:, None]).sum(axis=0) / 300
    np.testing.assert_allclose(mean, expression.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        vocabulary.c_pca, (vocabulary.c_expr - vocabulary.pca.mean) @ vocabulary.pca.components.T, atol=1e-4
    )


def test_the_most_frequent_metacell_comes_first(vocabulary):
    assert (np.diff(vocabulary.n_cells) <= 0).all()


def test_planted_types_are_found(vocabulary, source):
    kind = planted(400)[1]
    _, found = assign_slide(vocabulary, source.counts)
    for metacell in np.unique(found.metacell):
        share = np.bincount(kind[found.metacell == metacell]).max() / (found.metacell == metacell).sum()
        assert share > 0.95


def test_levels_are_independent_groupings_of_the_sizes_asked_for(vocabulary):
    assert {name: len(np.unique(groups)) for name, groups in vocabulary.levels.items()} == {"l1": 4, "l2": 3, "l3": 2}


def test_assignment_is_the_nearest_centre_in_pca_space(vocabulary, source):
    ids, found = assign_slide(vocabulary, source.counts, threads=2)
    scores = (expression_of(vocabulary, source) - vocabulary.pca.mean) @ vocabulary.pca.components.T
    distance = np.linalg.norm(scores[:, None] - vocabulary.c_pca[None], axis=2)
    np.testing.assert_array_equal(found.metacell, distance.argmin(axis=1))
    np.testing.assert_allclose(found.distance, distance.min(axis=1), rtol=1e-4, atol=1e-4)
    assert ids.tolist() == [f"c{i}" for i in range(400)]


@pytest.mark.parametrize("threads", [1, 3])
def test_only_training_cells_are_fitted_on(source, tmp_path, threads):
    write_vocabulary(tmp_path / "a.h5ad", fit_vocabulary([source], SETTINGS, seed=0))
    counts = planted(400)[0]
    counts[300:] = 77
    write(source.counts, counts)
    held_out = Source("s2", write(tmp_path / "s2.h5ad", planted(50, seed=9)[0][:, :12], GENES[:12]), np.zeros(50, bool))
    write_vocabulary(tmp_path / "b.h5ad", fit_vocabulary([source, held_out], SETTINGS, seed=0, threads=threads))
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()


def test_what_is_written_is_read_back(vocabulary, source, tmp_path):
    write_vocabulary(tmp_path / "v.h5ad", vocabulary)
    again = read_vocabulary(tmp_path / "v.h5ad")
    first, second = assign_slide(vocabulary, source.counts)[1], assign_slide(again, source.counts)[1]
    np.testing.assert_array_equal(first.metacell, second.metacell)
    np.testing.assert_array_equal(first.distance, second.distance)
    np.testing.assert_array_equal(again.levels["l2"], vocabulary.levels["l2"])
    assert again.genes.symbols.tolist() == vocabulary.genes.symbols.tolist()


@pytest.mark.parametrize("content", [None, b"no h5ad"])
def test_an_unreadable_vocabulary_is_one_sentence(tmp_path, content):
    path = tmp_path / "v.h5ad"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"no such file; run fit_metacells|not a meta-cell vocabulary"):
        read_vocabulary(path)


def test_genes_are_those_of_every_training_slide(source, tmp_path):
    fewer = Source("s2", write(tmp_path / "s2.h5ad", planted(200, GENES[4:], 5)[0], GENES[4:]), np.ones(200, bool))
    assert fit_vocabulary([source, fewer], SETTINGS, seed=0).genes.gene_ids.tolist() == GENES[4:]


def test_fewer_than_ten_shared_genes_are_refused_with_the_smallest_panel(source, tmp_path):
    tiny = Source("s2", write(tmp_path / "s2.h5ad", planted(50, GENES[:9])[0], GENES[:9]), np.ones(50, bool))
    with pytest.raises(InputError, match=r"only 9 genes were measured on each of the 2 training slides.*s2, 9 genes"):
        fit_vocabulary([source, tiny], SETTINGS, seed=0)


def test_small_centres_are_dropped_and_their_cells_given_to_others(source):
    counts = planted(400)[0]
    counts[:3] = 0
    counts[:3, 0] = 500  # three cells like no other
    write(source.counts, counts)
    strict = replace_settings(min_cells=10, n_metacells=8)
    found = fit_vocabulary([source], strict, seed=0)
    assert found.n_dropped > 0
    assert found.n_cells.sum() == 300
    assert found.n_cells.min() >= 10


def replace_settings(**changes: object) -> Metacells:
    return Metacells(**{**SETTINGS.model_dump(), **changes})


def test_more_centres_than_training_cells_are_refused(source):
    with pytest.raises(InputError, match="500 centres were asked for, but there are 300 training cells; set it to 60"):
        fit_vocabulary([source], replace_settings(n_metacells=500), seed=0)


def test_fewer_lasting_centres_than_a_level_are_refused(source):
    with pytest.raises(InputError, match=r"\d of 12 centres hold"):
        fit_vocabulary([source], replace_settings(levels=(12,), min_cells=40), seed=0)


def test_no_training_cells_are_refused(source):
    with pytest.raises(InputError, match="no slide has training cells"):
        fit_vocabulary([replace(source, is_train=np.zeros(400, bool))], SETTINGS, seed=0)


def test_the_draw_is_bounded_and_repeatable(source, tmp_path):
    big = Source("s1", write(tmp_path / "big.h5ad", planted(1500)[0]), np.arange(1500) < 1400)
    limited = replace_settings(max_fit_cells=1000)
    first, again = (fit_vocabulary([big], limited, seed=4) for _ in range(2))
    assert first.n_cells.sum() == 1000
    assert first.c_expr.tobytes() == again.c_expr.tobytes()
    assert first.c_expr.tobytes() != fit_vocabulary([big], limited, seed=5).c_expr.tobytes()


def test_a_gene_that_was_not_measured_is_left_out_and_not_taken_for_zero(vocabulary, source, tmp_path):
    counts, kind = planted(400)
    kept = [i for i in range(24) if i % N_TYPES != 1 or i > 12]  # type 1 loses most of its genes
    fewer = write(tmp_path / "fewer.h5ad", counts[:, kept], [GENES[i] for i in kept])
    _, whole = assign_slide(vocabulary, source.counts)
    _, part = assign_slide(vocabulary, fewer)
    majority = [
        np.bincount(kind[whole.metacell == k], minlength=N_TYPES).argmax() for k in range(len(vocabulary.c_pca))
    ]
    assert (np.array(majority)[part.metacell] == kind).mean() > 0.95


def test_a_panel_without_half_of_the_genes_is_refused(vocabulary):
    with pytest.raises(InputError, match="s9: its panel lacks 13 of the 24 genes"):
        Query(vocabulary, np.array(GENES[:11]), "s9")


def judged(source: Source, labels: dict | None = None) -> Judged:
    parts = {"train": source.is_train, "held_out": ~source.is_train}
    return Judged("s1", source.counts, parts, labels or {})


def test_quality_is_what_a_dense_computation_gives(vocabulary, source):
    quality = judge(vocabulary, [judged(source)])
    expression = expression_of(vocabulary, source).astype(np.float64)
    _, found = assign_slide(vocabulary, source.counts)
    scores = (expression - vocabulary.pca.mean) @ vocabulary.pca.components.T
    for part, rows in (("train", source.is_train), ("held_out", ~source.is_train)):
        y, c = expression[rows], vocabulary.c_expr[found.metacell[rows]].astype(np.float64)
        centred = ((y - vocabulary.pca.mean) ** 2).sum()
        pcc = [np.corrcoef(y[:, g], c[:, g])[0, 1] for g in range(24)]
        assert quality[part]["n_cells"] == rows.sum()
        assert quality[part]["gene_pcc"]["mean"] == pytest.approx(np.mean(pcc), abs=1e-5)
        histogram = quality[part]["gene_pcc"]["histogram"]
        np.testing.assert_allclose(np.diff(histogram["edges"]), 0.05)
        assert histogram["counts"] == np.histogram(pcc, histogram["edges"])[0].tolist()
        assert sum(histogram["counts"]) == 24
        kept = quality[part]["variance_kept"]
        assert kept["pca"] == pytest.approx((scores[rows] ** 2).sum() / centred, abs=1e-5)
        assert kept["quantised"] == pytest.approx(1 - ((y - c) ** 2).sum() / centred, abs=1e-5)
        sizes = np.bincount(found.metacell[rows], minlength=len(vocabulary.c_pca))
        assert quality[part]["cells_per_metacell"] == {
            "min": sizes.min(),
            "median": np.median(sizes),
            "max": sizes.max(),
        }


def test_correlations_are_binned_to_the_ends_and_nothing_is_no_histogram():
    assert _histogram(np.array([-1.0, -0.96, 1.0])) == {"edges": ANY, "counts": [2, *[0] * 38, 1]}
    assert _histogram(np.array([0.5, 0.52, 0.61])) == {"edges": [0.5, 0.55, 0.6, 0.65], "counts": [2, 0, 1]}
    assert _histogram(np.zeros(0)) is None


def test_quality_does_not_depend_on_the_threads(vocabulary, source):
    assert judge(vocabulary, [judged(source)]) == judge(vocabulary, [judged(source)], threads=3)


def test_a_part_without_cells_is_null(vocabulary, source):
    everything = replace(source, is_train=np.ones(400, bool))
    assert judge(vocabulary, [judged(everything)])["held_out"] is None


def test_rare_types_are_counted_by_the_training_cells(vocabulary, source):
    kind = planted(400)[1]
    types = np.array([f"t{k}" for k in kind], dtype=object)
    rare = np.flatnonzero((kind == 0) & source.is_train)[:5]
    types[rare] = "rare"  # among cells of type 0: no meta-cell is theirs
    types[350] = "only held out"
    types[10] = None
    found = judge(vocabulary, [judged(source, {"type": types})])
    train, held_out = found["train"]["labels"]["type"], found["held_out"]["labels"]["type"]
    assert train["n_labelled"] == 299
    assert train["rare"]["types"] == ["rare"]
    assert train["rare"]["recall"] == 0.0
    assert train["recall"]["t1"] > 0.95
    assert 0.9 < train["purity"] < 1
    assert held_out["recall"]["only held out"] == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", None, "b"], ["a", None, "b"]),
        ([1, 2, 1], ["1", "2", "1"]),
        ([1.0, np.nan, 3.0], ["1", None, "3"]),
        ([True, False, True], ["True", "False", "True"]),
        ([0.5, 1.0, 2.0], None),
        (["15.2053", None, "7.5"], None),
        (["1", "12", None], ["1", "12", None]),
        (list(range(101)), None),
    ],
)
def test_label_columns_are_types_or_measurements(values, expected):
    found = as_types(pd.Series(values))
    assert (None if found is None else found.tolist()) == expected
