# Cells generated at places where none were measured.


rule generate_cells:
    input:
        manifest=rules.seal_dataset.output.manifest,
        generator=rules.train.output.config,
        weights=rules.train.output.weights,
    output:
        filled="results/filled/{model}/seed-{seed}/{protocol}.parquet",
    log:
        "results/logs/generate_cells/{model}.seed-{seed}.{protocol}.log",
    benchmark:
        "results/benchmarks/generate_cells/{model}.seed-{seed}.{protocol}.tsv"
    wildcard_constraints:
        model=one_of(FILLERS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("generate_cells"),
        runtime=480,
    params:
        section=holes,
        code=model_code("generate_cells"),
    shell:
        "python -m mistline generate-cells --manifest {input.manifest} --generator {input.generator}"
        " --protocol {wildcards.protocol} --filled {output.filled} --params {params.section:q} --threads {threads}"
        " --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"
