# Loads the configuration once, and turns it into the functions the rules take their params from.
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

from mistline.config.imputation import Division
from mistline.config.load import load_config
from mistline.core.errors import MistlineError
from mistline.workflow.digest import code_digest
from mistline.workflow.memory import memory_mb
from mistline.workflow.registry import (
    check_encoded,
    check_imputation,
    resolve_models,
    resolve_tasks,
    shown_runs,
)

# A bare `configfile:` would merge the user's slides into every --configfile run.
if not workflow.configfiles:

    configfile: ROOT / "config.yaml"


try:
    CONFIG = load_config(config, root=ROOT)
    MODELS = resolve_models(CONFIG.models, CONFIG.has_images)
    TASKS = resolve_tasks(CONFIG.tasks, CONFIG.active_slides, MODELS)
    check_encoded(CONFIG.generation.encoded.test, TASKS)
    check_imputation(
        CONFIG.imputation,
        CONFIG.models,
        MODELS,
        TASKS,
        CONFIG.slides,
        CONFIG.active_slides,
    )
    SHOWN_RUNS = shown_runs(CONFIG.viewer, CONFIG.seeds, MODELS)
except MistlineError as error:
    raise WorkflowError(str(error))

SLIDE = {slide.slide: slide for slide in CONFIG.active_slides}
SLIDES = list(SLIDE)
EMBEDDERS = [name for name in MODELS if "embedding" in MODELS[name].serves]
PREDICTORS = [name for name in MODELS if "prediction" in MODELS[name].serves]
PEERS = [name for name in MODELS if CONFIG.models[name].model == "peer"]
OURS = [name for name in MODELS if name not in PEERS]
AUTOENCODERS = [name for name in MODELS if "latents" in MODELS[name].serves]
GENERATORS = [name for name in MODELS if "images" in MODELS[name].serves]
FLOWS = [name for name in GENERATORS if CONFIG.models[name].model == "flow"]
FILLERS = [name for name in MODELS if "cells" in MODELS[name].serves]
IMPUTERS = [name for name in MODELS if "genes" in MODELS[name].serves]
TRAINED = [name for name in EMBEDDERS if name in OURS] + AUTOENCODERS
WEIGHTED = [*TRAINED, *GENERATORS]
GENES_TASK = TASKS["imputation"].params if "imputation" in TASKS else None
GENE_PROTOCOLS = CONFIG.tasks["imputation"].protocols if GENES_TASK else []
GENE_SLIDES = [
    name
    for name in SLIDES
    if not (GENES_TASK and GENES_TASK.slides) or name in GENES_TASK.slides
]
ADDED_SLIDES = [name for name in CONFIG.imputation.slides or SLIDES if name in SLIDES]
GRID_SCALES = [scale.name for scale in CONFIG.grid_scales]
SCALES = [scale.name for scale in CONFIG.scales]
HE_SLIDES = [name for name, slide in SLIDE.items() if slide.he_image]
PATCH_SLIDES = [name for name, slide in SLIDE.items() if slide.image]

# Where environment.post-deploy.sh finds the lock.
os.environ.update(MISTLINE_ROOT=str(ROOT))

# Jobs use this checkout and, unless --sdm conda gives them another, this interpreter: whatever the caller's PATH.
# HDF5 locks fail on some network file systems, and finished files are only read.
PREFIX = f"set -euo pipefail; export HDF5_USE_FILE_LOCKING=FALSE PYTHONPATH={shlex.quote(str(ROOT / 'src'))}; "
if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
    PREFIX += f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
shell.prefix(PREFIX)


wildcard_constraints:
    slide="|".join(map(re.escape, SLIDES)),
    scale="|".join(GRID_SCALES),
    model="|".join(map(re.escape, [*CONFIG.models, "controls"])),
    task="|".join(CONFIG.tasks) or "none",
    protocol="[a-z0-9_]+",
    seed="[0-9]+",
    method="[a-z0-9_]+",


# Params are functions of the wildcards: a plain string that holds {word} would be taken for a wildcard.
def section(name):
    text = json.dumps(CONFIG.model_dump(mode="json")[name])
    return lambda wildcards: text


def generation(*names):
    """Settings of trained generators that one stage is given: the sampler's, or those and what it draws."""
    found = CONFIG.generation.model_dump(mode="json", include=set(names))
    text = json.dumps(found[names[0]] if len(names) == 1 else found)
    return lambda wildcards: text


