"""Embedding a slide: first every cell by itself, then niches, then regions, then all of it together.

Between the passes the vectors lie in files, so that what is in memory does not grow with the slide but for some bytes
a cell. Cells go through the encoders in groups of a fixed number in the order of the source, and niches in groups
that their order gives: how many records are read at once changes no bit, and another order of the cells only what
rounding does.

`N` cells of the slide, `T` niches, `B` cells of a group, `D` width.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistline.core.errors import InputError
from mistline.core.files import writing
from mistline.core.seeds import derive
from mistline.models.contract import Batch, Block, Context, Needs, Source
from mistline.models.spatia.context import Layout
from mistline.models.spatia.inputs import Records, grid_place, records, tile_codes
from mistline.models.spatia.network import Network
from mistline.models.spatia.params import Params
from mistline.models.spatia.rows import Rows

_GROUP = 64  # cells that the encoders are given at once
_MOST_CELLS, _MOST_NICHES = 256, 16  # of a group of niches
_ROWS = 4096  # of the last pass
_PARTS = {"z_c": "z", "z_img": "z_image", "z_gene": "z_genes"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a slide is read.

    Args:
        params: settings.
        place: int64 [G] of the slide's genes in the model's vocabulary; None where they are the same.
        context: device, seed and folder.
    """

    params: Params
    place: Tensor | None
    context: Context

    def needs(self, **values: Any) -> Needs:
        """Return what is read of cells: whole groups at a time."""
        size = -(-self.params.batch_size // _GROUP) * _GROUP
        return Needs(**{"batch_size": size, **values})

    def cells(self) -> Needs:
        """Return what the first pass reads."""
        image = self.params.image_size if self.params.embeds("image") else None
        return self.needs(image_size=image, genes="sparse" if self.params.embeds("genes") else None)


def embed(net: Network, slide: Source, reading: Reading) -> Iterator[Block]:
    """Yield every cell of a slide, in the order of the source; `z` with the parts it is made of.

    Raises:
        InputError: a cell lies in no niche of the slide.
    """
    net.eval()
    with one_thread_each(reading.context) as each:
        groups = encoded(net, slide, reading, each)
        if net.around is None:
            for ids, found, _ in groups:
                yield Block(ids, found["z_c"], found)
            return
        pass_over = Passes(net, slide, reading, each)
        try:
            pass_over.cells(groups)
            pass_over.niches()
            if net.around.tissue is not None:
                pass_over.regions()
            yield from pass_over.joined()
        finally:
            pass_over.close()


@contextmanager
def one_thread_each(context: Context) -> Iterator[Each]:
    """Give a `map` of as many threads as the context has, on a CPU.

    Each computes a group by itself, with one thread inside torch: so many threads inside would round differently.
    """
    if context.device != "cpu":
        yield map
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if context.threads == 1:
            yield map
            return
        with ThreadPoolExecutor(context.threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(before)


Each = Callable[..., Iterator[Any]]
Encoded = tuple[Sequence[str], dict[str, NDArray[np.float32]], Batch]


def encoded(net: Network, slide: Source, reading: Reading, each: Each = map) -> Iterator[Encoded]:
    """Yield ids, z^c with its parts, and the batch they are of, a batch at a time."""
    params, device = reading.params, reading.context.device
    use = params.embeds("image"), params.embeds("genes")

    def group(batch: Batch, genes: Batch, rows: slice) -> dict[str, NDArray[np.float32]]:
        panel = torch.zeros(len(batch.side_um), dtype=torch.int64)
        cells = records(batch, panel, reading.place, rows)
        if genes is not batch:
            cells = replace(cells, genes=records(genes, panel, reading.place, rows).genes)
        with torch.inference_mode():
            found = net.encode(cells.to(device), *use)
        return {name: _numpy(getattr(found, attribute)) for name, attribute in _PARTS.items()}

    for batch, genes in _pairs(slide, reading):
        n = len(batch.record_id)
        rows = [slice(low, min(low + _GROUP, n)) for low in range(0, n, _GROUP)]
        parts = list(each(group, repeat(batch), repeat(genes), rows))
        yield batch.record_id, {name: np.concatenate([part[name] for part in parts]) for name in _PARTS}, batch


def _pairs(slide: Source, reading: Reading) -> Iterator[tuple[Batch, Batch]]:
    """Yield batches of cells, and the batches their genes are of: the same ones, or for a control others."""
    needs = reading.cells()
    if reading.params.pairs == "true":
        for batch in slide.batches(needs):
            yield batch, batch
        return
    seed = derive(reading.context.seed, "spatia", "pairs")
    needs = replace(needs, batch_size=_GROUP)
    genes_only = replace(needs, image_size=None)

    def others() -> Iterator[Batch]:
        # A shuffled epoch may leave out what fills no batch: then its beginning comes once more.
        yield from chain.from_iterable(slide.batches(genes_only, shuffle=seed) for _ in repeat(None))

    if slide.count() < _GROUP:
        what = f"it has {slide.count()} cells, and pairs are shuffled among at least {_GROUP}"
        raise InputError("the slide", what, "leave the control out")
    for batch, other in zip(slide.batches(replace(needs, genes=None)), others(), strict=False):
        yield batch, other


class Passes:
    """What lies around the cells of one slide.

    Args:
        net: the network.
        slide: the slide.
        reading: how it is read.
        each: computes groups, see `one_thread_each`.
    """

    def __init__(self, net: Network, slide: Source, reading: Reading, each: Each = map) -> None:
        self._net, self._slide, self._reading, self._each = net, slide, reading, each
        self._device = reading.context.device
        self._folder: Path | None = None
        self._n = slide.count()
        self._code = {scale: np.empty(self._n, dtype=np.int64) for scale in self._scales()}
        self._xy_um = np.empty((self._n, 2), dtype=np.float32)
        self._on_disk: dict[str, Rows] = {}
        self._order = np.empty(0, dtype=np.int64)
        self._sorted = np.empty(0, dtype=np.int64)
        self._niche_code = np.empty(0, dtype=np.int64)
        self._niche_region = np.empty(0, dtype=np.int64)
        self._niche_place = np.empty((0, 2), dtype=np.float32)

    def close(self) -> None:
        """Remove the files."""
        self._on_disk.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # another slide's files are beside it
                self._folder.parent.rmdir()

    def cells(self, groups: Iterator[Encoded]) -> None:
        """Write z^c of all cells, and note where they lie."""
        row = 0
        for ids, found, batch in groups:
            if self._folder is None:
                self._folder = self._reading.context.resume / f"spatia-{batch.slide[0]}"
                with writing(self._folder):
                    while not self._folder.is_dir():
                        with suppress(FileNotFoundError):  # another slide's job has just removed what it lies in
                            self._folder.mkdir(parents=True, exist_ok=True)
                for name in (*_PARTS, "z_n", *(["z_t"] if self._net.around.tissue is not None else [])):
                    self._on_disk[name] = self._file(name, self._n)
            here = slice(row, row + len(ids))
            for name, values in found.items():
                self._on_disk[name][here] = values
            for scale, code in self._code.items():
                code[here] = tile_codes(batch.tiles[scale])
            self._xy_um[here] = np.asarray(batch.xy_um)
            row += len(ids)
        niche = self._code[self._reading.params.niche]
        self._order = np.lexsort((self._xy_um[:, 1], self._xy_um[:, 0], niche))
        self._sorted = niche[self._order]
        self._niche_code = np.unique(niche)

    def niches(self) -> None:
        """Write z^n of each cell without itself, and of whole niches."""
        params, n_niches = self._reading.params, len(self._niche_code)
        self._on_disk["whole"] = self._file("whole", n_niches)
        self._niche_region = np.zeros(n_niches, dtype=np.int64)
        self._niche_place = np.zeros((n_niches, 2), dtype=np.float32)
        places = self._region_places()
        needs = Needs(params.niche, image_size=params.image_size if params.embeds("image") else None, batch_size=32)
        done = 0
        for tiles in self._slide.batches(needs):
            number, cells = self._cells_of(tiles)
            region = self._regions_of(number, cells)
            if places is not None:
                xy_um, side_um = (torch.from_numpy(values[region]) for values in places)
                self._niche_region[number] = region
                self._niche_place[number] = grid_place(tiles, xy_um, side_um).numpy()
            portions = [slice(*ends) for ends in _portions([len(own) for own in cells])]
            for _ in self._each(partial(self._some_niches, tiles, number, cells), portions):
                pass
            done += sum(map(len, cells))
        if done != self._n:
            what = f"{self._n - done} of its cells lie in no {params.niche} tile"
            raise InputError("the slide", what, "run cut-tiles and seal-dataset again")

    def regions(self) -> None:
        """Write z^t of each cell without itself."""
        starts = np.searchsorted(self._sorted, self._niche_code)
        ends = np.append(starts[1:], self._n)
        for region in np.unique(self._niche_region):
            number = np.flatnonzero(self._niche_region == region)
            whole = self._read("whole", number)
            place = torch.from_numpy(self._niche_place[number])
            n_cells = ends[number] - starts[number]
            cells = np.concatenate([self._order[starts[i] : ends[i]] for i in number])
            niche = np.repeat(np.arange(len(number)), n_cells)
            zeros = torch.zeros(len(number), dtype=torch.int64)
            layouts = [Layout(torch.from_numpy(own), torch.zeros(0), zeros, place, zeros > 0) for own in _cut(niche)]
            for _ in self._each(self._some_cells, _cut(cells), layouts, repeat(whole)):
                pass

    def _some_cells(self, cells: NDArray[np.int64], layout: Layout, whole: Tensor) -> None:
        """Write z^t of some cells of a region."""
        with torch.inference_mode():
            found = self._net.around.regions(self._read("z_n", cells), whole, self._on_device(layout))
        self._on_disk["z_t"][cells] = _numpy(found)

    def joined(self) -> Iterator[Block]:
        """Yield the cells with all they are made of."""
        names = [*_PARTS, *(name for name in ("z_n", "z_t") if name in self._on_disk)]
        row = 0
        for batch in self._slide.batches(Needs(batch_size=_ROWS)):
            found = {name: self._on_disk[name][row : row + len(batch.record_id)] for name in names}
            with torch.inference_mode():
                cell, *around = (torch.from_numpy(found[name]).to(self._device) for name in names if name[2:] in "cnt")
                z = _numpy(self._net.join(cell, around))
            row += len(batch.record_id)
            yield Block(batch.record_id, z, found)

    def _scales(self) -> list[str]:
        params = self._reading.params
        return [params.niche, *([params.tissue] if "tissue" in params.levels else [])]

    def _file(self, name: str, rows: int) -> Rows:
        if self._folder is None:
            raise InputError("the slide", "it has no cells", "leave it out")
        return Rows(self._folder / name, rows, self._reading.params.width)

    def _read(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._on_disk[name][rows]).to(self._device)

    def _cells_of(self, tiles: Batch) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """Return the numbers of niches, and the cells of each, sorted by place."""
        code = tile_codes(tiles.record_id)
        number = np.searchsorted(self._niche_code, code).clip(max=len(self._niche_code) - 1)
        if not np.array_equal(self._niche_code[number], code):
            raise InputError("the slide", "a niche holds none of its cells", "run cut-tiles and seal-dataset again")
        low, high = np.searchsorted(self._sorted, code), np.searchsorted(self._sorted, code, side="right")
        return number, [self._order[first:last] for first, last in zip(low, high, strict=True)]

    def _regions_of(self, number: NDArray[np.int64], cells: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return [t] the region of each niche, as numbers of the rows of `_region_places`."""
        if "tissue" not in self._reading.params.levels:
            return np.zeros(len(number), dtype=np.int64)
        code = self._code[self._reading.params.tissue]
        return np.searchsorted(self._region_codes, [code[own].max() for own in cells])

    def _region_places(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return [R, 2] centres and [R] sides of the regions, in the order of their codes."""
        params = self._reading.params
        if "tissue" not in params.levels:
            return None
        codes, xy_um, side_um = [], [], []
        for tiles in self._slide.batches(Needs(params.tissue, batch_size=1024)):
            codes.append(tile_codes(tiles.record_id))
            xy_um.append(np.asarray(tiles.xy_um))
            side_um.append(np.asarray(tiles.side_um))
        order = np.argsort(np.concatenate(codes))
        self._region_codes = np.concatenate(codes)[order]
        return np.concatenate(xy_um)[order], np.concatenate(side_um)[order]

    def _some_niches(
        self, tiles: Batch, number: NDArray[np.int64], cells: list[NDArray[np.int64]], rows: slice
    ) -> None:
        """Write z^n of some niches of a batch of tiles."""
        number, cells = number[rows], cells[rows]
        joined = np.concatenate(cells)
        niche = torch.from_numpy(np.repeat(np.arange(len(cells)), [len(own) for own in cells]))
        offset = torch.from_numpy(self._xy_um[joined]) - tiles.xy_um[rows][niche]
        zeros = torch.zeros(len(cells), dtype=torch.int64)
        shown = self._net.image is not None and tiles.image is not None
        layout = Layout(niche, offset, zeros, torch.zeros(len(cells), 2), torch.full((len(cells),), shown))
        with torch.inference_mode():
            image = None
            if shown:
                given = Records(tiles.side_um[rows], tiles.image[rows], None).to(self._device)
                image = self._net.image(given.image, given.side_um, "niche")
            own, whole = self._net.around.niches(self._read("z_c", joined), self._on_device(layout), image)
        self._on_disk["z_n"][joined] = _numpy(own)
        self._on_disk["whole"][number] = _numpy(whole)

    def _on_device(self, layout: Layout) -> Layout:
        return Layout(**{item.name: getattr(layout, item.name).to(self._device) for item in fields(Layout)})


def _cut(values: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [values[low : low + _MOST_CELLS] for low in range(0, len(values), _MOST_CELLS)]


def _portions(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (low, high) of portions of at most so many niches and, where one niche has not more, cells."""
    low, held = 0, 0
    for at, size in enumerate(sizes):
        if at > low and (held + size > _MOST_CELLS or at - low >= _MOST_NICHES):
            yield low, at
            low, held = at, 0
        held += size
    if sizes:
        yield low, len(sizes)


def _numpy(values: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.float().cpu().numpy()
    return found
