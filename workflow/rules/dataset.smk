# From raw bundles to the sealed dataset: one job a slide (or slide x scale), then a few for the cohort.


if CONFIG.fetch.enabled:

    include: "fetch.smk"


# The bundle is a param, not an input: the DAG is known before any bundle is there.
rule check_bundle:
    input:
        fetched,
    output:
        report="results/slides/{slide}/bundle.json",
    log:
        "results/logs/check_bundle/{slide}.log",
    benchmark:
        "results/benchmarks/check_bundle/{slide}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("check_bundle"),
        runtime=20,
    params:
        bundle=slide_field("bundle"),
        donor=slide_field("donor"),
        tissue=slide_field("tissue"),
        disease=slide_field("disease"),
        section=section("image"),
        code=code("check_bundle"),
    shell:
        "python -m mistline check-bundle --bundle {params.bundle:q} --slide {wildcards.slide}"
        " --donor {params.donor:q} --tissue {params.tissue:q} --disease {params.disease:q}"
        " --report {output.report} --params {params.section:q} &> {log}"


rule project_image:
    input:
        check=rules.check_bundle.output.report,
    output:
        image=directory("results/slides/{slide}/image.ome.zarr"),
        summary="results/slides/{slide}/image.json",
    log:
        "results/logs/project_image/{slide}.log",
    benchmark:
        "results/benchmarks/project_image/{slide}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=memory("project_image"),
        runtime=240,
    params:
        bundle=slide_field("bundle"),
        section=section("image"),
        code=code("project_image"),
    shell:
        "python -m mistline project-image --bundle {params.bundle:q} --check {input.check}"
        " --image {output.image} --summary {output.summary} --params {params.section:q}"
        " --threads {threads} &> {log}"


rule read_cells:
    input:
        check=rules.check_bundle.output.report,
        labels=labels,
    output:
        cells="results/slides/{slide}/cells.parquet",
        counts="results/slides/{slide}/counts.h5ad",
        summary="results/slides/{slide}/cells.json",
    log:
        "results/logs/read_cells/{slide}.log",
    benchmark:
        "results/benchmarks/read_cells/{slide}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("read_cells"),
        runtime=60,
    params:
        bundle=slide_field("bundle"),
        labels=labels_option,
        section=section("cells"),
        code=code("read_cells"),
    shell:
        "python -m mistline read-cells --bundle {params.bundle:q} --check {input.check}"
        " --cells {output.cells} --counts {output.counts} --summary {output.summary} {params.labels}"
        " --params {params.section:q} &> {log}"


rule cut_crops:
    input:
        image=rules.project_image.output.image,
        image_summary=rules.project_image.output.summary,
        cells=rules.read_cells.output.cells,
        counts=rules.read_cells.output.counts,
    output:
        shards=directory("results/slides/{slide}/shards/cell"),
        index="results/slides/{slide}/shards/cell.parquet",
    log:
        "results/logs/cut_crops/{slide}.log",
    benchmark:
        "results/benchmarks/cut_crops/{slide}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("cut_crops"),
        runtime=60,
    params:
        donor=slide_field("donor"),
        section=section("crops"),
        scales=section("scales"),
        shard_gb=CONFIG.shards.max_gb,
        code=code("cut_crops"),
    shell:
        "python -m mistline cut-crops --image {input.image} --image-summary {input.image_summary}"
        " --cells {input.cells} --counts {input.counts} --shards {output.shards} --index {output.index}"
        " --slide {wildcards.slide} --donor {params.donor:q} --params {params.section:q}"
        " --scales {params.scales:q} --shard-gb {params.shard_gb} --threads {threads} &> {log}"


