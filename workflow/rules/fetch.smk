# Bundles that are not on disk, from the sheet's url. Only with `fetch: {enabled: true}`.


# What is declared is a receipt: Snakemake removes what a rule declares before it runs it, and a bundle is never removed.
# Where receipt and bundle are both there, the rule is out of the way, so that a change of it has nothing to do again.
rule fetch_bundle:
    output:
        receipt="results/slides/{slide}/fetched.json",
    log:
        "results/logs/fetch_bundle/{slide}.log",
    benchmark:
        "results/benchmarks/fetch_bundle/{slide}.tsv"
    wildcard_constraints:
        slide=one_of([slide.slide for slide in SLIDE.values() if is_to_fetch(slide)]),
    conda:
        "../../envs/environment.yaml"
    resources:
        downloads=1,
        mem_mb=memory("fetch_bundle"),
        runtime=720,
    params:
        url=slide_field("url"),
        bundle=slide_field("bundle"),
        sha256=slide_option("--sha256", "sha256"),
        md5=slide_option("--md5", "md5"),
        n_bytes=slide_option("--n-bytes", "bytes"),
        section=how_to_fetch,
        code=code("fetch_bundle"),
    shell:
        "python -m mistline fetch-bundle --url {params.url:q} --bundle {params.bundle:q} --receipt {output.receipt}"
        " {params.sha256} {params.md5} {params.n_bytes} --params {params.section:q} &> {log}"
