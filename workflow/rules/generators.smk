# Images drawn from genes and context: latents and conditions, training, drawing, edits, and the speed table.


# Once for all generators that share them; a slide's conditions need all of its cells.
rule encode_cells:
    input:
        manifest=rules.seal_dataset.output.manifest,
        autoencoder=trained_files("autoencoder"),
        condition=trained_files("condition"),
    output:
        latents=directory(
            "results/latents/{autoencoder}.{condition}/seed-{seed}/{slide}"
        ),
    log:
        "results/logs/encode_cells/{autoencoder}.{condition}.seed-{seed}.{slide}.log",
    benchmark:
        "results/benchmarks/encode_cells/{autoencoder}.{condition}.seed-{seed}.{slide}.tsv"
    wildcard_constraints:
        autoencoder=one_of(AUTOENCODERS),
        condition=one_of(TRAINED),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("encode_cells"),
        runtime=480,
    params:
        section=generation("encoded"),
        code=encoding_code,
    shell:
        "python -m mistline encode-cells --manifest {input.manifest} --slide {wildcards.slide}"
        " --autoencoder {input.autoencoder[0]} --condition {input.condition[0]} --latents {output.latents}"
        " --params {params.section:q} --threads {threads} --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


rule pair_cells:
    input:
        manifest=rules.seal_dataset.output.manifest,
        cells=rules.read_cells.output.cells,
        counts=rules.read_cells.output.counts,
        splits="results/dataset/splits/{slide}.parquet",
        latents=encoded,
    output:
        pairs="results/pairs/{model}/seed-{seed}/{slide}.parquet",
    log:
        "results/logs/pair_cells/{model}.seed-{seed}.{slide}.log",
    benchmark:
        "results/benchmarks/pair_cells/{model}.seed-{seed}.{slide}.tsv"
    wildcard_constraints:
        model=one_of(FLOWS),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("pair_cells"),
        runtime=120,
    params:
        section=model_section,
        code=model_code("pair_cells"),
    shell:
        "python -m mistline pair-cells --manifest {input.manifest} --slide {wildcards.slide} --cells {input.cells}"
        " --counts {input.counts} --splits {input.splits} --latents {input.latents} --pairs {output.pairs}"
        " --params {params.section:q} --seed {wildcards.seed} &> {log}"


rule train_generator:
    input:
        manifest=rules.seal_dataset.output.manifest,
        latents=encoded,
        pairs=paired,
    output:
        config="results/models/{model}/seed-{seed}/config.json",
        weights="results/models/{model}/seed-{seed}/weights.safetensors",
        genes="results/models/{model}/seed-{seed}/genes.txt",
        metrics="results/models/{model}/seed-{seed}/metrics.jsonl",
        card="results/models/{model}/seed-{seed}/card.md",
    log:
        "results/logs/train_generator/{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/train_generator/{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of(GENERATORS),
    priority: 1
    conda:
        "../../envs/environment.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=memory("train_generator"),
        runtime=2880,
    params:
        name=model_name,
        latents=per_file("--latents", "latents"),
        pairs=per_file("--pairs", "pairs"),
        section=model_section,
        code=model_code("train_generator"),
    shell:
        "python -m mistline train-generator --manifest {input.manifest} --model {wildcards.model}"
        " --registry-name {params.name} {params.latents} {params.pairs} --config {output.config}"
        " --weights {output.weights} --genes {output.genes} --metrics {output.metrics} --card {output.card}"
        " --params {params.section:q} --seed {wildcards.seed} --threads {threads}"
        " --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


rule generate:
    input:
        manifest=rules.seal_dataset.output.manifest,
        generator=rules.train_generator.output.config,
        weights=rules.train_generator.output.weights,
        autoencoder=trained_files("autoencoder"),
        latents=encoded,
        pairs=paired,
    output:
        pictures="results/generated/{model}/seed-{seed}/{protocol}.safetensors",
    log:
        "results/logs/generate/{model}.seed-{seed}.{protocol}.log",
    benchmark:
        "results/benchmarks/generate/{model}.seed-{seed}.{protocol}.tsv"
    wildcard_constraints:
        model=one_of(GENERATORS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("generate"),
        runtime=720,
    params:
        latents=per_file("--latents", "latents"),
        pairs=per_file("--pairs", "pairs"),
        n_cells=tested_cells,
        section=generation("sampling"),
        code=model_code("generate"),
    shell:
        "python -m mistline generate --manifest {input.manifest} --generator {input.generator}"
        " --autoencoder {input.autoencoder[0]} {params.latents} {params.pairs} --protocol {wildcards.protocol}"
        " --pictures {output.pictures} --n-cells {params.n_cells} --sampling {params.section:q}"
        " --seed {wildcards.seed} --threads {threads} --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


rule edit:
    input:
        manifest=rules.seal_dataset.output.manifest,
        generator=rules.train_generator.output.config,
        weights=rules.train_generator.output.weights,
        autoencoder=trained_files("autoencoder"),
        condition=trained_files("condition"),
        latents=encoded,
    output:
        pictures="results/edits/{model}/seed-{seed}.safetensors",
    log:
        "results/logs/edit/{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/edit/{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of(GENERATORS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("edit"),
        runtime=240,
    params:
        latents=per_file("--latents", "latents"),
        section=generation("protocol", "sampling", "edits"),
        code=model_code("edit"),
    shell:
        "python -m mistline edit --manifest {input.manifest} --generator {input.generator}"
        " --autoencoder {input.autoencoder[0]} --condition {input.condition[0]} {params.latents}"
        " --pictures {output.pictures} --params {params.section:q} --seed {wildcards.seed} --threads {threads}"
        " --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


rule sweep:
    input:
        manifest=rules.seal_dataset.output.manifest,
        generator=rules.train_generator.output.config,
        weights=rules.train_generator.output.weights,
        autoencoder=trained_files("autoencoder"),
        latents=encoded,
    output:
        table="results/sweeps/{model}/seed-{seed}.json",
    log:
        "results/logs/sweep/{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/sweep/{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of(GENERATORS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("sweep"),
        runtime=480,
    params:
        latents=per_file("--latents", "latents"),
        section=generation("protocol", "sampling", "sweep"),
        code=model_code("sweep"),
    shell:
        "python -m mistline sweep --manifest {input.manifest} --generator {input.generator}"
        " --autoencoder {input.autoencoder[0]} {params.latents} --table {output.table} --params {params.section:q}"
        " --seed {wildcards.seed} --threads {threads} --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


# What the report shows of the first seed; a flow goes from cell to cell, its genes are not edited.
EDITED = [name for name in GENERATORS if name not in FLOWS]
EDITS = expand(
    rules.edit.output.pictures,
    model=EDITED if CONFIG.generation.edits else [],
    seed=CONFIG.seeds[0],
)
SWEEPS = expand(
    rules.sweep.output.table,
    model=EDITED if CONFIG.generation.sweep else [],
    seed=CONFIG.seeds[0],
)
