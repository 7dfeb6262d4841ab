"""What SPATIA learns of a toy tissue whose truth is known: nuclei from images.

Eleven donors, five of them tested, so that everything is paired donor by donor. Each job of the line is run in this
process: they take longer to start than to run. What genes alone see holds whatever was learned: few steps are enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch

from mistline.models.contract import Context, Needs
from mistline.tasks.stats import bootstrap_mean
from mistline.train.checkpoint import load
from mistline.train.device import cpu_threads
from mistline.train.source import open_source
from mistline.xenium.toy.cohort import plan_cohort, write_cohort
from mistline.xenium.toy.panel import MORPHOLOGY
from tests.conftest import Snakemake
from tests.e2e.in_process import configure, embedded, run_here, slides_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

N_SLIDES, N_CELLS = 12, 300
PRESETS = {"image_only": {"preset": "image_only"}, "full": {"steps": 20}}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """Trained; what images alone tell is embedded."""
    folder = tmp_path_factory.mktemp("truth") / "cohort"
    slides = plan_cohort(N_SLIDES, N_CELLS, 0, ["1.3"], n_planes=1, transcripts=False)
    write_cohort(folder, slides, threads=1)
    models = {name: {"model": "spatia", "params": {"size": "tiny", **params}} for name, params in PRESETS.items()}
    configure(folder, splits={"val_share": 0.1, "test_share": 0.45}, models=models, tasks={}, imputation={})
    wanted = [f"results/embeddings/image_only/seed-0/{slide.name}.h5ad" for slide in slides]
    run_here(folder, snakemake, *wanted, "results/models/full/seed-0/config.json")
    return folder


def nuclear(cohort: Path, slide: str) -> np.ndarray:
    """Return [n, 3] log counts of the genes that shape the nucleus."""
    table = anndata.read_h5ad(cohort / f"results/slides/{slide}/counts.h5ad")
    column = [list(table.var["symbol"]).index(name) for name in MORPHOLOGY]
    return np.log1p(table.X[:, column].toarray())


def colour(cohort: Path, slide: str) -> np.ndarray:
    """Return [n, 2] mean intensity of each crop and its square: what an image tells without any shape."""
    source = open_source(cohort / "results/dataset/manifest.json", slides=(slide,))
    batches = source.batches(Needs(image_size=32, batch_size=64))
    mean = np.concatenate([batch.image.float().mean(dim=(1, 2, 3)).numpy() for batch in batches])
    return np.stack([mean, mean**2], axis=1)


def decoded(points: Mapping[str, np.ndarray], genes: Mapping[str, np.ndarray], train: Mapping[str, str]
            ) -> dict[str, np.ndarray]:  # fmt: skip
    """Return slide -> [n, 3] genes, by ridge regression on the slides of the training donors."""
    x, y = (np.concatenate([of[slide] for slide in train]) for of in (points, genes))
    mean, scale, middle = x.mean(0), x.std(0) + 1e-6, y.mean(0)
    x = (x - mean) / scale
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ (y - middle))
    return {slide: (own - mean) / scale @ weights + middle for slide, own in points.items() if slide not in train}


def correlations(said: Mapping[str, np.ndarray], genes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return [slides, 3] Pearson's r of each gene on each tested slide, one slide a donor."""
    return np.array(
        [[np.corrcoef(own[:, k], genes[slide][:, k])[0, 1] for k in range(3)] for slide, own in said.items()]
    )


def gain(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the bounds of the mean paired difference over donors."""
    values = {str(i): float(value) for i, value in enumerate(first - second)}
    found = bootstrap_mean(values, 2000, 0.95, np.random.default_rng(0))
    return found.low, found.high


@pytest.fixture(scope="module")
def nuclei(cohort: Path) -> dict[str, np.ndarray]:
    """Return name of what is read -> [donors, 3] correlations of the decoded genes."""
    train, test = slides_of(cohort, "train"), slides_of(cohort, "test")
    genes = {slide: nuclear(cohort, slide) for slide in (*train, *test)}
    given = {
        "image": {slide: embedded(cohort, "image_only", slide) for slide in genes},
        "colour": {slide: colour(cohort, slide) for slide in genes},
    }
    rng = np.random.default_rng(0)
    given["dealt"] = {slide: rng.permutation(points) for slide, points in given["image"].items()}
    return {name: correlations(decoded(points, genes, train), genes) for name, points in given.items()}


@pytest.mark.parametrize(("control", "least"), [("dealt", 0.1), ("colour", 0.0)])
def test_an_image_tells_the_genes_that_shape_the_nucleus(nuclei, control, least):
    """Measured: r = 0.64, 0.32 and 0.83 of size, eccentricity and brightness; of mean intensity 0.45, 0.27 and 0.47."""
    assert len(nuclei["image"]) >= 5
    for k, gene in enumerate(MORPHOLOGY):
        low, _ = gain(nuclei["image"][:, k], nuclei[control][:, k])
        assert low > least, (gene, nuclei["image"][:, k], nuclei[control][:, k])


class Dealt:
    """A slide whose cells and tiles have the images of others.

    Args:
        source: the slide.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def batches(self, needs: Needs, *given: Any, **named: Any) -> Iterator[Any]:
        for batch in self._source.batches(needs, *given, **named):
            yield batch if batch.image is None else replace(batch, image=batch.image.roll(1, dims=0))


@pytest.mark.parametrize(("embed_from", "is_same"), [("genes", True), ("all", False)])
def test_genes_alone_see_nothing_of_the_images(cohort, tmp_path, embed_from, is_same):
    found = load(cohort / "results/models/full/seed-0/config.json").model
    found.params = found.params.model_copy(update={"embed_from": embed_from})
    slide = next(iter(slides_of(cohort, "test")))
    source = open_source(cohort / "results/dataset/manifest.json", slides=(slide,))
    z = []
    for given in (source, Dealt(source)):
        with cpu_threads(1), torch.inference_mode():
            blocks = list(found.embed(given, Context(0, "cpu", 1, resume=tmp_path)))
        z.append(np.concatenate([block.z for block in blocks]))
    assert np.array_equal(*z) == is_same
