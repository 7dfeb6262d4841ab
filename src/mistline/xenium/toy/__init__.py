"""Synthetic Xenium bundles with known truth, in every layout of the instrument's software.

    from mistline.xenium.toy import ToySlide, write_bundle
    truth = write_bundle(Path("bundle"), ToySlide(layout="3.0", n_cells=300), labels=Path("labels.csv"))

What is true (also in the cohort's `truth.json`):

- Four tissue domains lie as wavy rings (core, margin, stroma, follicle), follicles also as islands in the stroma.
- Eight cell types mix by domain; six marker genes each (`TUMOU1`, ...), three genes a domain (`DOMCORE1`, ...).
- Macrophages come in patches and send LIGAND1. Tumour cells within 60 um of one have four times the
  TARGET1..TARGET4 of the others.
- The nucleus is drawn from the cell's own counts: NUCSIZE -> size, NUCECC -> eccentricity, NUCBRI -> brightness, by the
  rising functions of `cells.py`. Their means differ between types, so an image tells something of the type.
- A donor has its own gene factors, gain of the image and mixture of types; slides of a donor share them.
- One cell of each slide from 2.0 on has two nuclei (each 0.7 of the length); about 1 in 100 has none. Earlier layouts
  know one nucleus a cell.
- Cells at the edge reach beyond the image; images are not square; the panel of a slide can hold add-on genes.
- Counts of `transcripts.parquet` (in cells, qv >= 20) add up to the matrix, and those to `cells.parquet`.
- A cohort's second slide has an H&E beside its bundle (`write_he`): the same cells in pink and purple, turned by 93
  degrees, in pixels of 0.2738 um, with the csv of its matrix; its truth names the matrix.
- Beside a cohort's slides lie single cells of the tissue (`reference.h5ad`), of two other donors, without places. They
  measure 20 genes more: two markers of each type and one gene of each domain (`TUMOU7`, ..., `DOMCORE4`, ...).
- The maximum over the z-stack is `morphology_mip` where a layout has it.

Blocks of about 370 cells are made each from a seed of its own and forgotten again: memory does not grow with the slide.
"""

from mistline.xenium.toy.bundle import write_bundle
from mistline.xenium.toy.histology import write_he
from mistline.xenium.toy.settings import LAYOUTS, STAINS, ToySlide

__all__ = ["LAYOUTS", "STAINS", "ToySlide", "write_bundle", "write_he"]
