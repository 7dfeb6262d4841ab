# Table of contents of the line; targets below. Rules are in workflow/rules, all logic in src/mistline.
from snakemake.utils import min_version

min_version("9.13")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"


if CONFIG.kind == "tables":

    include: "workflow/rules/tables.smk"

else:

    include: "workflow/rules/dataset.smk"
    include: "workflow/rules/histology.smk"
    include: "workflow/rules/viewer.smk"


include: "workflow/rules/models.smk"
include: "workflow/rules/generators.smk"
include: "workflow/rules/cells.smk"
include: "workflow/rules/perturbation.smk"
include: "workflow/rules/imputation.smk"
include: "workflow/rules/peers.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.report.output.page,
        rules.report.output.tables,
        rules.report.output.figures,
        VIEWER,
        IMPUTED,


rule check:
    input:
        expand(rules.check_bundle.output.report, slide=SLIDES),


rule dataset:
    input:
        rules.seal_dataset.output,


rule models:
    input:
        expand(rules.train.output.weights, model=WEIGHTED, seed=CONFIG.seeds),


rule embeddings:
    input:
        expand(rules.embed.output, model=EMBEDDERS, seed=CONFIG.seeds, slide=SLIDES),


rule impute:
    input:
        IMPUTED,


rule evaluation:
    input:
        SCORES,
        COMPARISONS,


rule viewer:
    input:
        VIEWER,
