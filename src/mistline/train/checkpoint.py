"""A trained model on disk: config.json, weights.safetensors, genes.txt, metrics.jsonl, card.md; no pickle."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mistline.config.base import validate
from mistline.core.errors import InputError
from mistline.core.files import atomic_path, read_json, write_json, write_text
from mistline.core.hashing import hash_file
from mistline.models.contract import Embedder
from mistline.train.run import Trained, model_class
from mistline.workflow.registry import find

WEIGHTS, GENES = "weights.safetensors", "genes.txt"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a trained model is written; `load` expects weights and genes beside the config under their usual names."""

    config: Path
    weights: Path
    genes: Path
    metrics: Path
    card: Path


@dataclass(frozen=True, slots=True)
class Identity:
    """What a trained model is.

    Args:
        name: of the run, as in the tables.
        registry_name: of the model in the registry.
        params: its settings, all of them.
        seed: of the training.
        dataset_version: hash of the manifest it was trained on.
    """

    name: str
    registry_name: str
    params: Mapping[str, Any]
    seed: int
    dataset_version: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model read back."""

    identity: Identity
    model: Embedder
    weights_sha256: str


def save(files: ModelFiles, identity: Identity, trained: Trained, train_summary: Mapping[str, Any]) -> None:
    """Write the five files, the config last: it names the hashes of the others.

    Args:
        files: where.
        identity: what the model is.
        trained: the model and its metrics.
        train_summary: facts for the card, such as slides and numbers of cells.
    """
    arrays = trained.model.arrays()
    with atomic_path(files.weights) as part:
        save_file(arrays, part)
    write_text(files.genes, "".join(f"{gene}\n" for gene in trained.model.genes))
    write_text(files.metrics, "".join(json.dumps(dict(row), sort_keys=True) + "\n" for row in trained.metrics))
    n_weights = sum(int(array.size) for array in arrays.values())
    about = trained.model.describe() if hasattr(trained.model, "describe") else {}
    numbers = {"numbers in its weights": n_weights, "seed": identity.seed}
    write_text(files.card, _card(identity, {**about, **numbers}, trained.metrics, train_summary))
    hashes = {"weights_sha256": hash_file(files.weights), "genes_sha256": hash_file(files.genes)}
    write_json(files.config, {**asdict(identity), **hashes, "n_weights": n_weights})


def load(config: Path) -> Checkpoint:
    """Read a trained model.

    Raises:
        InputError: a file is missing, damaged, or not the one the config was written with.
    """
    values = read_json(config)
    weights, genes = config.parent / WEIGHTS, config.parent / GENES
    try:
        identity = Identity(**{field: values[field] for field in Identity.__dataclass_fields__})
        expected = {weights: values["weights_sha256"], genes: values["genes_sha256"]}
        if not isinstance(identity.params, Mapping) or not isinstance(identity.name, str):
            raise TypeError("no settings, or no name")
    except (KeyError, TypeError):
        raise InputError(config, "not the config of a trained model", "run train again") from None
    for path, sha256 in expected.items():
        if not path.is_file():
            raise InputError(path, "no such file", "run train again")
        if hash_file(path) != sha256:
            raise InputError(path, f"not the file that {config.name} was written with", "run train again")
    package = find("models", identity.registry_name, str(config))
    section = importlib.import_module(f"{package}.params").Params
    params = validate(section, identity.params, f"{config}: params")
    try:
        arrays = load_file(weights)
    except SafetensorError as error:
        raise InputError(weights, f"not a readable safetensors file ({error})", "run train again") from None
    names = tuple(genes.read_text(encoding="utf-8").splitlines())
    return Checkpoint(identity, model_class(package).restore(params, arrays, names), expected[weights])


def _card(
    identity: Identity,
    about: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    train_summary: Mapping[str, Any],
) -> str:
    last = metrics[-1] if metrics else {}
    parts = {
        "Model": {"name": identity.name, "registered as": identity.registry_name, **about},
        "Trained on": {"dataset version": identity.dataset_version, **train_summary},
        "Settings": identity.params,
        "Last metrics": last,
    }
    lines = [f"# {identity.name}\n"]
    for title, rows in parts.items():
        lines.append(f"\n## {title}\n\n")
        lines.extend(f"- {key}: {_shown(value)}\n" for key, value in rows.items())
    lines.append("\nFor research on the tissue it was trained on; not for diagnosis.\n")
    return "".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
