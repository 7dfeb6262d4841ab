"""Judge a model, or the controls, on a task."""

from __future__ import annotations

import importlib
import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from threadpoolctl import threadpool_limits

from mistline.config.base import load_section
from mistline.core.errors import ConfigError
from mistline.core.files import write_json, write_parquet
from mistline.core.provenance import record
from mistline.store.absent import read_absent
from mistline.store.manifest import Manifest, read_manifest
from mistline.tasks.base import CONTROLS, LOSS, Scores
from mistline.tasks.files import FileInputs, SlideFiles, SlideImages, Subject
from mistline.workflow.digest import code_digest
from mistline.workflow.registry import check_protocol, find

# Imported, and counted as this stage's code, only for tasks that look at images: the others wait for no torch, and
# a change of how images are read reruns none of them.
_IMAGES = "mistline.train.images"


def run(
    task: Annotated[str, typer.Option(help="Name in the registry of tasks.")],
    protocol: Annotated[str, typer.Option(help="Way of judging, one of the task's.")],
    model: Annotated[str, typer.Option(help="Name of the model's run, as in the tables; `controls` for the controls.")],
    seed: Annotated[int, typer.Option(help="Training seed of the model.")],
    slide: Annotated[list[str], typer.Option(help="Names of the slides; repeated.")],
    donor: Annotated[list[str], typer.Option(help="Donor of each slide; repeated.")],
    cells: Annotated[list[Path], typer.Option(help="cells.parquet of each slide; repeated.")],
    counts: Annotated[list[Path], typer.Option(help="counts.h5ad of each slide; repeated.")],
    splits: Annotated[list[Path], typer.Option(help="Split file of each slide; repeated.")],
    manifest: Annotated[Path, typer.Option(help="The sealed dataset.")],
    scores: Annotated[Path, typer.Option(help="Result (JSON) to write.")],
    tissue: Annotated[list[str] | None, typer.Option(help="Tissue of each slide; repeated.")] = None,
    disease: Annotated[list[str] | None, typer.Option(help="Disease of each slide; repeated.")] = None,
    embedding: Annotated[list[Path] | None, typer.Option(help="Embedding (parquet) of each slide; repeated.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="The model's predictions (parquet).")] = None,
    pictures: Annotated[Path | None, typer.Option(help="What the model drew (safetensors).")] = None,
    filled: Annotated[Path | None, typer.Option(help="The hidden cells that the model generated (parquet).")] = None,
    perturbed: Annotated[Path | None, typer.Option(help="The rings that the model generated (parquet).")] = None,
    imputed: Annotated[Path | None, typer.Option(help="The tested genes as the model imputed them (parquet).")] = None,
    reference: Annotated[Path | None, typer.Option(help="The single cells that genes are imputed from (h5ad).")] = None,
    genes: Annotated[Path | None, typer.Option(help="How genes are divided into folds (parquet).")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="What each row says of each scored cell (parquet) to write, for maps.")
    ] = None,
    folds: Annotated[Path | None, typer.Option(help="The task's own division of the cells (parquet).")] = None,
    params: Annotated[str, typer.Option(help="Settings of the task, as JSON.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Judge a model on a task."""
    started = time.perf_counter()
    module_name = find("tasks", task, "--task")
    judge = importlib.import_module(module_name)
    check_protocol(judge, task, protocol)
    settings = load_section(judge.Params, params, f"tasks.{task}.params")
    optional = [given or [None] * len(slide) for given in (embedding, tissue, disease)]
    sealed = read_manifest(manifest)
    columns = (slide, donor, cells, counts, splits, *optional, [_patches(sealed, name) for name in slide])
    if len({len(column) for column in columns}) != 1:
        raise ConfigError(
            "evaluate", "the options of the slides are not equally many", "repeat each of them once a slide"
        )
    made = {"predictions": predictions, "pictures": pictures, "filled": filled}
    made |= {"perturbed": perturbed, "imputed": imputed}
    if [bool(given) for given in (embedding, *made.values())].count(True) != (model != CONTROLS):
        what = "a model is judged by its embeddings, predictions, pictures, cells or genes, the controls by neither"
        remedy = "give --embedding once a slide, or --predictions, --pictures, --filled, --perturbed or --imputed"
        raise ConfigError("evaluate", what, remedy)
    files = [SlideFiles(*row) for row in zip(*columns, strict=True)]
    version = sealed.version
    given = {"folds": folds, "reference": reference, "genes": genes, **made}
    at_most = getattr(settings, "max_cells", None)
    subject = Subject(None if model == CONTROLS else model, seed, version, at_most=at_most, **given)
    inputs, absent = FileInputs(files, subject, _images(judge, manifest)), _absent(files, predictions or imputed)
    with threadpool_limits(limits=threads):
        result = Scores("none", 0, {}) if absent else judge.evaluate(inputs, settings, protocol)
    about = {"task": task, "protocol": protocol, "model": model, "seed": seed, "dataset_version": version}
    about |= {"not_run": absent} if absent else {}
    cost = {"seconds": round(time.perf_counter() - started, 3), "peak_mb": _peak_mb()}
    write_json(scores, {**about, **result.to_json(), **cost})
    if answers is not None:
        said = result.answers()
        types = {name: "float32" if name.startswith(LOSS) else "category" for name in said}
        write_parquet(answers, said.astype(types))
    record(
        "evaluate",
        outputs=[scores, *([answers] if answers else [])],
        inputs=_made(files, manifest=manifest, **given),
        params={"task": task, "protocol": protocol, **settings.model_dump(mode="json")},
        code=code_digest("evaluate", module_name, *([_IMAGES] if _looks_at_images(judge) else [])),
        seed=seed,
    )


def _made(files: list[SlideFiles], **named: Path | None) -> dict[str, Path]:
    """Return the inputs that the sidecar names."""
    named |= {f"embedding:{row.slide}": row.embedding for row in files}
    return {name: path for name, path in named.items() if path is not None}


def _looks_at_images(judge: ModuleType) -> bool:
    return "images" in judge.JUDGES


def _images(judge: ModuleType, manifest: Path) -> Callable[[str], SlideImages] | None:
    """Return what opens the real images of a slide, for a task that looks at them."""
    if not _looks_at_images(judge):
        return None
    opened: Callable[[Path, str], SlideImages] = importlib.import_module(_IMAGES).open_images
    return lambda slide: opened(manifest, slide)


def _patches(sealed: Manifest, slide: str) -> Path | None:
    """Return the index of a slide's patches, where it is a table with an image."""
    patches = sealed.slides.get(slide, {}).get("patches")
    return sealed.locate(patches["index"]["path"]) if patches else None


def _absent(files: list[SlideFiles], whole: Path | None) -> str | None:
    """Return why a published method gave nothing to judge; None where there is something.

    Args:
        files: of the slides, with their embeddings.
        whole: what it gave of all slides together.
    """
    found = [(row.slide, row.embedding) for row in files if row.embedding] + [("", whole)] * bool(whole)
    told = [(slide, read_absent(path)) for slide, path in found if path]
    return next((f"{slide}: {reason}" if slide else reason for slide, reason in told if reason), None)


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
