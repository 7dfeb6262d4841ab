"""Write the report: one self-contained page, its tables as CSV and its figures as PNG and SVG."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from mistline.config.base import load_section
from mistline.config.report import Report
from mistline.config.scales import load_scales
from mistline.core.errors import ConfigError
from mistline.core.files import atomic_path, read_json, write_text
from mistline.core.log import progress
from mistline.core.provenance import record
from mistline.report.courses import read_course_names
from mistline.report.generation import GenerationFiles
from mistline.report.imputation_maps import ImputationFiles
from mistline.report.origins import read_origins
from mistline.report.page import Gathered, build, check_size
from mistline.report.results import Results, pair_answers
from mistline.report.scores import read_comparisons
from mistline.report.significance import read_tests
from mistline.report.sources import n_rows, open_slide, unseen_genes
from mistline.scrna.view import TrainView
from mistline.store.manifest import read_manifest
from mistline.workflow.digest import code_digest

logger = logging.getLogger("mistline.report")


def run(
    root: Annotated[Path, typer.Option(help="the result folder, which holds slides/")],
    manifest: Annotated[Path, typer.Option(help="the sealed dataset; splits/ and genes.parquet lie in its folder")],
    splits_summary: Annotated[Path, typer.Option(help="splits.json")],
    slides_json: Annotated[str, typer.Option(help="JSON list of objects with slide, donor, tissue, disease")],
    page: Annotated[Path, typer.Option(help="the page (html) to write")],
    tables: Annotated[Path, typer.Option(help="the folder of CSV tables to write")],
    figures: Annotated[Path, typer.Option(help="the folder of figures to write")],
    scales: Annotated[str, typer.Option(help="the scales section, as JSON")],
    metacells_quality: Annotated[Path | None, typer.Option(help="metacells.json; a cohort of tables has none")] = None,
    scores: Annotated[list[Path] | None, typer.Option(help="an evaluation (JSON); repeated")] = None,
    answers: Annotated[
        list[Path] | None, typer.Option(help="what each row of an evaluation says of each cell (parquet); repeated")
    ] = None,
    tests: Annotated[list[Path] | None, typer.Option(help="tests of a table's rows (JSON); repeated")] = None,
    courses: Annotated[list[Path] | None, typer.Option("--course", help="course of a training (jsonl)")] = None,
    course_names: Annotated[
        list[str] | None, typer.Option("--course-of", help="model/seed or model/seed/task/protocol of each course")
    ] = None,
    embeddings: Annotated[
        list[Path] | None, typer.Option("--embedding", help="embedding (parquet) of each slide, model after model")
    ] = None,
    predictions: Annotated[list[Path] | None, typer.Option(help="a model's predictions (parquet); repeated")] = None,
    pictures: Annotated[list[Path] | None, typer.Option(help="what a generator drew (safetensors); repeated")] = None,
    edits: Annotated[list[Path] | None, typer.Option(help="what edits of genes drew (safetensors); repeated")] = None,
    sweeps: Annotated[list[Path] | None, typer.Option(help="a generator's speeds (JSON); repeated")] = None,
    filled: Annotated[
        list[Path] | None, typer.Option(help="cells that a model filled holes with (parquet); repeated")
    ] = None,
    imputed: Annotated[
        list[Path] | None, typer.Option(help="tested genes as a model imputed them (parquet); repeated")
    ] = None,
    gene_folds: Annotated[Path | None, typer.Option(help="how genes are divided for that (parquet)")] = None,
    reference: Annotated[Path | None, typer.Option(help="the single cells they were imputed from (h5ad)")] = None,
    added: Annotated[
        list[Path] | None, typer.Option(help="genes no slide measures, imputed at a slide's cells (parquet); repeated")
    ] = None,
    benchmarks: Annotated[Path | None, typer.Option(help="the folder of the rules' benchmark files")] = None,
    params: Annotated[str, typer.Option(help="the report section, as JSON")] = "{}",
    seed: Annotated[int, typer.Option(help="the run's seed")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="processes that draw; they do not change the page")] = 1,
) -> None:
    """Write the page, the tables and the figures."""
    settings = load_section(Report, params, "report")
    sizes = load_scales(scales)
    sealed = read_manifest(manifest)
    dataset, evaluations = manifest.parent, list(scores or [])
    has_images = sealed.kind == "xenium"
    grids = [scale.name for scale in sizes if scale.unit == "grid"]
    slides = [
        open_slide(root, dataset / "splits", entry, grids if has_images else [], has_images)
        for entry in progress(_read_entries(slides_json), "read")
    ]
    divided = read_json(splits_summary)
    origins, sidecars = read_origins([slide.folder for slide in slides], dataset, evaluations)
    gathered = Gathered(
        settings=settings,
        version=sealed.version,
        n_genes=n_rows(dataset / "genes.parquet"),
        unseen=unseen_genes(dataset / "genes.parquet", divided),
        slides=slides,
        scales=sizes,
        splits=divided,
        quality=read_json(metacells_quality) if metacells_quality else None,
        results=Results(
            read_comparisons(evaluations, sealed.version),
            read_tests(tests or [], sealed.version),
            pair_answers(evaluations, answers or []),
            read_course_names(courses or [], course_names or []),
            embeddings or [],
        ),
        origins=origins,
        sidecars=sidecars,
        benchmarks=sorted(benchmarks.rglob("*.tsv")) if benchmarks else [],
        root=root,
        predictions=predictions or [],
        generated=GenerationFiles(pictures or (), edits or (), sweeps or ()),
        filled=filled or (),
        imputed=ImputationFiles(imputed or (), gene_folds, reference, _controls),
        added=added or (),
    )
    with atomic_path(tables) as tables_part, atomic_path(figures) as figures_part:
        tables_part.mkdir()
        figures_part.mkdir()
        text = build(gathered, tables_part, figures_part, seed, threads)
        size = check_size(text)
    write_text(page, text)
    logger.info("%s: %.1f MB", page, size / 1e6)
    inputs = {"manifest": manifest, "splits_summary": splits_summary}
    single = {"metacells_quality": metacells_quality, "gene_folds": gene_folds, "reference": reference}
    inputs |= {name: path for name, path in single.items() if path}
    repeated = {"scores": scores, "tests": tests, "courses": courses, "embeddings": embeddings}
    repeated |= {"pictures": pictures, "edits": edits, "sweeps": sweeps, "filled": filled}
    repeated |= {"imputed": imputed, "added": added}
    for name, paths in repeated.items():
        inputs |= {f"{name}[{number}]": path for number, path in enumerate(paths or [])}
    chosen = settings.model_dump(mode="json")
    record(
        "report",
        outputs=[page, tables, figures],
        inputs=inputs,
        params=chosen,
        code=code_digest("report"),
        seed=seed,
    )


def _controls(view: TrainView, settings: Mapping[str, Any], fold: int) -> Mapping[str, NDArray[np.float32]]:
    """Return what the controls of imputation say of a fold's tested genes, as they were judged."""
    from threadpoolctl import threadpool_limits

    from mistline.tasks.imputation import Params
    from mistline.tasks.imputation_controls import controls

    own = {name: settings[name] for name in Params.model_fields if name in settings}
    params = load_section(Params, json.dumps(own), "imputation")
    with threadpool_limits(limits=1, user_api="blas"):  # as the task does: the picture must not depend on threads
        return controls(view, params, fold)


def _read_entries(text: str) -> list[dict[str, Any]]:
    remedy = "pass a JSON list of objects with slide, donor, tissue and disease"
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError("slides-json", f"not valid JSON ({error})", remedy) from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError("slides-json", "no slides", remedy)
    for entry in entries:
        missing = [key for key in ("slide", "donor", "tissue", "disease") if key not in entry]
        if missing:
            raise ConfigError("slides-json", f"a slide lacks {missing[0]}", remedy)
    return entries
