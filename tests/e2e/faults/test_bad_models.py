"""Files that a model is given besides the dataset, and files of a trained model: what does not fit is one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from mistline.core.hashing import hash_file
from mistline.store.manifest import read_manifest
from tests.e2e.faults.conftest import NAME, Row
from tests.e2e.faults.runner import Ended, Runner, litter
from tests.unit.data.conftest import Slide, build, gene_names, run_assign, run_fit, run_seal, run_splits, write_slide

TINY = {"size": "tiny", "steps": 1, "warmup_steps": 0, "train_batch": 32, "val_batches": 1}
Told = Callable[[str, Ended], str]


def words(manifest: Path, model: Path, **params: object) -> list[str | Path]:
    """Return the training of a model into that folder."""
    names = {"config": "config.json", "weights": "weights.safetensors", "genes": "genes.txt"}
    names |= {"metrics": "metrics.jsonl", "card": "card.md"}
    files = [word for option, name in names.items() for word in (f"--{option}", model / name)]
    start = ["train", "--dataset", manifest, "--model", "joint", "--registry-name", "spatia", "--seed", "0"]
    return [*start, *files, "--params", json.dumps(TINY | params)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sealed dataset; read it, do not write it."""
    return build(tmp_path_factory.mktemp("dataset") / NAME / "results") / "dataset/manifest.json"


