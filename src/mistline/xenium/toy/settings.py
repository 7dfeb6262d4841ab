"""What a toy slide is asked to be, how the layouts of the instrument's software differ, and the lattice of cells."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from mistline.core.errors import InputError

STAINS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
BLOCK_SITES = 20  # a block is a square of lattice sites: the unit of generation and of memory
OCCUPIED = 0.92  # share of lattice sites that hold a cell; the rest are lumens and gaps
_ROW_RATIO = math.sqrt(3) / 2  # rows of a hexagonal lattice are closer than its columns
_REACH_UM = 60.0


@dataclass(frozen=True)
class Layout:
    """How one generation of the instrument's software lays out a bundle."""

    name: str
    xoa: str
    schema_version: int
    focus: str  # "file", "numbered" or "named"
    integer_ids: bool = False
    since_2: bool = False  # label_id, polygon sets, several or no nuclei a cell, four stains
    since_3: bool = False  # nucleus_count, segmentation_method, genomic controls
    feature_types: tuple[str, ...] = ("Negative Control Probe", "Negative Control Codeword", "Unassigned Codeword")


_SINCE_3 = (
    "Negative Control Probe",
    "Genomic Control",
    "Negative Control Codeword",
    "Unassigned Codeword",
    "Deprecated Codeword",
)
LAYOUTS = {
    "1.0": Layout(
        "1.0",
        "Xenium-1.0.1",
        2,
        "file",
        integer_ids=True,
        feature_types=("Negative Control Probe", "Negative Control Codeword", "Blank Codeword"),
    ),
    "1.3": Layout("1.3", "xenium-1.3.0.5", 3, "file"),
    "2.0": Layout("2.0", "xenium-2.0.0.10", 4, "numbered", since_2=True),
    "3.0": Layout("3.0", "xenium-3.0.0.15", 5, "numbered", since_2=True, since_3=True, feature_types=_SINCE_3),
    "4.0": Layout("4.0", "xenium-4.0.1.1", 6, "named", since_2=True, since_3=True, feature_types=_SINCE_3),
}


