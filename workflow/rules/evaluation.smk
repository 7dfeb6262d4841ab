# One JSON for every (task, protocol, model, seed); the controls are judged once a (task, protocol), like a model.


rule assign_folds:
    input:
        manifest=rules.seal_dataset.output.manifest,
        cells=expand(rules.read_cells.output.cells, slide=SLIDES),
        counts=expand(rules.read_cells.output.counts, slide=SLIDES),
        splits=rules.make_splits.output.splits,
    output:
        folds="results/folds/{task}/{protocol}.parquet",
        summary="results/folds/{task}/{protocol}.json",
    log:
        "results/logs/assign_folds/{task}.{protocol}.log",
    benchmark:
        "results/benchmarks/assign_folds/{task}.{protocol}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("assign_folds"),
        runtime=60,
    params:
        slides=per_slide("--slide", "slide"),
        donors=per_slide("--donor", "donor"),
        cells=per_file("--cells", "cells"),
        counts=per_file("--counts", "counts"),
        splits=per_file("--splits", "splits"),
        section=task_section,
        code=task_code("assign_folds"),
    shell:
        "python -m mistline assign-folds --task {wildcards.task} --protocol {wildcards.protocol} {params.slides}"
        " {params.donors} {params.cells} {params.counts} {params.splits} --manifest {input.manifest}"
        " --folds {output.folds} --summary {output.summary} --params {params.section:q} &> {log}"


rule evaluate:
    input:
        unpack(judged),
        manifest=rules.seal_dataset.output.manifest,
        cells=expand(rules.read_cells.output.cells, slide=SLIDES),
        counts=expand(rules.read_cells.output.counts, slide=SLIDES),
        splits=rules.make_splits.output.splits,
    output:
        scores="results/evaluation/{task}/{protocol}/{model}.seed-{seed}.json",
        answers="results/evaluation/{task}/{protocol}/{model}.seed-{seed}.parquet",
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
        tissues=per_slide("--tissue", "tissue"),
        diseases=per_slide("--disease", "disease"),
        judged=judged_options,
        cells=per_file("--cells", "cells"),
        counts=per_file("--counts", "counts"),
        splits=per_file("--splits", "splits"),
        section=task_section,
        code=task_code("evaluate"),
    shell:
        "python -m mistline evaluate --task {wildcards.task} --protocol {wildcards.protocol}"
        " --model {wildcards.model} --seed {wildcards.seed} {params.slides} {params.donors} {params.judged}"
        " {params.tissues} {params.diseases}"
        " {params.cells} {params.counts} {params.splits} --manifest {input.manifest}"
        " --scores {output.scores} --answers {output.answers} --params {params.section:q} --threads {threads} &> {log}"


rule compare:
    input:
        scores=rows_of_table,
        answers=answers_of_table,
    output:
        comparison=report(
            "results/evaluation/{task}/{protocol}.json",
            caption="../report/comparison.rst",
            category="Tests",
            subcategory="{task}",
            labels={"task": "{task}", "protocol": "{protocol}"},
        ),
    log:
        "results/logs/compare/{task}.{protocol}.log",
    benchmark:
        "results/benchmarks/compare/{task}.{protocol}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("compare"),
        runtime=20,
    params:
        scores=per_file("--scores", "scores"),
        answers=per_file("--answers", "answers"),
        section=ablation_section,
        code=code("compare"),
    shell:
        "python -m mistline compare {params.scores} {params.answers} --comparison {output.comparison}"
        " --ablation {params.section:q} &> {log}"


TABLES = [
    (task, protocol) for task, run in CONFIG.tasks.items() for protocol in run.protocols
]
SCORES = [path for task, protocol in TABLES for path in scores_of(task, protocol)]
COMPARISONS = [
    f"results/evaluation/{task}/{protocol}.json" for task, protocol in TABLES
]