@pytest.fixture(scope="module")
def trained(manifest: Path, runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model after one step; read it, do not write it."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    ended = runner(*words(manifest, folder), cwd=folder.parent)
    assert ended.code == 0, ended.output
    return folder


@pytest.fixture
def refused(manifest: Path, runner: Runner, tmp_path: Path, told: Told) -> Callable[..., str]:
    """Train with these settings; return the sentence after checking that no file was left."""

    def refuse(what: str, code: int = 3, **params: object) -> str:
        folder = tmp_path / "model"
        ended = runner(*words(manifest, folder, **params), cwd=tmp_path)
        assert ended.code == code, ended.output
        assert not [path for path in folder.rglob("*") if path.is_file()]
        return told(what, ended)

    return refuse


def vectors(path: Path, genes: list[str], n: int = 64) -> Path:
    numbers = np.random.default_rng(0).normal(size=(len(genes), n)).astype(np.float32)
    pd.DataFrame({"gene_id": genes, "vector": list(numbers)}).to_parquet(path)
    return path


def test_weights_with_another_sha256(refused: Callable[..., str], tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "vit.safetensors")
    said = refused(
        "pretrained weights with another sha256",
        image_weights=str(tmp_path / "vit.safetensors"),
        image_weights_sha256="0" * 64,
    )
    assert said.startswith("vit.safetensors: ")
    assert "sha256" in said


def test_weights_of_another_network(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)
    said = refused(
        "pretrained weights of another network", image_weights=str(path), image_weights_sha256=hash_file(path)
    )
    assert said.startswith("vit.safetensors: ")


def test_gene_vectors_of_other_genes(refused: Callable[..., str], trained: Path, tmp_path: Path) -> None:
    genes = (trained / "genes.txt").read_text().split()
    path = vectors(tmp_path / "genes.parquet", [*genes[:10], *(f"ENSG9{number:010d}" for number in range(300))])
    said = refused("gene vectors of other genes", gene_vectors=str(path))
    assert said.startswith(f"genes.parquet: 10 of {len(genes)} genes of the vocabulary have a vector (")
    assert "fewer than 50.0%" in said


def test_gene_vectors_that_are_too_short(refused: Callable[..., str], trained: Path, tmp_path: Path) -> None:
    genes = (trained / "genes.txt").read_text().split()
    said = refused("gene vectors narrower than the model", gene_vectors=str(vectors(tmp_path / "g.parquet", genes, 8)))
    assert said.startswith("g.parquet: its vectors have 8 numbers, the gene encoder is 64 wide; ")


@pytest.mark.parametrize("option", ["gene_vectors", "gene_positions"])
def test_a_gene_table_that_is_no_parquet(option: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "genes.csv").write_text("gene_id,start\n")
    said = refused(f"{option} that is no parquet", **{option: str(tmp_path / "genes.csv")})
    assert said == "genes.csv: it cannot be read as parquet; check the path and the file."


def test_places_of_other_genes(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "places.parquet"
    pd.DataFrame({"gene_id": ["X"], "chromosome": ["1"], "start": [10]}).to_parquet(path)
    said = refused("places of other genes", gene_positions=str(path))
    assert said.startswith("places.parquet: it has none of the ")


def test_a_scale_that_the_dataset_lacks(refused: Callable[..., str]) -> None:
    said = refused("a scale that the dataset lacks", code=4, niche="field", levels=["cell", "niche"])
    assert said == "open_dataset: context: unknown 'field'; choose from cell, niche, region."


@pytest.fixture(scope="module")
def two_panels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A dataset of four donors, and its one tested slide: that shares 15 of its 35 genes with the training slides."""
    root = tmp_path_factory.mktemp("panels") / "results"
    slides = [Slide(f"s{number}", f"d{number}", n=80) for number in range(4)]
    for slide in slides:
        write_slide(root, slide)
    donors = run_splits(root, slides, {"scheme": "donor", "val_share": 0.1, "test_share": 0.1})["donors"]
    tested = next(slide for slide in slides if donors[slide.donor] == "test")
    tested.genes = gene_names(35, 15)
    write_slide(root, tested)
    run_fit(root, slides)
    for slide in slides:
        run_assign(root, slide)
    run_seal(root, slides)
    return root / "dataset/manifest.json", tested.name


def embedding(manifest: Path, model: Path, slide: str, out: Path) -> list[str | Path]:
    """Return the embedding of a slide into that folder."""
    given = ["embed", "--dataset", manifest, "--model-config", model / "config.json", "--slide", slide]
    return [*given, "--embedding", out / "a.parquet", "--h5ad", out / "a.h5ad"]


def test_a_slide_with_too_few_known_genes(
    two_panels: tuple[Path, str], runner: Runner, tmp_path: Path, told: Told
) -> None:
    manifest, slide = two_panels
    ended = runner(*words(manifest, tmp_path / "model"), cwd=tmp_path)
    said = told("a slide of whose genes training knows fewer than half", ended)
    assert ended.code == 3, ended.output
    assert said.startswith(f"slide {slide}: the model knows 15 of its 35 genes, fewer than 50%; ")
    assert not [path for path in (tmp_path / "model").rglob("*") if path.is_file()]


def test_unknown_genes_are_counted_and_left_out(
    two_panels: tuple[Path, str], runner: Runner, tmp_path: Path, row: Row
) -> None:
    manifest, slide = two_panels
    says = f"slide {slide}: the model knows 15 of its 35 genes; the other 20 are left out"
    for command in (
        words(manifest, tmp_path / "model", min_overlap=0.3),
        embedding(manifest, tmp_path / "model", slide, tmp_path),
    ):
        ended = runner(*command, cwd=tmp_path)
        assert ended.code == 0, ended.output
        assert says in ended.output
    card = (tmp_path / "model/card.md").read_text()
    assert f"genes left out in embedding: 20 of slide {slide}, which no training slide measured" in card
    row("bad input", "unknown genes, above the floor", 0, f"works: the log says: {says}; the card counts them too")


def test_cells_without_an_image(manifest: Path, runner: Runner, tmp_path: Path, row: Row) -> None:
    slide = next(iter(read_manifest(manifest).slides))
    for command in (
        words(manifest, tmp_path / "model", embed_from="genes"),
        embedding(manifest, tmp_path / "model", slide, tmp_path),
    ):
        ended = runner(*command, cwd=tmp_path)
        assert ended.code == 0, ended.output
    found = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert np.isfinite(found.X).all()
    assert np.ptp(found.X, axis=0).max() > 0
    row("bad input", "no cell has an image (embed_from: genes)", 0, "works: learned tokens stand for the images")


def edited(path: Path, change: Callable[[dict], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def other_heads(model: Path) -> None:
    edited(model / "config.json", lambda values: values["params"].update(heads=8))


def other_version(model: Path) -> None:
    edited(model / "config.json", lambda values: values.update(dataset_version="f" * 64))


def other_genes(model: Path) -> None:
    (model / "genes.txt").write_text("ENSG00000000001\n")


def other_vocabulary(model: Path) -> None:
    """Genes in another order, and a config that vouches for them."""
    path = model / "genes.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    edited(model / "config.json", lambda values: values.update(genes_sha256=hash_file(path)))


def cut_weights(model: Path) -> None:
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("change", "what", "says"),
    [
        (other_heads, "a model's config with another number of heads", "weights of spatia: they are of a model with "),
        (other_version, "a model of another version of the dataset", "trained on dataset version ffffffffffff, this"),
        (other_genes, "a model whose genes.txt was changed", "genes.txt: not the file that config.json was written"),
        (other_vocabulary, "weights with another vocabulary", "they are of a model with vocabulary "),
        (cut_weights, "weights that are cut off", "weights.safetensors: not the file that config.json was written"),
    ],
)
def test_a_trained_model_that_does_not_fit(
    change: Callable[[Path], None],
    what: str,
    says: str,
    trained: Path,
    manifest: Path,
    runner: Runner,
    tmp_path: Path,
    told: Told,
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained, model)
    change(model)
    out, slide = tmp_path / "embedded", next(iter(read_manifest(manifest).slides))
    ended = runner(*embedding(manifest, model, slide, out), cwd=tmp_path)
    assert ended.code == 3, ended.output
    assert says in told(what, ended)
    assert not out.exists() or not list(out.rglob("*.parquet"))
    assert not litter(tmp_path)