rule cut_tiles:
    input:
        image=rules.project_image.output.image,
        image_summary=rules.project_image.output.summary,
        cells=rules.read_cells.output.cells,
        counts=rules.read_cells.output.counts,
    output:
        shards=directory("results/slides/{slide}/shards/{scale}"),
        index="results/slides/{slide}/shards/{scale}.parquet",
    log:
        "results/logs/cut_tiles/{slide}.{scale}.log",
    benchmark:
        "results/benchmarks/cut_tiles/{slide}.{scale}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("cut_tiles"),
        runtime=60,
    params:
        donor=slide_field("donor"),
        section=section("shards"),
        scales=section("scales"),
        code=code("cut_tiles"),
    shell:
        "python -m mistline cut-tiles --scale {wildcards.scale} --image {input.image}"
        " --image-summary {input.image_summary} --cells {input.cells} --counts {input.counts}"
        " --shards {output.shards} --index {output.index} --slide {wildcards.slide} --donor {params.donor:q}"
        " --params {params.section:q} --scales {params.scales:q} --threads {threads} &> {log}"


include: "splits.smk"


rule fit_metacells:
    input:
        counts=expand(rules.read_cells.output.counts, slide=SLIDES),
        cells=expand(rules.read_cells.output.cells, slide=SLIDES),
        splits=rules.make_splits.output.splits,
    output:
        metacells="results/dataset/metacells.h5ad",
        quality="results/dataset/metacells.json",
    log:
        "results/logs/fit_metacells.log",
    benchmark:
        "results/benchmarks/fit_metacells.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 8
    resources:
        mem_mb=memory("fit_metacells"),
        runtime=240,
    params:
        slides=per_slide("--slide", "slide"),
        counts=per_file("--counts", "counts"),
        cells=per_file("--cells", "cells"),
        splits=per_file("--splits", "splits"),
        section=section("metacells"),
        seed=CONFIG.seed,
        code=code("fit_metacells"),
    shell:
        "python -m mistline fit-metacells {params.slides} {params.counts} {params.cells} {params.splits}"
        " --metacells {output.metacells} --quality {output.quality} --params {params.section:q}"
        " --seed {params.seed} --threads {threads} &> {log}"


rule assign_metacells:
    input:
        metacells=rules.fit_metacells.output.metacells,
        counts=rules.read_cells.output.counts,
        cells=rules.read_cells.output.cells,
    output:
        assignment="results/slides/{slide}/metacells.parquet",
    log:
        "results/logs/assign_metacells/{slide}.log",
    benchmark:
        "results/benchmarks/assign_metacells/{slide}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("assign_metacells"),
        runtime=60,
    params:
        code=code("assign_metacells"),
    shell:
        "python -m mistline assign-metacells --metacells {input.metacells} --counts {input.counts}"
        " --cells {input.cells} --assignment {output.assignment} --threads {threads} &> {log}"


rule seal_dataset:
    input:
        cells=expand(rules.read_cells.output, slide=SLIDES),
        images=expand(rules.project_image.output.summary, slide=SLIDES),
        crops=expand(rules.cut_crops.output, slide=SLIDES),
        tiles=expand(rules.cut_tiles.output, slide=SLIDES, scale=GRID_SCALES),
        he=he_files,
        splits=rules.make_splits.output,
        metacells=rules.fit_metacells.output,
        assignments=expand(rules.assign_metacells.output.assignment, slide=SLIDES),
    output:
        manifest="results/dataset/manifest.json",
        genes="results/dataset/genes.parquet",
        card="results/dataset/card.md",
    log:
        "results/logs/seal_dataset.log",
    benchmark:
        "results/benchmarks/seal_dataset.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("seal_dataset"),
        runtime=120,
    params:
        slides=slides_json,
        sections=dataset_sections,
        scales=section("scales"),
        code=code("seal_dataset"),
    shell:
        "python -m mistline seal-dataset --root results --slides-json {params.slides:q}"
        " --manifest {output.manifest} --genes {output.genes} --card {output.card}"
        " --scales {params.scales:q} --params {params.sections:q} &> {log}"


# What the report shows of a cohort of bundles and not of tables.
IMAGES = expand(rules.project_image.output, slide=SLIDES)
METACELLS_QUALITY = [rules.fit_metacells.output.quality]