def code(stage, *modules):
    return lambda wildcards: code_digest(stage, *modules)


def dataset_sections(wildcards):
    kept = {"seed", "image", "cells", "crops", "shards", "splits", "metacells"}
    return json.dumps(CONFIG.model_dump(mode="json", include=kept))


def table_sections(wildcards):
    kept = {"seed", "cells", "splits"} | (
        {"patches", "shards"} if PATCH_SLIDES else set()
    )
    return json.dumps(CONFIG.model_dump(mode="json", include=kept))


def model_name(wildcards):
    return CONFIG.models[wildcards.model].model


def model_section(wildcards):
    return json.dumps(CONFIG.models[wildcards.model].params, sort_keys=True)


def model_code(stage):
    return lambda wildcards: code_digest(stage, *MODELS[wildcards.model].modules)


def one_of(names):
    """Constrain a wildcard to some names; nothing matches none of them."""
    return "|".join(map(re.escape, names)) or "(?!)"


def slide_field(name):
    return lambda wildcards: str(getattr(SLIDE[wildcards.slide], name))


def slide_option(option, name):
    """An option that is given only where the sheet says something."""

    def ask(wildcards):
        value = getattr(SLIDE[wildcards.slide], name)
        return "" if value is None else f"{option} {shlex.quote(str(value))}"

    return ask


def slide_file(name):
    return lambda wildcards: getattr(SLIDE[wildcards.slide], name)


def he_files(wildcards):
    """Everything that histology.smk makes of the slides with an H&E; nothing where there is none."""
    if not HE_SLIDES:
        return []
    return expand(rules.register_he.output, slide=HE_SLIDES) + expand(
        rules.cut_he.output, slide=HE_SLIDES, scale=SCALES
    )


def labels(wildcards):
    return SLIDE[wildcards.slide].labels or []


def labels_option(wildcards, input):
    return f"--labels {shlex.quote(input.labels)}" if input.labels else ""


def shown_embeddings(wildcards):
    return [
        f"results/embeddings/{model}/seed-{seed}/{wildcards.slide}.parquet"
        for model, seed in SHOWN_RUNS
    ]


def added_genes(wildcards):
    """Genes that no panel measures, as models imputed them at a slide's cells."""
    if wildcards.slide not in ADDED_SLIDES:
        return []
    return [
        f"results/imputed/slides/{model}/seed-{CONFIG.seeds[0]}/{wildcards.slide}.parquet"
        for model in CONFIG.imputation.models
    ]


def he_image(wildcards):
    if not SLIDE[wildcards.slide].he_image:
        return []
    return f"results/slides/{wildcards.slide}/he/image.ome.zarr"


def he_option(wildcards, input):
    return f"--he {shlex.quote(input.he)}" if input.he else ""


def per_slide(option, field):
    """Repeat an option for every slide: --donor d01 --donor d02 ..."""
    text = " ".join(
        f"{option} {shlex.quote(str(getattr(slide, field)))}"
        for slide in SLIDE.values()
    )
    return lambda wildcards: text


def each(option, values):
    """Repeat an option for every value."""
    text = " ".join(f"{option} {shlex.quote(str(value))}" for value in values)
    return lambda wildcards: text


def per_file(option, name):
    """Repeat an option for every file of one named input."""
    return lambda wildcards, input: " ".join(
        f"{option} {shlex.quote(path)}" for path in input[name]
    )


def per_output(option, name):
    """Repeat an option for every file of one named output."""
    return lambda wildcards, output: " ".join(
        f"{option} {shlex.quote(path)}" for path in output[name]
    )


def slides_json(wildcards):
    fields = ("slide", "donor", "tissue", "disease")
    return json.dumps(
        [
            {field: getattr(slide, field) for field in fields}
            | ({"he": True} if slide.he_image else {})
            | ({"image": True} if slide.image else {})
            for slide in SLIDE.values()
        ]
    )


def memory(stage):
    """Memory of a job: by its slide's announced size (the cohort's for cohort stages), its task and the attempt."""

    def ask(wildcards, attempt):
        slides = (
            [SLIDE[wildcards.slide]]
            if "slide" in wildcards.keys()
            else list(SLIDE.values())
        )
        return memory_mb(stage, slides, attempt, wildcards.get("task"))

    return ask
