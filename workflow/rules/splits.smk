# Training, validation and test: one division of the cohort, whatever its slides are.


rule make_splits:
    input:
        cells=expand("results/slides/{slide}/cells.parquet", slide=SLIDES),
        bundles=expand("results/slides/{slide}/bundle.json", slide=SLIDES),
    output:
        splits=expand("results/dataset/splits/{slide}.parquet", slide=SLIDES),
        summary="results/dataset/splits.json",
    log:
        "results/logs/make_splits.log",
    benchmark:
        "results/benchmarks/make_splits.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("make_splits"),
        runtime=60,
    params:
        slides=per_slide("--slide", "slide"),
        donors=per_slide("--donor", "donor"),
        tissues=per_slide("--tissue", "tissue"),
        cells=per_file("--cells", "cells"),
        bundles=per_file("--bundle-report", "bundles"),
        splits=per_output("--splits", "splits"),
        section=section("splits"),
        scales=section("scales"),
        seed=CONFIG.seed,
        code=code("make_splits"),
    shell:
        "python -m mistline make-splits {params.slides} {params.donors} {params.tissues} {params.cells}"
        " {params.bundles} {params.splits} --summary {output.summary} --params {params.section:q}"
        " --scales {params.scales:q} --seed {params.seed} &> {log}"