@dataclass(frozen=True)
class ToySlide:
    """One synthetic slide. Equal values give equal bytes.

    Args:
        name: the slide's name; part of every seed.
        layout: a key of `LAYOUTS`.
        n_cells: cells in the tables, exactly.
        seed: of everything random.
        donor: slides of one donor (and seed) share its shift of genes, of brightness and of the mixture of types.
        tissue: written to `experiment.xenium`.
        n_planes: planes of the z-stack.
        n_stains: focus images of layouts from 2.0 on: 4, or 1 for DAPI alone.
        n_genes: genes of the shared panel, at least 80.
        n_addon: genes this slide measures beside the shared panel.
        shape_px: (rows, cols) of the image; absent: what the cells need at `spacing_um`.
        aspect: width over height where `shape_px` is absent.
        spacing_um: distance of neighbouring cells where `shape_px` is absent.
        pixel_size_um: micrometres a pixel.
        tile_px: side of the TIFF's tiles; absent: 1024 for large images, else 256.
        xoa: version string; absent: the layout's own. Some bundles say "R&D".
        intensity_scale: factor on every intensity; newer instruments write about a tenth.
        symbols_as_ids: the matrix names genes by symbol alone, as public crops do.
        bytes_ids: text columns are stored as bytes, as some 1.x bundles do.
        shuffled: every table in an order of its own.
        transcripts: write `transcripts.parquet`.
        domain_genes: raise the domains' own genes; without, nothing of a cell but its type depends on its domain.
    """

    name: str = "toy"
    layout: str = "3.0"
    n_cells: int = 300
    seed: int = 0
    donor: str = "donor1"
    tissue: str = "breast"
    n_planes: int = 4
    n_stains: int = 4
    n_genes: int = 100
    n_addon: int = 0
    shape_px: tuple[int, int] | None = None
    aspect: float = 1.3
    spacing_um: float = 11.5
    pixel_size_um: float = 0.2125
    tile_px: int | None = None
    xoa: str | None = None
    intensity_scale: float = 1.0
    symbols_as_ids: bool = False
    bytes_ids: bool = False
    shuffled: bool = False
    transcripts: bool = True
    domain_genes: bool = True
    lattice: Lattice = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InputError(f"toy slide {self.name}", f"no layout {self.layout!r}", f"choose of {', '.join(LAYOUTS)}")
        self._require(self.n_cells >= 4, f"n_cells is {self.n_cells}", "ask for at least 4 cells")
        self._require(self.n_genes >= 80, f"n_genes is {self.n_genes}", "ask for at least 80 genes")
        self._require(self.n_planes >= 1, f"n_planes is {self.n_planes}", "ask for at least one plane")
        self._require(self.n_stains in (1, 4), f"n_stains is {self.n_stains}", "ask for 1 or 4")
        tile_px = self.tile_px
        self._require(tile_px is None or tile_px % 16 == 0, f"tile_px is {tile_px}", "a TIFF tile is a multiple of 16")
        self._require(tile_px is None or tile_px >= 64, f"tile_px is {tile_px}", "ask for at least 64")
        object.__setattr__(self, "lattice", Lattice.fit(self))
        block_um = self.lattice.row_um * BLOCK_SITES
        self._require(
            block_um > _REACH_UM + 2 * self.lattice.spacing_um,
            f"cells lie {self.lattice.spacing_um:.1f} um apart",
            "ask for fewer cells or a larger shape_px",
        )

    def _require(self, condition: bool, what: str, remedy: str) -> None:
        if not condition:
            raise InputError(f"toy slide {self.name}", what, remedy)

    @property
    def form(self) -> Layout:
        """What is particular to the layout."""
        return LAYOUTS[self.layout]

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of the full-resolution image."""
        return self.lattice.shape_px

    @property
    def tile(self) -> int:
        """Side of a TIFF tile in pixels."""
        return self.tile_px or (1024 if max(self.image_shape) >= 4096 else 256)

    @property
    def stains(self) -> tuple[str, ...]:
        """Names of the in-focus images."""
        return STAINS[: self.n_stains if self.form.since_2 else 1]


@dataclass(frozen=True)
class Lattice:
    """A hexagonal lattice of sites for cells, cut into square blocks; positions in micrometres."""

    rows: int
    cols: int
    spacing_um: float
    shape_px: tuple[int, int]

    @staticmethod
    def fit(slide: ToySlide) -> Lattice:
        """Choose the lattice that holds the slide's cells with a few sites to spare."""
        wanted = max(slide.n_cells + 1, math.ceil(slide.n_cells / OCCUPIED))
        if slide.shape_px is None:
            cols = max(2, round(math.sqrt(wanted * slide.aspect * _ROW_RATIO)))
            rows, spacing = math.ceil(wanted / cols), slide.spacing_um
            extent = (rows * spacing * _ROW_RATIO, (cols + 0.5) * spacing)
            return Lattice(rows, cols, spacing, (_pixels(extent[0], slide), _pixels(extent[1], slide)))
        height, width = (side * slide.pixel_size_um for side in slide.shape_px)
        spacing = math.sqrt(height * width / wanted / _ROW_RATIO)
        while True:
            rows, cols = int(height / (spacing * _ROW_RATIO)), int(width / spacing - 0.5)
            if rows * cols >= wanted:
                return Lattice(rows, cols, spacing, slide.shape_px)
            spacing *= 0.99

    @property
    def row_um(self) -> float:
        """Distance of two rows of sites."""
        return self.spacing_um * _ROW_RATIO

    @cached_property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return math.ceil(self.rows / BLOCK_SITES), math.ceil(self.cols / BLOCK_SITES)

    def sites(self, block: tuple[int, int]) -> tuple[range, range]:
        """Return the lattice rows and columns of a block."""
        first = (block[0] * BLOCK_SITES, block[1] * BLOCK_SITES)
        return (
            range(first[0], min(first[0] + BLOCK_SITES, self.rows)),
            range(first[1], min(first[1] + BLOCK_SITES, self.cols)),
        )

    def blocks_at(self, low_um: tuple[float, float], high_um: tuple[float, float]) -> list[tuple[int, int]]:
        """Return the blocks that may hold a site within a rectangle, given by its (x, y) corners."""
        rows = self._span(low_um[1] / self.row_um - 1.5, high_um[1] / self.row_um + 0.5, self.blocks[0])
        cols = self._span(low_um[0] / self.spacing_um - 2, high_um[0] / self.spacing_um + 0.5, self.blocks[1])
        return [(row, col) for row in rows for col in cols]

    @staticmethod
    def _span(low: float, high: float, n_blocks: int) -> range:
        first, last = math.floor(low / BLOCK_SITES), math.floor(high / BLOCK_SITES)
        return range(max(first, 0), min(last, n_blocks - 1) + 1)


def _pixels(length_um: float, slide: ToySlide) -> int:
    return math.ceil(length_um / slide.pixel_size_um)
