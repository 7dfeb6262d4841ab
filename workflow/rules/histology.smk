# H&E as an image source of its own: on the DAPI image's grid, in the same keys. Only of slides that have one.


rule register_he:
    input:
        he_image=slide_file("he_image"),
        he_alignment=slide_file("he_alignment"),
        dapi=rules.project_image.output.image,
        image_summary=rules.project_image.output.summary,
        cells=rules.read_cells.output.cells,
    output:
        image=directory("results/slides/{slide}/he/image.ome.zarr"),
        summary="results/slides/{slide}/he/image.json",
        coverage="results/slides/{slide}/he/coverage.parquet",
    log:
        "results/logs/register_he/{slide}.log",
    benchmark:
        "results/benchmarks/register_he/{slide}.tsv"
    wildcard_constraints:
        slide="|".join(map(re.escape, HE_SLIDES)) or "(?!)",
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=memory("register_he"),
        runtime=240,
    params:
        section=section("cells"),
        code=code("register_he"),
    shell:
        "python -m mistline register-he --he-image {input.he_image:q} --he-alignment {input.he_alignment:q}"
        " --dapi {input.dapi} --image-summary {input.image_summary} --cells {input.cells} --image {output.image}"
        " --summary {output.summary} --coverage {output.coverage} --params {params.section:q}"
        " --threads {threads} &> {log}"


rule cut_he:
    input:
        image=rules.register_he.output.image,
        index="results/slides/{slide}/shards/{scale}.parquet",
    output:
        shards=directory("results/slides/{slide}/he/shards/{scale}"),
    log:
        "results/logs/cut_he/{slide}.{scale}.log",
    benchmark:
        "results/benchmarks/cut_he/{slide}.{scale}.tsv"
    wildcard_constraints:
        scale="|".join(SCALES),
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("cut_he"),
        runtime=60,
    params:
        section=section("shards"),
        code=code("cut_he"),
    shell:
        "python -m mistline cut-he --image {input.image} --index {input.index} --shards {output.shards}"
        " --params {params.section:q} --threads {threads} &> {log}"
