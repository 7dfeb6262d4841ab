# One JSON for every (task, protocol, model, seed), with the trivial controls inside.


rule evaluate:
    input:
        manifest=rules.seal_dataset.output.manifest,
        embeddings=expand(
            rules.embed.output.embedding, slide=SLIDES, allow_missing=True
        ),
        cells=expand(rules.read_cells.output.cells, slide=SLIDES),
        counts=expand(rules.read_cells.output.counts, slide=SLIDES),
        splits=rules.make_splits.output.splits,
    output:
        scores="results/evaluation/{task}/{protocol}/{model}.seed-{seed}.json",
    log:
        "results/logs/evaluate/{task}.{protocol}.{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/evaluate/{task}.{protocol}.{model}.seed-{seed}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("evaluate"),
        runtime=240,
    params:
        slides=per_slide("--slide", "slide"),
        donors=per_slide("--donor", "donor"),
        embeddings=per_file("--embedding", "embeddings"),
        cells=per_file("--cells", "cells"),
        counts=per_file("--counts", "counts"),
        splits=per_file("--splits", "splits"),
        section=task_section,
        code=task_code,
    shell:
        "python -m mistline evaluate --task {wildcards.task} --protocol {wildcards.protocol}"
        " --model {wildcards.model} --seed {wildcards.seed} {params.slides} {params.donors}"
        " {params.embeddings} {params.cells} {params.counts} {params.splits} --manifest {input.manifest}"
        " --scores {output.scores} --params {params.section:q} --threads {threads} &> {log}"


SCORES = [
    f"results/evaluation/{task}/{protocol}/{model}.seed-{seed}.json"
    for task, run in CONFIG.tasks.items()
    for protocol in run.protocols
    for model in CONFIG.models
    for seed in CONFIG.seeds
]
