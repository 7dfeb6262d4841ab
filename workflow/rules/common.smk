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

from mistline.config.load import load_config
from mistline.core.errors import MistlineError
from mistline.workflow.digest import code_digest
from mistline.workflow.memory import memory_mb
from mistline.workflow.registry import (
    check_encoded,
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
TRAINED = [name for name in EMBEDDERS if name in OURS] + AUTOENCODERS
WEIGHTED = [*TRAINED, *GENERATORS]
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


def peer_method(wildcards):
    return MODELS[wildcards.model].params.method


def peer_lock(wildcards):
    return str(ROOT / "envs/peers" / f"{wildcards.method}.lock")


def peer_files(wildcards):
    """The environment of a published method, and whether it could be made."""
    method = peer_method(wildcards)
    return {
        name: path.format(method=method)
        for name, path in rules.peer_environment.output.items()
    }


def peer_code(stage):
    return lambda wildcards: code_digest(
        stage, f"mistline.tasks.peers.run_{peer_method(wildcards)}"
    )


def built_on(wildcards):
    """Embeddings of the runs that a predictor builds on, run after run, where it names some."""
    runs = MODELS[wildcards.model].upstream
    if not runs:
        return {}
    files = rules.embed.output.embedding
    return {"embeddings": expand(files, model=runs, seed=wildcards.seed, slide=SLIDES)}


def built_on_options(wildcards, input):
    return " ".join(
        f"--embedding {shlex.quote(path)}" for path in input.get("embeddings", [])
    )


def begun_with(wildcards):
    """Config and weights of the trained run that a predictor begins with, where it names one."""
    if CONFIG.models[wildcards.model].model != "niche":
        return {}
    run = {"model": MODELS[wildcards.model].params.start, "seed": wildcards.seed}
    files = {"start": rules.train.output.config, "weights": rules.train.output.weights}
    return {name: expand(path, **run) for name, path in files.items()}


def begun_with_option(wildcards, input):
    return "".join(f"--start {shlex.quote(path)}" for path in input.get("start", []))


def task_label(wildcards):
    return TASKS[wildcards.task].params.label


def task_section(wildcards):
    return json.dumps(CONFIG.tasks[wildcards.task].params, sort_keys=True)


def task_code(stage):
    return lambda wildcards: code_digest(stage, *TASKS[wildcards.task].modules)


def trained_files(part):
    """Config and weights of the autoencoder or condition that a wildcard, or a generator's settings, name."""

    def ask(wildcards):
        named = getattr(wildcards, part, None)
        name = named or getattr(MODELS[wildcards.model].params, part)
        files = (rules.train.output.config, rules.train.output.weights)
        return expand(files, model=name, seed=wildcards.seed)

    return ask


def encoding_code(wildcards):
    modules = [
        MODELS[name].modules for name in (wildcards.autoencoder, wildcards.condition)
    ]
    return code_digest("encode_cells", *modules[0], *modules[1])


def encoded(wildcards):
    """Latents and conditions of every slide, as a generator reads them."""
    params = MODELS[wildcards.model].params
    named = {"autoencoder": params.autoencoder, "condition": params.condition}
    slides = getattr(wildcards, "slide", SLIDES)
    files = rules.encode_cells.output.latents
    return expand(files, **named, seed=wildcards.seed, slide=slides)


def paired(wildcards):
    """Pairs of cells of every slide, for a flow from cell to cell."""
    if wildcards.model not in FLOWS:
        return []
    return expand(rules.pair_cells.output.pairs, slide=SLIDES, **wildcards)


def tested_cells(wildcards):
    return TASKS["generation"].params.n_cells


def holes(wildcards):
    """Which squares the task hides, and the models fill."""
    return json.dumps(TASKS["unseen_generation"].params.holes.model_dump(mode="json"))


def perturbation(wildcards):
    """Which circles are changed, and how."""
    params = TASKS["perturbation"].params
    return json.dumps(params.perturbation.model_dump(mode="json"))


def judged(wildcards):
    """What a score is made from: embeddings of every slide, predictions, images or cells, and the task's own folds."""
    found = {}
    judges = TASKS[wildcards.task].judges
    if wildcards.model in EMBEDDERS and "embedding" in judges:
        found["embeddings"] = expand(
            rules.embed.output.embedding, slide=SLIDES, **wildcards
        )
    if wildcards.model in PREDICTORS:
        found["predictions"] = expand(rules.predict.output.predictions, **wildcards)
    if wildcards.model in GENERATORS:
        found["pictures"] = expand(rules.generate.output.pictures, **wildcards)
    if wildcards.model in FILLERS and "cells" in judges:
        if wildcards.task == "perturbation":
            found["perturbed"] = expand(rules.perturb.output.perturbed, **wildcards)
        else:
            found["filled"] = expand(rules.generate_cells.output.filled, **wildcards)
    if TASKS[wildcards.task].has_folds:
        found["folds"] = expand(rules.assign_folds.output.folds, **wildcards)
    return found


def judged_options(wildcards, input):
    """The same as options."""
    options = {
        "embeddings": "--embedding",
        "predictions": "--predictions",
        "pictures": "--pictures",
        "filled": "--filled",
        "perturbed": "--perturbed",
        "folds": "--folds",
    }
    words = [
        f"{option} {shlex.quote(path)}"
        for name, option in options.items()
        for path in input.get(name, [])
    ]
    return " ".join(words)


def scores_of(task, protocol):
    """The rows of one table: every model with every seed, and the controls once."""
    folder = f"results/evaluation/{task}/{protocol}"
    names = [
        f"{model}.seed-{seed}"
        for model in TASKS[task].judged(protocol)
        for seed in CONFIG.seeds
    ]
    return [
        f"{folder}/{name}.json" for name in [*names, f"controls.seed-{CONFIG.seed}"]
    ]


def rows_of_table(wildcards):
    return scores_of(wildcards.task, wildcards.protocol)


def answers_of_table(wildcards):
    """What the rows say of each cell, where the task has an ablation."""
    if CONFIG.tasks[wildcards.task].ablation is None:
        return []
    return [path.replace(".json", ".parquet") for path in rows_of_table(wildcards)]


def ablation_section(wildcards):
    ablation = CONFIG.tasks[wildcards.task].ablation
    return json.dumps(ablation and ablation.model_dump(mode="json"))


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
    """Memory of a job: from the slide's announced size (the cohort's for cohort stages), times the attempt."""

    def ask(wildcards, attempt):
        slides = (
            [SLIDE[wildcards.slide]]
            if "slide" in wildcards.keys()
            else list(SLIDE.values())
        )
        return memory_mb(stage, slides, attempt)

    return ask
