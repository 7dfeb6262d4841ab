"""What was generated around changed circles, ring by ring, beside the same rings from the circles as measured.

`n` cells of all rings, `T` generated genes, `E` genes of which an answer is expected.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.store.perturbed import CONTROL, ELSEWHERE, PERTURBED, RANDOM_GENES, Perturbed
from mistline.tasks.perturbation import Params

Key = tuple[str, float]  # variant and width
Table = NDArray[np.float32]
_REMEDY = "run perturb again, with the settings of the task"


@dataclass(frozen=True, slots=True)
class Problem:
    """The rings of one model.

    Args:
        params: of the task.
        rings: [n] which of `names` a cell is of.
        names: of the rings, slide and number.
        rim_um: [n] distance from the circle's rim.
        control: [n, T] generated from circles as measured, log-normalised.
        found: variant and width -> [n, T], of the same cells.
        expected: [E] names, as the settings give them.
        columns: [E] where they are among the T genes.
        genes: [T] ids.
        symbols: [T].
    """

    params: Params
    rings: NDArray[np.int64]
    names: tuple[str, ...]
    rim_um: NDArray[np.float64]
    control: Table
    found: Mapping[Key, Table]
    expected: tuple[str, ...]
    columns: NDArray[np.int64]
    genes: tuple[str, ...]
    symbols: tuple[str, ...]

    @property
    def near(self) -> NDArray[np.bool_]:
        """Return [n] whether a cell is near enough to be judged."""
        return self.rim_um <= self.params.near_um

    @property
    def own(self) -> Key:
        """Return the variant and width that the model is judged by."""
        return (PERTURBED, self.params.perturbation.sigma)

    @property
    def rivals(self) -> dict[str, Key]:
        """Return row -> variant and width of the controls that depend on the model."""
        sigma = self.params.perturbation.sigma
        return {name: (name, sigma) for name in (RANDOM_GENES, ELSEWHERE)}


def prepare(perturbed: Perturbed, params: Params) -> Problem:
    """Put the rings of each change beside the unchanged ones.

    Raises:
        ConfigError: an expected gene is unknown, or named twice.
        InputError: they were generated under other settings, a ring lacks cells in some variant, or no cell is near.
    """
    if perturbed.about.get("settings") != params.perturbation.model_dump(mode="json"):
        raise InputError("perturbed cells", "they were generated under other settings", _REMEDY)
    names = np.array([f"{slide}/{roi}" for slide, roi in zip(perturbed.slide, perturbed.roi, strict=True)])
    rows = {
        key: _rows(perturbed, names, key)
        for key in [(CONTROL, 0.0), *((PERTURBED, sigma) for sigma in params.perturbation.sigmas)]
        + [(name, params.perturbation.sigma) for name in (RANDOM_GENES, ELSEWHERE)]
    }
    first = rows.pop((CONTROL, 0.0))
    for (variant, sigma), own in rows.items():
        same = len(own) == len(first) and bool(
            (perturbed.cell_id[own] == perturbed.cell_id[first]).all() and (names[own] == names[first]).all()
        )
        if not same or not len(first):
            raise InputError("perturbed cells", f"the rings of {variant} {sigma:g} and control differ", _REMEDY)
    rim = perturbed.distance_um[first].astype(np.float64) - params.perturbation.radius_um
    if not (rim <= params.near_um).any():
        what = f"no generated cell is within {params.near_um:g} um of a circle's rim"
        raise InputError("perturbation.near_um", what, "raise it")
    found, of_ring = np.unique(names[first], return_inverse=True)
    return Problem(
        params,
        of_ring.astype(np.int64),
        tuple(found.tolist()),
        rim,
        perturbed.told[first] @ perturbed.expression,
        {key: perturbed.told[own] @ perturbed.expression for key, own in rows.items()},
        tuple(params.expected),
        columns_of(tuple(params.expected), perturbed.genes, perturbed.symbols),
        perturbed.genes,
        perturbed.symbols,
    )


def _rows(perturbed: Perturbed, names: NDArray[np.str_], key: Key) -> NDArray[np.int64]:
    own = np.flatnonzero((perturbed.variant == key[0]) & np.isclose(perturbed.sigma, key[1]))
    return own[np.lexsort((perturbed.cell_id[own], names[own]))]


def columns_of(names: Sequence[str], genes: Sequence[str], symbols: Sequence[str]) -> NDArray[np.int64]:
    """Return where genes are among those generated.

    Args:
        names: ids or symbols, in any case.
        genes: [T] ids.
        symbols: [T].

    Raises:
        ConfigError: one is unknown (names the nearest), or two are the same gene.
    """
    place: dict[str, int] = {}
    for known in (genes, symbols):
        for column, name in enumerate(known):
            place.setdefault(name.lower(), column)
    where, found = "tasks.perturbation.params.expected", []
    for name in names:
        column = place.get(name.lower())
        if column is None:
            near = difflib.get_close_matches(name.lower(), list(place), n=1, cutoff=0)
            remedy = f"leave it out, or did you mean {symbols[place[near[0]]]}" if near else "leave it out"
            raise ConfigError(where, f"gene {name!r} is not generated", remedy)
        if column in found:
            raise ConfigError(where, f"gene {name!r} is named twice", "name it once")
        found.append(column)
    return np.array(found, dtype=np.int64)


def read_reference(params: Params, genes: Sequence[str], symbols: Sequence[str]) -> tuple[NDArray[np.int64], Table]:
    """Return the columns of genes that a given profile shares, and its values of them.

    Raises:
        InputError: the file is missing, another one, no such table, or shares fewer than three genes.
    """
    path = Path(str(params.reference))
    remedy = "give a csv with the columns gene and value"
    try:
        digest = hash_file(path)
        with path.open(encoding="utf-8", newline="") as stream:
            given = {row["gene"].lower(): float(row["value"]) for row in csv.DictReader(stream)}
    except FileNotFoundError:
        raise InputError(path, "no such file", remedy) from None
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(path, f"not a profile ({type(error).__name__}: {error})", remedy) from None
    if digest != params.reference_sha256:
        raise InputError(path, f"its sha256 is {digest}", "give the file that reference_sha256 is of, or correct it")
    known = [given.get(gene.lower(), given.get(symbol.lower())) for gene, symbol in zip(genes, symbols, strict=True)]
    shared = np.array([column for column, value in enumerate(known) if value is not None], dtype=np.int64)
    values = np.array([known[column] for column in shared.tolist()], dtype=np.float32)
    if len(shared) < 3 or not np.isfinite(values).all():
        raise InputError(path, f"{len(shared)} of the generated genes have a value there", remedy)
    return shared, values
