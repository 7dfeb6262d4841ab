"""Dividing the cohort: whole donors, contiguous blocks of tiles with a gap between them, or cells at random.

Decided once, written to files, checked on what was decided and not on how. A donor's tissue never lies on
two sides of a split by donor; in a split by place, test cells keep more than one largest tile of distance
from every other kept cell, so that no tile of any scale holds cells of two sides.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from mistline.config.splits import Splits
from mistline.core.errors import ConfigError, InputError
from mistline.core.seeds import derive, generator

SPLITS = ("train", "val", "test", "gap")  # positions are the codes used in arrays
TRAIN, VAL, TEST, GAP = range(4)
_LAYOUTS_TRIED = 24  # seeded pairs of starting blocks; the one nearest to the asked shares is kept
_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_RING = 6  # neighbours of a spot on a hexagonal array
_RINGS_A_TILE = 3.0  # a gap of one tile is wider than what two steps to a sixth neighbour can reach


@dataclass(frozen=True, slots=True)
class Area:
    """What one slide's division is.

    Attributes:
        codes: [n] positions in `SPLITS`, one a cell.
        reason: why the slide is not divided; None when it is.
    """

    codes: NDArray[np.int8]
    reason: str | None = None


def check_donors(donors: Sequence[str]) -> None:
    """Refuse two spellings of what looks like one donor.

    Raises:
        ConfigError: two names differ only in case, spaces or Unicode form.
    """
    spellings: dict[str, str] = {}
    for donor in donors:
        plain = "".join(unicodedata.normalize("NFKC", donor).casefold().split())
        if spellings.setdefault(plain, donor) != donor:
            raise ConfigError(
                "slides: donor",
                f"{spellings[plain]!r} and {donor!r} look like one donor written in two ways",
                "write one donor with one name everywhere, or give two donors names that differ in more",
            )


def choose_scheme(settings: Splits, donors: Sequence[str], has_coordinates: bool = True) -> str:
    """Return `donor`, `spatial`, or `random` where slides without coordinates leave nothing better.

    Args:
        settings: the section splits.
        donors: of each slide.
        has_coordinates: whether every slide has them.

    Raises:
        ConfigError: a split by donor is demanded of too few donors, or one by place of cells without coordinates.
    """
    n = len(set(donors))
    if settings.scheme == "auto":
        by_cell = "spatial" if has_coordinates else "random"
        return "donor" if n >= settings.min_donors else by_cell
    if settings.scheme == "spatial" and not has_coordinates:
        what = "a split by place needs coordinates, and a slide of this run has none"
        raise ConfigError("splits.scheme", what, "set scheme: auto")
    needed = 3 if settings.val_share > 0 else 2
    if settings.scheme == "donor" and n < needed:
        raise ConfigError(
            "splits.scheme",
            f"a split by donor needs {needed} donors, the cohort has {n}",
            "add donors or set scheme: spatial",
        )
    return settings.scheme


def split_donors(tissues: Mapping[str, Sequence[str]], settings: Splits, seed: int) -> dict[str, str]:
    """Put each donor wholly on one side, spread over tissues as far as their numbers allow.

    Which donors of a tissue are chosen depends on the hash of (seed, donor) alone; a tissue keeps a training
    donor as long as another tissue can give one instead.

    Args:
        tissues: donor -> tissues of its slides.
        settings: shares of donors for validation and test.
        seed: the run's seed.

    Returns:
        donor -> `train`, `val` or `test`, sorted by donor.
    """
    strata: dict[str, list[str]] = defaultdict(list)
    for donor in sorted(tissues, key=lambda name: (derive(seed, "make_splits", name), name)):
        strata["+".join(sorted(set(tissues[donor])))].append(donor)
    total = len(tissues)
    sides = dict.fromkeys(sorted(tissues), "train")
    for side, share in (("test", settings.test_share), ("val", settings.val_share)):
        left = sum(map(len, strata.values()))
        wanted = min(max(1, round(share * total)) if share > 0 else 0, left - 1)
        sizes = {name: len(members) for name, members in strata.items()}
        given: Counter[str] = Counter()
        for _ in range(wanted):
            stratum = max(
                (name for name in sorted(strata) if strata[name]),
                key=lambda name: (
                    len(strata[name]) > 1,
                    sizes[name] * share - given[name],
                    derive(seed, "make_splits", side, name),
                ),
            )
            given[stratum] += 1
            sides[strata[stratum].pop(0)] = side
    return sides


def split_area(tiles: NDArray[np.int64], settings: Splits, seed: int, slide: str) -> Area:
    """Divide one slide into contiguous blocks of its largest tiles, with a gap of tiles between the sides.

    Args:
        tiles: [n, 2] (row, col) of each cell's tile of the largest grid scale.
        settings: shares and block size.
        seed: the run's seed.
        slide: its name; slides are divided independently of each other.
    """
    undivided = np.zeros(len(tiles), dtype=np.int8)
    if not len(tiles):
        return Area(undivided, "it has no cells")
    origin = tiles.min(axis=0) // settings.block_tiles * settings.block_tiles
    local = tiles - origin
    blocks_shape = tuple(int(side) for side in local.max(axis=0) // settings.block_tiles + 1)
    cells = np.zeros([side * settings.block_tiles for side in blocks_shape], dtype=np.int64)
    np.add.at(cells, tuple(local.T), 1)
    best: tuple[float, NDArray[np.int8]] | None = None
    random = generator(seed, "make_splits", "area", slide)
    for _ in range(_LAYOUTS_TRIED):
        grid = _with_gap(_lay_out(cells, blocks_shape, settings, random))
        share = np.bincount(grid.ravel(), weights=cells.ravel(), minlength=len(SPLITS)) / len(tiles)
        if share[TEST] == 0 or share[TRAIN] <= share[TEST]:
            continue
        cost = abs(share[TEST] - settings.test_share) + abs(share[VAL] - settings.val_share) + share[GAP] / 2
        if best is None or cost < best[0] - 1e-12:
            best = (float(cost), grid)
    if best is None:
        height, width = blocks_shape
        side = settings.block_tiles
        why = f"its {height} x {width} blocks of {side} x {side} tiles leave no room for test area and gap"
        return Area(undivided, why)
    return Area(best[1][tuple(local.T)])


def split_random(n: int, settings: Splits, seed: int, slide: str) -> Area:
    """Divide the cells of one slide at random: neighbours and copies may lie on two sides.

    Args:
        n: number of cells.
        settings: shares.
        seed: the run's seed.
        slide: its name; slides are divided independently of each other.
    """
    codes = np.zeros(n, dtype=np.int8)
    wanted = {TEST: settings.test_share, VAL: settings.val_share}
    sizes = {code: max(1, round(share * n)) if share > 0 else 0 for code, share in wanted.items()}
    if sum(sizes.values()) >= n:
        return Area(codes, f"its {n} cells are too few to divide")
    order = generator(seed, "make_splits", "random", slide).permutation(n)
    codes[order[: sizes[TEST]]] = TEST
    codes[order[sizes[TEST] : sum(sizes.values())]] = VAL
    return Area(codes)


def tile_side_um(xy_um: NDArray[np.float64]) -> float:
    """Return the side of a tile for a slide without image: three times the median distance to a sixth neighbour.

    On an array of spots that is three spot distances. 0.0 where cells are too few or all in one place.

    Args:
        xy_um: [n, 2] cell centres.
    """
    if len(xy_um) <= _RING:
        return 0.0
    distance, _ = cKDTree(xy_um).query(xy_um, k=[_RING + 1])
    return _RINGS_A_TILE * float(np.median(distance))


def _lay_out(
    cells: NDArray[np.int64], blocks_shape: tuple[int, ...], settings: Splits, random: np.random.Generator
) -> NDArray[np.int8]:
    """Grow a test and a validation region block by block; returns the codes of all tiles, gap not yet drawn."""
    size = settings.block_tiles
    height, width = blocks_shape
    weight = cells.reshape(height, size, width, size).sum(axis=(1, 3))
    order = random.permutation(height * width).reshape(blocks_shape)
    blocks = np.full(blocks_shape, TRAIN, dtype=np.int8)
    for code, share in ((TEST, settings.test_share), (VAL, settings.val_share)):
        if share > 0:
            _grow(blocks, weight, order, code, share * weight.sum())
    return np.repeat(np.repeat(blocks, size, axis=0), size, axis=1)


def _grow(
    blocks: NDArray[np.int8], weight: NDArray[np.int64], order: NDArray[np.int64], code: int, wanted: float
) -> None:
    """Give free blocks to one side, nearest to its first block first, until its cells are nearest to `wanted`."""
    free = (blocks == TRAIN) & (weight > 0)
    if code == VAL:  # a block that touches the test area would mostly become gap
        free &= ~ndimage.binary_dilation(blocks == TEST, _NEIGHBOURS)
    if not free.any():
        return
    waiting = np.argwhere(free)
    start = waiting[order[free].argmin()]
    away = ((waiting - start) ** 2).sum(axis=1)
    waiting = waiting[np.lexsort((order[free], away))]
    touching = (waiting == start).all(axis=1)
    got = 0
    while touching.any():
        row, col = waiting[touching.argmax()]
        if got and abs(got + weight[row, col] - wanted) >= abs(got - wanted):
            break
        blocks[row, col] = code
        got += int(weight[row, col])
        touching |= np.abs(waiting - (row, col)).max(axis=1) <= 1
        touching &= blocks[tuple(waiting.T)] != code


def _with_gap(grid: NDArray[np.int8]) -> NDArray[np.int8]:
    """Turn training tiles beside validation or test, and validation tiles beside test, into gap."""
    near_test = ndimage.binary_dilation(grid == TEST, _NEIGHBOURS)
    near_val = ndimage.binary_dilation(grid == VAL, _NEIGHBOURS)
    gap = ((grid == VAL) & near_test) | ((grid == TRAIN) & (near_test | near_val))
    return np.where(gap, np.int8(GAP), grid)


def sides_of_donors(donors: Sequence[str], codes: Sequence[NDArray[np.int8]]) -> dict[str, list[str]]:
    """Return donor -> the sides (gap aside) its cells lie on, over all its slides."""
    found: dict[str, set[int]] = defaultdict(set)
    for donor, of_slide in zip(donors, codes, strict=True):
        found[donor].update(int(code) for code in np.unique(of_slide) if code != GAP)
    return {donor: [SPLITS[code] for code in sorted(sides)] for donor, sides in sorted(found.items())}


def check_sides(sides: Mapping[str, Sequence[str]]) -> None:
    """Refuse a split by donor that is none.

    Raises:
        InputError: a donor's cells lie on two sides.
    """
    for donor, on in sides.items():
        if len(on) > 1:
            raise InputError(
                f"splits: donor {donor}",
                f"its cells lie on {len(on)} sides ({', '.join(on)})",
                "remove dataset/splits and run make_splits again",
            )


def shared_tiles(tiles: NDArray[np.int64], codes: NDArray[np.int8]) -> int:
    """Count the tiles that hold cells of more than one of train, val and test.

    Args:
        tiles: [n, 2] (row, col) of each cell's tile, any scale.
        codes: [n] positions in `SPLITS`.
    """
    kept = codes != GAP
    pairs = np.unique(np.column_stack([tiles[kept], codes[kept]]), axis=0)
    _, sides = np.unique(pairs[:, :2], axis=0, return_counts=True)
    return int((sides > 1).sum())


def nearest_um(xy_um: NDArray[np.float64], codes: NDArray[np.int8], one: int, other: int) -> float | None:
    """Return the least distance in micrometres between cells of two sides; None when a side is empty here.

    Args:
        xy_um: [n, 2] cell centres.
        codes: [n] positions in `SPLITS`.
        one: code of the side looked from (the smaller one is cheaper).
        other: code of the side looked for.
    """
    here, there = xy_um[codes == one], xy_um[codes == other]
    if not len(here) or not len(there):
        return None
    distance, _ = cKDTree(there).query(here)
    return float(distance.min())
