# Which files of slides, models and tasks a rule reads, with which options it is given them, and with which settings.


def is_on_disk(slide):
    """Whether there is anything in the bundle's folder."""
    return any(Path(slide.bundle).glob("*"))


def fetched(wildcards):
    """What was fetched, or is to be. A bundle on disk is used as it is; one that is gone after its check is not missed."""
    slide = SLIDE[wildcards.slide]
    folder = f"results/slides/{slide.slide}"
    receipt = f"{folder}/fetched.json"
    is_missing = not (is_on_disk(slide) or Path(folder, "bundle.json").exists())
    is_asked_for = CONFIG.fetch.enabled and slide.url and is_missing
    return receipt if is_asked_for or Path(receipt).exists() else []


def is_to_fetch(slide):
    """Whether a bundle can be fetched, and is not there with its receipt."""
    receipt = Path(f"results/slides/{slide.slide}/fetched.json")
    return slide.url and not (receipt.exists() and is_on_disk(slide))


def how_to_fetch(wildcards):
    return json.dumps(CONFIG.fetch.model_dump(mode="json", exclude={"enabled"}))


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


def single_cells(wildcards):
    """The reference that genes are imputed from, as the user gave it."""
    return CONFIG.imputation.reference or []


def single_cell_values(wildcards):
    return CONFIG.imputation.values


def division(wildcards):
    """How genes are divided into folds, whatever else the task asks for."""
    asked = GENES_TASK.model_dump(mode="json", include=set(Division.model_fields))
    return json.dumps(asked, sort_keys=True)


def judged_cells(wildcards):
    return GENES_TASK.max_cells


def added(wildcards):
    """Which genes that no panel measures are added."""
    asked = CONFIG.imputation.model_dump(mode="json", include={"n_genes", "genes"})
    return json.dumps(asked, sort_keys=True)


def fewest_shared(wildcards):
    return f"--min-shared {GENES_TASK.min_shared}" if GENES_TASK else ""


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
    if "genes" in judges:
        found["reference"] = [rules.read_reference.output.counts]
        found["genes"] = expand(rules.fold_genes.output.genes, **wildcards)
        if wildcards.model in IMPUTERS:
            found["imputed"] = expand(rules.impute_folds.output.imputed, **wildcards)
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
        "imputed": "--imputed",
        "reference": "--reference",
        "genes": "--genes",
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
