# Circles of tissue changed, and the rings around them generated from that.


rule perturb:
    input:
        manifest=rules.seal_dataset.output.manifest,
        generator=rules.train.output.config,
        weights=rules.train.output.weights,
    output:
        perturbed="results/perturbed/{model}/seed-{seed}.parquet",
    log:
        "results/logs/perturb/{model}.seed-{seed}.log",
    benchmark:
        "results/benchmarks/perturb/{model}.seed-{seed}.tsv"
    wildcard_constraints:
        model=one_of(FILLERS),
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("perturb"),
        runtime=480,
    params:
        section=perturbation,
        code=model_code("perturb"),
    shell:
        "python -m mistline perturb --manifest {input.manifest} --generator {input.generator}"
        " --perturbed {output.perturbed} --params {params.section:q} --threads {threads}"
        " --devices ${{SLURM_GPUS_ON_NODE:-{resources.gpu}}} &> {log}"
