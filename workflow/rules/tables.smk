# From tables (h5ad files, Visium folders) to the sealed dataset, in place of dataset.smk. Outputs lie at the same paths.


# The table is a param, not an input: the DAG is known before any table is there.
rule read_table:
    input:
        labels=labels,
    output:
        report="results/slides/{slide}/bundle.json",
        cells="results/slides/{slide}/cells.parquet",
        counts="results/slides/{slide}/counts.h5ad",
        summary="results/slides/{slide}/cells.json",
    log:
        "results/logs/read_table/{slide}.log",
    benchmark:
        "results/benchmarks/read_table/{slide}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("read_table"),
        runtime=60,
    params:
        table=slide_field("table"),
        donor=slide_field("donor"),
        tissue=slide_field("tissue"),
        disease=slide_field("disease"),
        values=slide_field("values"),
        unit=slide_option("--um-per-unit", "um_per_unit"),
        labels=labels_option,
        section=section("cells"),
        code=code("read_table"),
    shell:
        "python -m mistline read-table --table {params.table:q} --slide {wildcards.slide}"
        " --donor {params.donor:q} --tissue {params.tissue:q} --disease {params.disease:q}"
        " --values {params.values} {params.unit} {params.labels} --report {output.report}"
        " --cells {output.cells} --counts {output.counts} --summary {output.summary}"
        " --params {params.section:q} &> {log}"


# Only of slides whose coordinates lie on an image.
rule cut_patches:
    input:
        image=slide_file("image"),
        bundle=rules.read_table.output.report,
        cells=rules.read_table.output.cells,
    output:
        shards=directory("results/slides/{slide}/shards/cell"),
        index="results/slides/{slide}/shards/cell.parquet",
        summary="results/slides/{slide}/patches.json",
    log:
        "results/logs/cut_patches/{slide}.log",
    benchmark:
        "results/benchmarks/cut_patches/{slide}.tsv"
    wildcard_constraints:
        slide="|".join(map(re.escape, PATCH_SLIDES)) or "(?!)",
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=memory("cut_patches"),
        runtime=120,
    params:
        donor=slide_field("donor"),
        scale=slide_option("--image-um-per-px", "image_um_per_px"),
        section=section("patches"),
        shard_gb=CONFIG.shards.max_gb,
        code=code("cut_patches"),
    shell:
        "python -m mistline cut-patches --image {input.image:q} {params.scale} --bundle-report {input.bundle}"
        " --cells {input.cells} --slide {wildcards.slide} --donor {params.donor:q} --shards {output.shards}"
        " --index {output.index} --summary {output.summary} --params {params.section:q}"
        " --shard-gb {params.shard_gb} --threads {threads} &> {log}"


include: "splits.smk"


rule seal_tables:
    input:
        tables=expand(rules.read_table.output, slide=SLIDES),
        patches=expand(rules.cut_patches.output, slide=PATCH_SLIDES),
        splits=rules.make_splits.output,
    output:
        manifest="results/dataset/manifest.json",
        genes="results/dataset/genes.parquet",
        card="results/dataset/card.md",
    log:
        "results/logs/seal_tables.log",
    benchmark:
        "results/benchmarks/seal_tables.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=memory("seal_tables"),
        runtime=120,
    params:
        slides=slides_json,
        sections=table_sections,
        code=code("seal_tables"),
    shell:
        "python -m mistline seal-tables --root results --slides-json {params.slides:q}"
        " --manifest {output.manifest} --genes {output.genes} --card {output.card}"
        " --params {params.sections:q} &> {log}"


# Later rules know the same files under the names of dataset.smk.
rules.check_bundle = rules.read_cells = rules.read_table
rules.seal_dataset = rules.seal_tables
IMAGES = []
METACELLS_QUALITY = []
VIEWER = []
