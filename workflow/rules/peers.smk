# Published methods, each in an environment of its own, on the same files: their results lie where a model's lie.


# Where the network is: compute nodes often reach none. What cannot be made is said in the status.
rule peer_environment:
    input:
        lock=peer_lock,
    output:
        environment=directory("results/peers/{method}"),
        status="results/peers/{method}.json",
    log:
        "results/logs/peer_environment/{method}.log",
    benchmark:
        "results/benchmarks/peer_environment/{method}.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("peer_environment"),
        runtime=60,
    params:
        code=code("peer_environment"),
    shell:
        "python -m mistline peer-environment --method {wildcards.method} --lock {input.lock:q}"
        " --environment {output.environment} --status {output.status} &> {log}"


rule peer_embed:
    input:
        unpack(peer_files),
        manifest=rules.seal_dataset.output.manifest,
        cells=rules.read_cells.output.cells,
        counts=rules.read_cells.output.counts,
    output:
        embedding="results/embeddings/{model}/seed-{seed}/{slide}.parquet",
        h5ad="results/embeddings/{model}/seed-{seed}/{slide}.h5ad",
    log:
        "results/logs/peer_embed/{model}.seed-{seed}.{slide}.log",
    benchmark:
        "results/benchmarks/peer_embed/{model}.seed-{seed}.{slide}.tsv"
    wildcard_constraints:
        model=one_of(PEERS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=memory("peer_embed"),
        runtime=720,
    params:
        section=model_section,
        code=peer_code("peer_embed"),
    shell:
        "python -m mistline peer-embed --model {wildcards.model} --seed {wildcards.seed}"
        " --environment {input.environment} --status {input.status} --manifest {input.manifest}"
        " --slide {wildcards.slide} --cells {input.cells} --counts {input.counts}"
        " --embedding {output.embedding} --h5ad {output.h5ad} --params {params.section:q}"
        " --threads {threads} &> {log}"


rule peer_predict:
    input:
        unpack(peer_files),
        manifest=rules.seal_dataset.output.manifest,
        cells=expand(rules.read_cells.output.cells, slide=SLIDES),
        counts=expand(rules.read_cells.output.counts, slide=SLIDES),
        folds="results/folds/{task}/{protocol}.parquet",
    output:
        predictions="results/predictions/{task}/{protocol}/{model}.seed-{seed}.parquet",
        metrics="results/predictions/{task}/{protocol}/{model}.seed-{seed}.jsonl",
    log:
        "results/logs/peer_predict/{task}.{protocol}.{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/peer_predict/{task}.{protocol}.{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of(PEERS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=memory("peer_predict"),
        runtime=720,
    params:
        slides=per_slide("--slide", "slide"),
        donors=per_slide("--donor", "donor"),
        cells=per_file("--cells", "cells"),
        counts=per_file("--counts", "counts"),
        label=task_label,
        section=model_section,
        code=peer_code("peer_predict"),
    shell:
        "python -m mistline peer-predict --task {wildcards.task} --protocol {wildcards.protocol}"
        " --label {params.label:q} --model {wildcards.model} --seed {wildcards.seed}"
        " --environment {input.environment} --status {input.status} {params.slides} {params.donors}"
        " {params.cells} {params.counts} --folds {input.folds} --manifest {input.manifest}"
        " --predictions {output.predictions} --metrics {output.metrics} --params {params.section:q}"
        " --threads {threads} &> {log}"


rule peer_impute:
    input:
        unpack(peer_files),
        manifest=rules.seal_dataset.output.manifest,
        cells=expand(rules.read_cells.output.cells, slide=GENE_SLIDES),
        counts=expand(rules.read_cells.output.counts, slide=GENE_SLIDES),
        reference=rules.read_reference.output.counts,
        genes=rules.fold_genes.output.genes,
    output:
        imputed="results/imputed/{protocol}/{model}.seed-{seed}.parquet",
    log:
        "results/logs/peer_impute/{protocol}.{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/peer_impute/{protocol}.{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of(PEERS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=memory("peer_impute"),
        runtime=1440,
    params:
        slides=each("--slide", GENE_SLIDES),
        cells=per_file("--cells", "cells"),
        counts=per_file("--counts", "counts"),
        most=judged_cells,
        section=model_section,
        code=peer_code("peer_impute"),
    shell:
        "python -m mistline peer-impute --protocol {wildcards.protocol} --model {wildcards.model}"
        " --seed {wildcards.seed} --environment {input.environment} --status {input.status} {params.slides}"
        " {params.cells} {params.counts} --reference {input.reference} --genes {input.genes}"
        " --manifest {input.manifest} --imputed {output.imputed} --max-cells {params.most}"
        " --params {params.section:q} --threads {threads} &> {log}"
