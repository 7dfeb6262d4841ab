# Genes from single cells: closed ones, fold by fold, to judge methods by; and ones that no panel of the run measures.


rule read_reference:
    input:
        reference=single_cells,
    output:
        counts="results/reference/counts.h5ad",
        summary="results/reference/reference.json",
    log:
        "results/logs/read_reference.log",
    benchmark:
        "results/benchmarks/read_reference.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("read_reference"),
        runtime=60,
    params:
        values=single_cell_values,
        code=code("read_reference"),
    shell:
        "python -m mistline read-reference --reference {input.reference:q} --values {params.values}"
        " --counts {output.counts} --summary {output.summary} &> {log}"


rule fold_genes:
    input:
        reference=rules.read_reference.output.counts,
        counts=expand(rules.read_cells.output.counts, slide=GENE_SLIDES),
    output:
        genes="results/imputed/{protocol}/genes.parquet",
        summary="results/imputed/{protocol}/genes.json",
    log:
        "results/logs/fold_genes/{protocol}.log",
    benchmark:
        "results/benchmarks/fold_genes/{protocol}.tsv"
    wildcard_constraints:
        protocol=one_of(GENE_PROTOCOLS),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("fold_genes"),
        runtime=60,
    params:
        slides=each("--slide", GENE_SLIDES),
        counts=per_file("--counts", "counts"),
        section=division,
        code=code("fold_genes"),
    shell:
        "python -m mistline fold-genes --reference {input.reference} {params.slides} {params.counts}"
        " --genes {output.genes} --summary {output.summary} --params {params.section:q} &> {log}"


rule impute_folds:
    input:
        manifest=rules.seal_dataset.output.manifest,
        cells=expand(rules.read_cells.output.cells, slide=GENE_SLIDES),
        counts=expand(rules.read_cells.output.counts, slide=GENE_SLIDES),
        reference=rules.read_reference.output.counts,
        genes=rules.fold_genes.output.genes,
    output:
        imputed="results/imputed/{protocol}/{model}.seed-{seed}.parquet",
    log:
        "results/logs/impute_folds/{protocol}.{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/impute_folds/{protocol}.{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of([name for name in IMPUTERS if name in OURS]),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("impute_folds"),
        runtime=720,
    params:
        name=model_name,
        slides=each("--slide", GENE_SLIDES),
        cells=per_file("--cells", "cells"),
        counts=per_file("--counts", "counts"),
        most=judged_cells,
        section=model_section,
        code=model_code("impute_folds"),
    shell:
        "python -m mistline impute-folds --protocol {wildcards.protocol} --model {wildcards.model}"
        " --registry-name {params.name} --seed {wildcards.seed} {params.slides} {params.cells} {params.counts}"
        " --reference {input.reference} --genes {input.genes} --manifest {input.manifest}"
        " --imputed {output.imputed} --max-cells {params.most} --params {params.section:q} --threads {threads}"
        " --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


rule impute_slide:
    input:
        manifest=rules.seal_dataset.output.manifest,
        cells=rules.read_cells.output.cells,
        counts=rules.read_cells.output.counts,
        panels=expand(rules.read_cells.output.counts, slide=SLIDES),
        reference=rules.read_reference.output.counts,
    output:
        imputed="results/imputed/slides/{model}/seed-{seed}/{slide}.parquet",
        h5ad="results/imputed/slides/{model}/seed-{seed}/{slide}.h5ad",
    log:
        "results/logs/impute_slide/{model}.seed-{seed}.{slide}.log",
    benchmark:
        "results/benchmarks/impute_slide/{model}.seed-{seed}.{slide}.tsv"
    wildcard_constraints:
        model=one_of(CONFIG.imputation.models),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("impute_slide"),
        runtime=720,
    params:
        name=model_name,
        panels=per_file("--panel", "panels"),
        fewest=fewest_shared,
        added=added,
        section=model_section,
        code=model_code("impute_slide"),
    shell:
        "python -m mistline impute-slide --slide {wildcards.slide} --model {wildcards.model}"
        " --registry-name {params.name} --seed {wildcards.seed} --cells {input.cells} --counts {input.counts}"
        " {params.panels} --reference {input.reference} --manifest {input.manifest} --imputed {output.imputed}"
        " --h5ad {output.h5ad} {params.fewest} --added {params.added:q} --params {params.section:q}"
        " --threads {threads} --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"


# Viewers and the report show the first seed.
IMPUTED = expand(
    rules.impute_slide.output,
    model=CONFIG.imputation.models,
    seed=CONFIG.seeds[0],
    slide=ADDED_SLIDES,
)
