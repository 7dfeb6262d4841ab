# One page that shows the dataset and every result.

# Of every training that goes in steps, what it is of: model/seed, or model/seed/task/protocol.
COURSES = {
    f"results/models/{model}/seed-{seed}/metrics.jsonl": f"{model}/{seed}"
    for model in WEIGHTED
    for seed in CONFIG.seeds
} | {
    f"results/predictions/{task}/{protocol}/{model}.seed-{seed}.jsonl": f"{model}/{seed}/{task}/{protocol}"
    for task, protocol in TABLES
    for model in TASKS[task].judged(protocol)
    if model in PREDICTORS
    for seed in CONFIG.seeds
}
# Maps show the first seed, and the viewer the first protocol of each task that has predictions.
SHOWN_EMBEDDINGS = expand(
    rules.embed.output.embedding, model=EMBEDDERS, seed=CONFIG.seeds[0], slide=SLIDES
)
SHOWN_PREDICTIONS = [
    f"results/predictions/{task}/{protocol}/{model}.seed-{CONFIG.seeds[0]}.parquet"
    for task, run in CONFIG.tasks.items()
    for protocol in [p for p in run.protocols if p not in TASKS[task].without_labels][
        :1
    ]
    for model in TASKS[task].judged(protocol)
    if model in PREDICTORS
]
SHOWN_PICTURES = [
    f"results/generated/{model}/seed-{CONFIG.seeds[0]}/{protocol}.safetensors"
    for task, protocol in TABLES
    for model in TASKS[task].judged(protocol)
    if model in GENERATORS
]
SHOWN_FILLED = [
    f"results/filled/{model}/seed-{CONFIG.seeds[0]}/{protocol}.parquet"
    for task, protocol in TABLES
    if task == "unseen_generation"
    for model in TASKS[task].judged(protocol)
    if model in FILLERS
]
SHOWN_IMPUTED = [
    f"results/imputed/{protocol}/{model}.seed-{CONFIG.seeds[0]}.parquet"
    for task, protocol in TABLES
    if task == "imputation"
    for model in TASKS[task].judged(protocol)
    if model in IMPUTERS
]


rule report:
    input:
        dataset=rules.seal_dataset.output,
        splits=rules.make_splits.output.summary,
        quality=METACELLS_QUALITY,
        bundles=expand(rules.check_bundle.output.report, slide=SLIDES),
        images=IMAGES,
        he=he_files,
        embeddings=expand(
            rules.embed.output.embedding,
            model=EMBEDDERS,
            seed=CONFIG.seeds,
            slide=SLIDES,
        ),
        scores=SCORES,
        answers=[path.replace(".json", ".parquet") for path in SCORES],
        tests=COMPARISONS,
        courses=list(COURSES),
        shown=SHOWN_EMBEDDINGS,
        predictions=SHOWN_PREDICTIONS,
        pictures=SHOWN_PICTURES,
        edits=EDITS,
        sweeps=SWEEPS,
        filled=SHOWN_FILLED,
        imputed=SHOWN_IMPUTED,
        gene_folds=expand(
            rules.fold_genes.output.genes,
            protocol=GENE_PROTOCOLS if SHOWN_IMPUTED else [],
        ),
        reference=[rules.read_reference.output.counts] if SHOWN_IMPUTED else [],
        added=expand(
            rules.impute_slide.output.imputed,
            model=CONFIG.imputation.models,
            seed=CONFIG.seeds[0],
            slide=ADDED_SLIDES,
        ),
    output:
        page=report(
            "results/report/index.html",
            caption="../report/index.rst",
            category="Report",
        ),
        tables=report(
            directory("results/report/tables"),
            patterns=["{name}.csv"],
            caption="../report/table.rst",
            category="Tables",
        ),
        figures=directory("results/report/figures"),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("report"),
        runtime=60,
    params:
        slides=slides_json,
        quality=per_file("--metacells-quality", "quality"),
        scores=per_file("--scores", "scores"),
        answers=per_file("--answers", "answers"),
        tests=per_file("--tests", "tests"),
        courses=per_file("--course", "courses"),
        course_names=" ".join(
            f"--course-of {shlex.quote(name)}" for name in COURSES.values()
        ),
        shown=per_file("--embedding", "shown"),
        predictions=per_file("--predictions", "predictions"),
        pictures=per_file("--pictures", "pictures"),
        edits=per_file("--edits", "edits"),
        sweeps=per_file("--sweeps", "sweeps"),
        filled=per_file("--filled", "filled"),
        imputed=per_file("--imputed", "imputed"),
        gene_folds=per_file("--gene-folds", "gene_folds"),
        reference=per_file("--reference", "reference"),
        added=per_file("--added", "added"),
        section=section("report"),
        scales=section("scales"),
        seed=CONFIG.seed,
        code=code("report"),
    shell:
        "python -m mistline report --root results --benchmarks results/benchmarks --manifest {input.dataset[0]}"
        " --splits-summary {input.splits} {params.quality}"
        " --slides-json {params.slides:q} {params.scores} {params.answers} {params.tests} {params.courses}"
        " {params.course_names} {params.shown} {params.predictions} {params.pictures} {params.edits} {params.sweeps}"
        " {params.filled} {params.imputed} {params.gene_folds} {params.reference} {params.added}"
        " --page {output.page} --tables {output.tables} --figures {output.figures} --params {params.section:q}"
        " --scales {params.scales:q} --seed {params.seed} --threads {threads} &> {log}"
