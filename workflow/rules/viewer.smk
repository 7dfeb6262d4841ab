# A slide as other tools open it: SpatialData (napari, squidpy, ...) and groups for Xenium Explorer.


# The bundle's polygons are drawn; like everywhere, the bundle itself is a param.
rule export_viewer:
    input:
        manifest=rules.seal_dataset.output.manifest,
        image=rules.project_image.output.image,
        image_summary=rules.project_image.output.summary,
        cells=rules.read_cells.output.cells,
        counts=rules.read_cells.output.counts,
        splits="results/dataset/splits/{slide}.parquet",
        metacells=rules.assign_metacells.output.assignment,
        embeddings=shown_embeddings,
        imputed=added_genes,
        he=he_image,
    output:
        store=directory("results/viewer/{slide}.zarr"),
        groups=directory("results/viewer/{slide}.groups"),
    log:
        "results/logs/export_viewer/{slide}.log",
    benchmark:
        "results/benchmarks/export_viewer/{slide}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("export_viewer"),
        runtime=120,
    params:
        bundle=slide_field("bundle"),
        embeddings=per_file("--embedding", "embeddings"),
        imputed=per_file("--imputed", "imputed"),
        he=he_option,
        section=section("viewer"),
        seed=CONFIG.seed,
        code=code("export_viewer"),
    shell:
        "python -m mistline export-viewer --bundle {params.bundle:q} --manifest {input.manifest}"
        " --slide {wildcards.slide} --image {input.image} --image-summary {input.image_summary}"
        " --cells {input.cells} --counts {input.counts} --splits {input.splits} --metacells {input.metacells}"
        " {params.embeddings} {params.imputed} {params.he} --store {output.store} --groups {output.groups}"
        " --params {params.section:q} --seed {params.seed} --threads {threads} &> {log}"


VIEWER = expand(rules.export_viewer.output, slide=SLIDES)
