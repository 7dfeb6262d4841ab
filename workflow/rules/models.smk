# Training and embedding, one rule each for every registered model.
# In a SLURM job, SLURM says how many GPUs there are: a site may want them asked for as `gres`, with `gpu` at 0.


rule train:
    input:
        manifest=rules.seal_dataset.output.manifest,
    output:
        config="results/models/{model}/seed-{seed}/config.json",
        weights="results/models/{model}/seed-{seed}/weights.safetensors",
        genes="results/models/{model}/seed-{seed}/genes.txt",
        metrics="results/models/{model}/seed-{seed}/metrics.jsonl",
        card="results/models/{model}/seed-{seed}/card.md",
    log:
        "results/logs/train/{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/train/{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of(TRAINED),
    # Everything waits for the longest training: none starts behind jobs that nothing waits for.
    priority: 1
    conda:
        "../../envs/environment.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=memory("train"),
        runtime=1440,
    params:
        name=model_name,
        section=model_section,
        code=model_code("train"),
    shell:
        "python -m mistline train --dataset {input.manifest} --model {wildcards.model}"
        " --registry-name {params.name} --config {output.config} --weights {output.weights}"
        " --genes {output.genes} --metrics {output.metrics} --card {output.card}"
        " --params {params.section:q} --seed {wildcards.seed} --threads {threads}"
        " --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


rule embed:
    input:
        manifest=rules.seal_dataset.output.manifest,
        config=rules.train.output.config,
        weights=rules.train.output.weights,
    output:
        embedding="results/embeddings/{model}/seed-{seed}/{slide}.parquet",
        h5ad="results/embeddings/{model}/seed-{seed}/{slide}.h5ad",
    log:
        "results/logs/embed/{model}.seed-{seed}.{slide}.log",
    benchmark:
        "results/benchmarks/embed/{model}.seed-{seed}.{slide}.tsv"
    wildcard_constraints:
        model=one_of([name for name in TRAINED if name in EMBEDDERS]),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("embed"),
        runtime=240,
    params:
        code=model_code("embed"),
    shell:
        "python -m mistline embed --dataset {input.manifest} --model-config {input.config}"
        " --slide {wildcards.slide} --embedding {output.embedding} --h5ad {output.h5ad}"
        " --threads {threads} --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


rule predict:
    input:
        unpack(built_on),
        unpack(begun_with),
        manifest=rules.seal_dataset.output.manifest,
        cells=expand(rules.read_cells.output.cells, slide=SLIDES),
        counts=expand(rules.read_cells.output.counts, slide=SLIDES),
        folds="results/folds/{task}/{protocol}.parquet",
    output:
        predictions="results/predictions/{task}/{protocol}/{model}.seed-{seed}.parquet",
        metrics="results/predictions/{task}/{protocol}/{model}.seed-{seed}.jsonl",
    log:
        "results/logs/predict/{task}.{protocol}.{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/predict/{task}.{protocol}.{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of([name for name in PREDICTORS if name in OURS]),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("predict"),
        runtime=720,
    params:
        name=model_name,
        slides=per_slide("--slide", "slide"),
        donors=per_slide("--donor", "donor"),
        cells=per_file("--cells", "cells"),
        counts=per_file("--counts", "counts"),
        embeddings=built_on_options,
        start=begun_with_option,
        label=task_label,
        section=model_section,
        code=model_code("predict"),
    shell:
        "python -m mistline predict --task {wildcards.task} --protocol {wildcards.protocol} --label {params.label:q}"
        " --model {wildcards.model} --registry-name {params.name} --seed {wildcards.seed} {params.slides}"
        " {params.donors} {params.cells} {params.counts} {params.embeddings} {params.start} --folds {input.folds}"
        " --manifest {input.manifest} --predictions {output.predictions} --metrics {output.metrics}"
        " --params {params.section:q} --threads {threads} --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"
