"""Cells drawn again as if they had other counts of some genes.

`B` cells, `L` levels of an edit, `G` genes of the dataset's vocabulary, `S` side of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mistline.config.generation import Generation
from mistline.core.errors import ConfigError, InputError
from mistline.core.seeds import derive
from mistline.infer.asked import Asked, Counts, changed, chosen_cells
from mistline.infer.generate import check_protocol, dealt
from mistline.infer.generators import Generator, records
from mistline.infer.genes import gene_place
from mistline.models.contract import Context, Source
from mistline.models.spatia.edited import Cells, encode_again
from mistline.models.spatia.model import Model as Spatia
from mistline.store.latents import Encoded
from mistline.train.source import open_source

KINDS = ("original", "own", "edited", "dealt", "returned", "inverted")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What an edit, or several, drew: a row for each edit, cell and level.

    Args:
        rows: of each, `edit` (its number), `genes` (symbols), `level`, `slide`, `cell_id`, `side_um`, and `counts`, of
            each gene the count that the cell has and the one that was told.
        images: kind -> uint8 [n, C, S, S], as `KINDS`: `original` the cell's stored image; `own` from noise by its
            own counts, `edited` by the changed ones, `dealt` by those told of another row of the edit; `returned` from
            the noise that its image was taken back to, by its own counts, `inverted` by the changed ones.
    """

    rows: list[dict[str, Any]]
    images: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Editor:
    """Draws edits.

    Args:
        generator: with its latents.
        condition: the run that its conditions are of.
        settings: protocol and sampling.
        seed: of the noise and of the draws.
        context: where to compute.
    """

    generator: Generator
    condition: Spatia
    settings: Generation
    seed: int
    context: Context

    def draw(self, asked: Sequence[Asked]) -> Drawn:
        """Draw edits.

        Raises:
            ConfigError: a gene, level, slide or cell is unknown, or the protocol hides a cell's genes.
            InputError: a gene was not measured, or a cell was not encoded.
        """
        check_protocol(self.generator.drawer.model.made_for, self.settings.protocol)
        if self.settings.protocol == "context2img":
            what = "context2img draws a cell from what lies around it, so a change of its own genes changes nothing"
            raise ConfigError("generation.protocol", what, "choose gene2img or recon")
        prepared = [self._prepare(edit) for edit in asked]  # all of them are checked before any is drawn
        parts = [self._drawn(number, *of) for number, of in enumerate(zip(asked, prepared, strict=True))]
        images = {kind: np.concatenate([part.images[kind] for part in parts]) for kind in KINDS}
        return Drawn([row for part in parts for row in part.rows], images)

    def _prepare(self, asked: Asked) -> _Prepared:
        cells = chosen_cells(self.generator, asked)
        slide = str(cells["slide"].iloc[0])
        source = open_source(self.generator.manifest, slides=(slide,))
        places = [gene_place(source, slide, gene) for gene in asked.genes]
        self._refuse_unread(source, places)
        batch = records(self.generator.manifest, slide, cells, genes="dense", image_size=self._image_size())
        own: Counts = batch.genes.numpy().astype(np.int64)
        told = np.repeat(own[:, None], len(asked.levels), axis=1)  # [B, L, G]
        for step, levels in enumerate(asked.levels):
            for place, level in zip(places, levels, strict=True):
                told[:, step, place] = changed(own[:, place], level)
        return _Prepared(cells, source, places, own, told, batch)

    def _image_size(self) -> int | None:
        params = self.condition.params
        return params.image_size if params.embeds("image") else None

    def _refuse_unread(self, source: Source, places: Sequence[int]) -> None:
        """Refuse a gene that the condition's run knows nothing of: no change of it would be seen."""
        known = self.condition.place(source)
        for place in places:
            if known is not None and known[place] < 0:
                what = f"the run that gives the conditions knows nothing of {source.symbols[place]}"
                raise InputError("the gene of an edit", what, "edit a gene that a training slide measured")

    def _drawn(self, number: int, asked: Asked, given: _Prepared) -> Drawn:
        encoded, n_levels = self.generator.encoded(given.cells), len(asked.levels)
        tokens = self._told(given, encoded)  # [B * L, 2, 4, D]
        own = torch.from_numpy(encoded.tokens)
        cell = torch.arange(len(own)).repeat_interleave(n_levels)
        seeds = self.generator.seeds(given.cells, self.seed)
        mode, sampling = self.settings.protocol, self.settings.sampling
        model = self.generator.drawer.model
        start = model.invert(torch.from_numpy(encoded.mean), own, mode, sampling)
        turn = torch.from_numpy(dealt(len(cell), derive(self.seed, "edit", number)))
        each = [seeds[place] for place in cell.tolist()]
        latents = {
            "own": model.sample(own, mode, sampling, seeds)[cell],
            "edited": model.sample(tokens, mode, sampling, each),
            "dealt": model.sample(tokens[turn], mode, sampling, each),
            "returned": model.sample(own, mode, sampling, seeds, start)[cell],
            "inverted": model.sample(tokens, mode, sampling, each, start[cell]),
        }
        images = {kind: self.generator.drawer.decode(drawn) for kind, drawn in latents.items()}
        images["original"] = self.generator.real(given.cells)[cell.numpy()]
        return Drawn(list(_rows(number, asked, given)), images)

    def _told(self, given: _Prepared, encoded: Encoded) -> torch.Tensor:
        """Return [B * L, 2, 4, D], what is told of the cells by the changed counts, cell after cell."""
        n_cells, n_levels, n_genes = given.told.shape
        cell = np.repeat(np.arange(n_cells), n_levels)
        image = None if self._image_size() is None else given.batch.image[torch.from_numpy(cell)]
        ids = given.cells["cell_id"].to_numpy()[cell].tolist()
        counts = given.told.reshape(-1, n_genes)
        cells = Cells(given.source, ids, given.batch.side_um[torch.from_numpy(cell)], image, counts)
        return torch.from_numpy(encode_again(self.condition, cells, encoded.tokens[cell], self.context))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An edit whose words were found to mean something.

    Args:
        cells: B rows of the encoded cells.
        source: their slide.
        places: of the genes in the vocabulary.
        own: [B, G] counts.
        told: [B, L, G] changed counts.
        batch: the cells' records.
    """

    cells: pd.DataFrame
    source: Source
    places: Sequence[int]
    own: Counts
    told: Counts
    batch: Any


def _rows(number: int, asked: Asked, given: _Prepared) -> Iterator[dict[str, Any]]:
    symbols = [given.source.symbols[place] for place in given.places]
    for row, cell in enumerate(given.cells.itertuples()):
        for level in range(len(asked.levels)):
            counts = [[int(given.own[row, place]), int(given.told[row, level, place])] for place in given.places]
            yield {
                "edit": number,
                "genes": symbols,
                "level": asked.name(level),
                "slide": str(cell.slide),
                "cell_id": str(cell.cell_id),
                "side_um": round(float(cell.side_um), 4),
                "counts": counts,
            }
