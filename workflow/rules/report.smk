# One page that shows the dataset and every result.


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
    output:
        page=report(
            "results/report/index.html",
            caption="../report/index.rst",
            category="Report",
        ),
        tables=directory("results/report/tables"),
        figures=directory("results/report/figures"),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("report"),
        runtime=60,
    params:
        slides=slides_json,
        quality=per_file("--metacells-quality", "quality"),
        scores=per_file("--scores", "scores"),
        section=section("report"),
        scales=section("scales"),
        seed=CONFIG.seed,
        code=code("report"),
    shell:
        "python -m mistline report --root results --benchmarks results/benchmarks --manifest {input.dataset[0]}"
        " --splits-summary {input.splits} {params.quality}"
        " --slides-json {params.slides:q} {params.scores} --page {output.page}"
        " --tables {output.tables} --figures {output.figures} --params {params.section:q}"
        " --scales {params.scales:q} --seed {params.seed} &> {log}"
