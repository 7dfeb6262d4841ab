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
