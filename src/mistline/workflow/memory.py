"""How much memory a job asks for, from what the slide sheet announces; no bundle needs to be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mistline.config.slides import Slide

ASSUMED_CELLS = 400_000  # a slide whose sheet says nothing: near MIST's mean of 357,000
ASSUMED_GENES = 500
LARGEST_MB = 256_000
_SHARE_EXPRESSED = 0.2  # of the panel, in a cell: 18 % on the synthetic slide of the performance study


@dataclass(frozen=True, slots=True)
class Need:
    """What a job holds.

    Args:
        floor: megabytes.
        per_million_cells: megabytes.
        bytes_per_count: for every stored count.
        bytes_per_cell_and_slide: of a division into folds, which are a few a slide: each is a column over all cells.
    """

    floor: int
    per_million_cells: int = 0
    bytes_per_count: float = 0.0
    bytes_per_cell_and_slide: float = 0.0


# Streaming stages are flat: their floor is the interpreter, its libraries and a few bands of the image. A stage that
# needs something else for one task has a line `stage.task` of its own.
NEEDS = {
    "fetch_bundle": Need(600),
    "check_bundle": Need(1000, 300),
    "project_image": Need(2000),
    "read_cells": Need(1500, 1500, 24),
    "read_table": Need(2000, 1500, 40),
    "cut_patches": Need(4000, 500),  # a JPEG or PNG is decoded as a whole
    "cut_crops": Need(2000, 500, 4),
    "cut_tiles": Need(2000, 500, 4),
    "register_he": Need(3500, 300),
    "cut_he": Need(3000, 500),
    "make_splits": Need(1500, 400),
    "fit_metacells": Need(10_000, 300),  # max_fit_cells of a 5,000-gene panel are held
    "assign_metacells": Need(2000, 300),
    "seal_dataset": Need(2000, 600),
    "seal_tables": Need(2000, 600),
    "train": Need(8000),
    "embed": Need(6000, 500),
    "encode_cells": Need(8000, 1500),
    "pair_cells": Need(4000, 2000, 24),
    "train_generator": Need(10_000),
    "generate": Need(10_000),
    "generate_cells": Need(6000, 500),
    "perturb": Need(6000, 500),
    "edit": Need(8000),
    "sweep": Need(8000),
    "assign_folds": Need(1500, 800, bytes_per_cell_and_slide=10),
    "compare": Need(500),
    "predict": Need(6000, 4000, bytes_per_cell_and_slide=10),
    "read_reference": Need(8000),  # an atlas of 100,000 cells
    "fold_genes": Need(6000),
    "impute_folds": Need(10_000),  # max_cells of a slide are held, and the atlas
    "impute_slide": Need(10_000, 12_000, 40),
    "peer_environment": Need(2000),
    "peer_embed": Need(8000, 8000, 24),
    "peer_predict": Need(6000, 8000, 24, 10),
    "peer_impute": Need(12_000, 500),  # some of its methods hold pairs of a slide's cells and single cells
    "evaluate": Need(4000, 800, bytes_per_cell_and_slide=10),
    # All cells are judged. Measured: 4,840 MB a million cells with 256 numbers each; 38 bytes a count of the controls.
    "evaluate.domains": Need(4000, 5000, 40, 10),
    "report": Need(6000, 600),  # the atlas that genes are imputed from is held
    "export_viewer": Need(4000, 2500, 24),  # polygons and the table of a slide are held, its images are not
}


def memory_mb(stage: str, slides: Sequence[Slide], attempt: int, task: str | None = None) -> int:
    """Return the megabytes a stage asks for on these slides; a retry after an out-of-memory asks for more.

    Args:
        stage: as the rule is called.
        slides: those that the job reads.
        attempt: from 1 on.
        task: the one that the job is for, if any.
    """
    need = NEEDS.get(f"{stage}.{task}", NEEDS[stage])
    cells = sum(slide.cells or ASSUMED_CELLS for slide in slides)
    counts = sum((slide.cells or ASSUMED_CELLS) * (slide.genes or ASSUMED_GENES) * _SHARE_EXPRESSED for slide in slides)
    asked = need.floor + need.per_million_cells * cells / 1e6 + need.bytes_per_count * counts / 1e6
    asked += need.bytes_per_cell_and_slide * cells * len(slides) / 1e6
    return min(LARGEST_MB, int(asked) * attempt)
