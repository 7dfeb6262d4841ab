"""The gene panel: its name, and the Ensembl ids of its symbols."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mistline.core.errors import InputError
from mistline.core.files import parse_json

_NOTHING = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
_ENSEMBL = re.compile(r"ENS[A-Z]{0,8}G\d{6,}(\.\d+)?")


@dataclass(frozen=True)
class Panel:
    """What `gene_panel.json` says.

    Args:
        name: the panel's name ("" when absent).
        ensembl_of: symbol -> Ensembl gene id, of the targets that have one.
    """

    name: str = ""
    ensembl_of: dict[str, str] = field(default_factory=dict)


def read_panel(path: Path) -> Panel:
    """Read `gene_panel.json`.

    Raises:
        InputError: the file is missing, is not JSON or lists no targets.
    """
    try:
        values = parse_json(path, "truncated or not JSON", "copy it again from the run's output bundle")
        payload = values["payload"]
        genes = [target["type"]["data"] for target in payload["targets"] if target["type"]["descriptor"] == "gene"]
        ensembl_of = {str(gene["name"]): str(gene["id"]) for gene in genes if is_ensembl(str(gene.get("id", "")))}
    except FileNotFoundError:
        raise InputError(path, "no such file", "copy it from the run's output bundle") from None
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            path,
            "holds no payload.targets with type.descriptor and type.data.name",
            "restore the file as the instrument wrote it, or remove it: it only adds Ensembl ids",
        ) from None
    return Panel(name=_name(payload), ensembl_of=ensembl_of)


def is_ensembl(gene_id: str) -> bool:
    """Tell whether an id is an Ensembl gene id, of any species."""
    return _ENSEMBL.fullmatch(gene_id) is not None


def is_missing(gene_id: str) -> bool:
    """Tell whether an id is empty, or one of the words that tables write for nothing."""
    return gene_id.strip().casefold() in _NOTHING


def gene_ids(stored: Sequence[str], symbols: Sequence[str], panel: Panel | None) -> list[str]:
    """Return each gene's id: the stored Ensembl id, else the panel's Ensembl id of its symbol, else what is stored.

    What is stored without being an Ensembl id is a custom target, or the symbol where a matrix knows no ids at all;
    a matrix that leaves all its ids empty knows none either.
    """
    known = panel.ensembl_of if panel else {}
    if all(map(is_missing, stored)):
        stored = symbols
    return [gene if is_ensembl(gene) else known.get(symbol, gene) for gene, symbol in zip(stored, symbols, strict=True)]


def kind_of_ids(ids: Sequence[str]) -> str:
    """Return "ensembl" when most ids are Ensembl ids (custom targets have none), else "symbol"."""
    return "ensembl" if 2 * sum(map(is_ensembl, ids)) > len(ids) else "symbol"


def _name(payload: dict[str, Any]) -> str:
    panel = payload.get("panel")
    identity = panel.get("identity") if isinstance(panel, dict) else None
    return str(identity.get("name") or "") if isinstance(identity, dict) else ""
