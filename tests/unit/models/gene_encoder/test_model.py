"""Published encoders of counts: their own loading code on tiny weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mistline.config.base import validate
from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.models.contract import Context
from mistline.models.gene_encoder import tokens
from mistline.models.gene_encoder.model import Model
from mistline.models.gene_encoder.params import Params
from mistline.models.gene_encoder.presets import ELSEWHERE, PRESETS
from mistline.train.device import cpu_threads
from mistline.train.run import train
from mistline.workflow.registry import resolve_models
from tests.conftest import REPOSITORY
from tests.unit.models.gene_encoder import published

README = REPOSITORY / "src/mistline/models/gene_encoder/README.md"
IDS = [f"ENSG{i:04d}" for i in range(20)]
KNOWN = IDS[:2] + IDS[4:]  # 18 of the source's 20


def vocabulary(names, special=("<pad>", "<mask>", "<cls>", "<eos>")):
    return {name: i for i, name in enumerate([*special, *names])}


def geneformer(folder, special=("<pad>", "<mask>", "<cls>", "<eos>"), **changes):
    medians = {name: np.sqrt(i + 1).item() for i, name in enumerate(KNOWN)}
    files = {
        "weights": ("model.safetensors", published.geneformer()),
        "vocabulary": ("token_dictionary.pkl", vocabulary(KNOWN, special)),
        "medians": ("gene_median_dictionary.pkl", medians),
    }
    return {"preset": "geneformer"} | published.settings(folder, **files | changes)


def scgpt(folder, **changes):
    names = [f"GENE{i}" for i in range(20) if i not in (2, 3)]
    files = {
        "weights": ("best_model.pt", published.scgpt()),
        "vocabulary": ("vocab.json", vocabulary(names, ("<pad>", "<cls>", "<eoc>"))),
    }
    return {"preset": "scgpt"} | published.settings(folder, **files | changes)


BOTH = pytest.mark.parametrize("settings", [geneformer, scgpt])


def made(source, settings, folder, **more):
    where = Context(0, "cpu", 1, folder)
    return train("mistline.models.gene_encoder", Params(**settings | more), source, source, where).model


def embedded(model, source, folder):
    return np.concatenate([block.z for block in model.embed(source, Context(0, "cpu", 1, folder))])


def sparse_source(memory_source, n=40):
    source = memory_source(n)
    source.counts[source.counts < 3] = 0
    source.counts[5] = 0
    return source


def test_the_table_loads_no_torch():
    code = "import sys, mistline.models.gene_encoder.params; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("special", [("<pad>", "<mask>", "<cls>", "<eos>"), ("<pad>", "<mask>")])
def test_geneformer_gives_what_its_own_code_gives(memory_source, tmp_path, special):
    source = sparse_source(memory_source)
    settings = geneformer(tmp_path, special)
    model = made(source, settings, tmp_path)
    assert model.genes == tuple(KNOWN)
    found = embedded(model, source, tmp_path)
    weights, tokens_of = published.geneformer(), vocabulary(KNOWN, special)
    for row in (0, 1, 2, 39):
        counts = source.counts[row].astype(float)
        share = {name: counts[IDS.index(name)] / counts.sum() / np.sqrt(i + 1) for i, name in enumerate(KNOWN)}
        order = sorted((name for name in KNOWN if share[name] > 0), key=lambda name: -share[name])
        body = [tokens_of[name] for name in order][: 16 - 2 * (len(special) == 4)]
        if len(special) == 4:
            expected = published.geneformer_cell(weights, [2, *body, 3])[0]
        else:
            expected = published.geneformer_cell(weights, body).mean(0)
        np.testing.assert_allclose(found[row], expected.detach(), atol=2e-5)


@pytest.mark.parametrize("flash", [True, False])
def test_scgpt_gives_what_its_own_code_gives(memory_source, tmp_path, flash):
    source = sparse_source(memory_source)
    settings = scgpt(tmp_path, weights=("best_model.pt", published.scgpt(flash=flash)))
    model = made(source, settings, tmp_path)
    assert model.genes == tuple(KNOWN)
    found = embedded(model, source, tmp_path)
    for row in (0, 3, 39):
        known = np.array([IDS.index(name) for name in KNOWN])
        counts = source.counts[row, known].astype(float)
        body = np.flatnonzero(counts)
        value = np.concatenate([[-2], tokens.bins(counts[body])]).astype(np.float32)
        token = np.concatenate([[1], 3 + body])
        expected = published.scgpt_cell(published.scgpt(flash=flash), token, torch.from_numpy(value))
        np.testing.assert_allclose(found[row], expected.detach(), atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_bins_are_the_quantiles_of_the_cell_and_ties_take_the_middle():
    assert tokens.bins(np.arange(1.0, 51.0)).tolist() == list(range(1, 51))
    assert tokens.bins(np.array([1.0, 1.0, 1.0, 9.0])).tolist()[3] == 50
    same = tokens.bins(np.array([1.0, 1.0, 1.0, 9.0]))[:3]
    assert len(set(same.tolist())) == 1
    assert 1 < same[0] < 50
    assert tokens.bins(np.zeros(0)).tolist() == []


@BOTH
def test_reading_and_threads_change_no_bit(memory_source, tmp_path, settings):
    source = sparse_source(memory_source, 70)
    params = settings(tmp_path)
    model = made(source, params, tmp_path)
    rows = []
    for batch_size, threads in ((1, 1), (7, 2), (100, 1)):
        again = Model.restore(Params(**params, batch_size=batch_size), model.arrays(), model.genes)
        with cpu_threads(threads):
            blocks = list(again.embed(source, Context(0, "cpu", threads, tmp_path)))
        assert [name for block in blocks for name in block.cell_id] == [f"cell-{i}" for i in range(70)]
        rows.append(np.concatenate([block.z for block in blocks]))
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])
    assert rows[0].shape == (70, published.WIDTH)
    assert rows[0].dtype == np.float32
    assert np.isfinite(rows[0]).all()  # cell 5 has no count at all


def test_a_cell_with_more_genes_than_tokens_keeps_the_same_ones(memory_source, tmp_path):
    source = memory_source(8)
    known = SimpleNamespace(token=np.arange(10, 30), special=(0, 1, -1))
    names = [("s", f"cell-{i}") for i in range(8)]
    whole = tokens.by_bin(source.counts.astype(float), names, 0, known, 9)
    part = tokens.by_bin(source.counts[3:].astype(float), names[3:], 0, known, 9)
    assert whole.token.shape == (8, 9)
    np.testing.assert_array_equal(whole.token[3:], part.token)
    np.testing.assert_array_equal(whole.value[3:], part.value)
    assert (whole.token[:, 0] == 1).all()


def test_logged_and_normalised_counts_rank_as_counts_do(memory_source, tmp_path):
    source = sparse_source(memory_source)
    model = made(source, geneformer(tmp_path), tmp_path)
    before = embedded(model, source, tmp_path)
    depth = np.maximum(source.counts.sum(1, keepdims=True), 1)
    source.counts, source.values = np.log1p(source.counts / depth * 1000), "log"
    np.testing.assert_allclose(embedded(model, source, tmp_path), before, atol=1e-5)


@BOTH
def test_too_few_known_genes_are_refused(memory_source, tmp_path, settings):
    params = settings(tmp_path)
    with pytest.raises(InputError, match=r"it has 18 of the dataset's 20 genes \(90%\)"):
        made(memory_source(9), params, tmp_path, min_mapped=0.95)
    (row,) = made(memory_source(9), params, tmp_path).fit(
        memory_source(9), memory_source(9), Context(0, "cpu", 1, tmp_path)
    )
    assert (row["genes_mapped"], row["genes"]) == (18, 20)


@BOTH
def test_wrong_files_are_refused(memory_source, tmp_path, settings):
    params, source = settings(tmp_path), memory_source(9)

    def fails(match, **changes):
        with pytest.raises(InputError, match=match):
            made(source, params | changes, tmp_path)

    fails("its sha256 is .* not weights_sha256", weights_sha256="0" * 64)
    fails("its sha256 is .* not vocabulary_sha256", vocabulary_sha256="0" * 64)
    fails("it is no ", **published.settings(tmp_path, weights=("other.safetensors", {"a": torch.zeros(2)})))
    fails("no token <pad>", **published.settings(tmp_path, vocabulary=("v.json", {IDS[0]: 1, "GENE0": 2})))
    fails("not a table of names", **published.settings(tmp_path, vocabulary=("v.json", ["<pad>"])))
    fails("not a readable", **published.settings(tmp_path, vocabulary=("v.pkl", {"<pad>": 0})) | cut(tmp_path))
    many = vocabulary([*(f"other{i}" for i in range(40)), *IDS, *(f"GENE{i}" for i in range(20))])
    fails("the weights have 30 tokens", **published.settings(tmp_path, vocabulary=("many.json", many)))
    given = published.geneformer() if params["preset"] == "geneformer" else published.scgpt()
    lacking = {name: value for name, value in given.items() if "layers.1.norm1.weight" not in name}
    lacking = {name: value for name, value in lacking.items() if "layer.1.output.LayerNorm.weight" not in name}
    fails("it lacks layers.1.norm", **published.settings(tmp_path, weights=("l.safetensors", lacking)))


def cut(folder):
    path, _ = published.saved(folder, "cut.pkl", {"<pad>": 0})
    with open(path, "r+b") as stream:
        stream.truncate(5)
    return {"vocabulary": path, "vocabulary_sha256": hash_file(Path(path))}


def test_a_pickle_that_would_run_code_is_not_opened(memory_source, tmp_path):
    params = geneformer(tmp_path) | published.settings(tmp_path, vocabulary=("v.pkl", {"<pad>": SimpleNamespace()}))
    with pytest.raises(InputError, match="more than names and numbers, and is not opened; save it as JSON"):
        made(memory_source(9), params, tmp_path)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_without_its_files_a_dry_run_says_where_they_are(preset, tmp_path):
    def resolve(**params):
        return resolve_models({"x": SimpleNamespace(model="gene_encoder", params={"preset": preset} | params)})["x"]

    with pytest.raises(ConfigError, match=r"models\.x\.params: the preset .* needs weights") as refused:
        resolve()
    assert PRESETS[preset].place in str(refused.value)
    named = {key: str(tmp_path / key) for key in PRESETS[preset].files}
    with pytest.raises(ConfigError, match="no such file") as refused:
        resolve(**named, **{f"{key}_sha256": "0" * 64 for key in named})
    assert PRESETS[preset].place in str(refused.value)
    for path in named.values():
        open(path, "w").close()
    found = resolve(**named, **{f"{key}_sha256": "0" * 64 for key in named})
    assert (found.serves, found.reads) == ({"embedding"}, {"genes"})
    assert f"| `{preset}` |" in README.read_text()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"preset": "scGPT"}, "did you mean scgpt"),
        ({"preset": "cellplm"}, "method: cellplm"),
        ({"preset": "scBERT"}, "it is not offered"),
        ({"preset": "scgpt", "weights": "w"}, "weights and weights_sha256 belong together"),
    ],
)
def test_wrong_settings_are_one_sentence(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        validate(Params, values, "models.x.params")


def test_what_lies_elsewhere_is_told_in_the_readme():
    text = README.read_text().lower()
    assert all(name in text for name in ELSEWHERE)
