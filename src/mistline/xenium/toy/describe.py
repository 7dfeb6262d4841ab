"""What a bundle says of itself (`experiment.xenium`, `gene_panel.json`), and the truth of a slide."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistline.core.seeds import derive
from mistline.xenium.toy.cells import Cells, Tissue, donor_fold, donor_gain
from mistline.xenium.toy.images import image_files
from mistline.xenium.toy.panel import (
    CELL_TYPES,
    DOMAINS,
    MORPHOLOGY,
    N_DOMAIN_GENES,
    N_MARKERS,
    REACH_UM,
    RECEIVER,
    SENDER,
    TARGET_FOLD,
    TARGETS,
    Panel,
    domain_gene,
    marker,
)
from mistline.xenium.toy.reference import reference_truth
from mistline.xenium.toy.settings import ToySlide

_PANEL_NAME = "Toy panel"


def documents(slide: ToySlide, panel: Panel, n_transcripts: int, cell_area_um2: float) -> dict[str, dict[str, Any]]:
    """Return the bundle's JSON files by name."""
    return {
        "experiment.xenium": _experiment(slide, panel, n_transcripts, cell_area_um2),
        "gene_panel.json": _gene_panel(slide, panel),
    }


def responds(cells: Cells) -> NDArray[np.bool_]:
    """Return which cells are receivers with a sender in reach."""
    return (cells.draft.types == RECEIVER) & (cells.sender_um <= REACH_UM)


def truth(tissue: Tissue, near_senders: int, cut_by_border: int) -> dict[str, Any]:
    """Return what is true of one slide."""
    slide, genes = tissue.slide, tissue.panel.symbols[: tissue.panel.n_genes]
    planted = tissue.planted_row()
    planted_id = None
    if planted is not None:
        block = next(item for item in tissue.plan.blocks() if tissue.plan.bounds(item)[1] > planted)
        planted_id = str(tissue.cells(block).ids[planted - tissue.plan.bounds(block)[0]])
    return {
        "layout": slide.layout,
        "donor": slide.donor,
        "n_cells": slide.n_cells,
        "shape_px": list(slide.image_shape),
        "donor_gain": donor_gain(slide),
        "donor_gene_fold": dict(zip(genes, donor_fold(slide, len(genes)).round(6).tolist(), strict=True)),
        "genes_of_no_other_slide": [name for name in genes if name.startswith("ADDON")],
        "multinucleate_cell": planted_id,
        "receivers_with_sender": near_senders,
        "cells_cut_by_the_border": cut_by_border,
        **({} if slide.domain_genes else {"domain_genes": {}}),
    }


def common_truth() -> dict[str, Any]:
    """Return what is true of every toy slide."""
    return {
        "cell_types": list(CELL_TYPES),
        "domains": list(DOMAINS),
        "markers": {name: [marker(name, number) for number in range(N_MARKERS)] for name in CELL_TYPES},
        "domain_genes": {name: [domain_gene(name, number) for number in range(N_DOMAIN_GENES)] for name in DOMAINS},
        "signalling": {
            "sender": CELL_TYPES[SENDER],
            "ligand": "LIGAND1",
            "receiver": CELL_TYPES[RECEIVER],
            "receptor": "RECEPT1",
            "targets": list(TARGETS),
            "reach_um": REACH_UM,
            "fold": TARGET_FOLD,
        },
        "morphology": {
            MORPHOLOGY[0]: "radius_um = 2.2 + 1.6 * n / (n + 8), of the circle of the nucleus' area",
            MORPHOLOGY[1]: "eccentricity = 0.95 * sqrt(n / (n + 8))",
            MORPHOLOGY[2]: "brightness = 0.4 + 1.5 * n / (n + 8)",
        },
        "reference": reference_truth(),
    }


def _experiment(slide: ToySlide, panel: Panel, n_transcripts: int, cell_area_um2: float) -> dict[str, Any]:
    height, width = (side * slide.pixel_size_um for side in slide.image_shape)
    files = image_files(slide)
    images = {"morphology_filepath": files[0].name, "morphology_focus_filepath": files[-len(slide.stains)].name}
    if slide.form.focus == "file":
        images["morphology_mip_filepath"] = files[1].name
    described: dict[str, Any] = {
        "major_version": slide.form.schema_version,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": "Toy run",
        "run_start_time": "",
        "region_name": slide.name,
        "preservation_method": "ffpe",
        "num_cells": slide.n_cells,
        "transcripts_per_cell": round(n_transcripts / slide.n_cells),
        "transcripts_per_100um": 100 * n_transcripts / cell_area_um2,
        "region_area": height * width,
        "total_cell_area": cell_area_um2,
        "num_transcripts": n_transcripts,
        "cassette_name": "toy",
        "slide_id": "0000000",
        "panel_design_id": "toy",
        "panel_name": _PANEL_NAME,
        "panel_organism": "Human",
        "panel_tissue_type": slide.tissue,
        "panel_num_targets_predesigned": slide.n_genes,
        "panel_num_targets_custom": slide.n_addon,
        "pixel_size": slide.pixel_size_um,
        "instrument_sn": "toy",
        "instrument_sw_version": "toy",
        "analysis_sw_version": slide.xoa or slide.form.xoa,
        "experiment_uuid": _uuid(slide, "experiment"),
        "z_step_size": 3.0,
        "images": images,
        "xenium_explorer_files": {"cells_zarr_filepath": "cells.zarr.zip"},
    }
    if slide.form.since_2 and len(slide.stains) > 1:
        described["segmentation_stain"] = "Xenium Multi-Tissue Stain"
    return described


def _gene_panel(slide: ToySlide, panel: Panel) -> dict[str, Any]:
    targets = []
    for number, (name, symbol, kind) in enumerate(zip(panel.ids, panel.symbols, panel.types, strict=True)):
        gene = kind == "Gene Expression"
        descriptor = "gene" if gene else kind.lower().replace(" ", "_")
        data = {"id": name, "name": symbol} if gene else {"name": symbol}
        addon = slide.n_genes <= number < panel.n_genes
        targets.append(
            {
                "codewords": [number],
                "source": {"category": "custom" if addon else "predesigned", "identity": {"name": _PANEL_NAME}},
                "type": {"descriptor": descriptor, "data": data},
            }
        )
    identity = {"name": _PANEL_NAME, "design_id": "toy", "version": "1.0"}
    payload = {"chemistry": {"version": "v1"}, "panel": {"identity": identity, "num_gene_targets": panel.n_genes}}
    return {"metadata": {"schema": {"identifier": "gene_panel"}}, "payload": payload | {"targets": targets}}


def _uuid(slide: ToySlide, name: str) -> str:
    halves = [derive(slide.seed, "toy", slide.name, name, part) for part in ("high", "low")]
    return str(uuid.UUID(int=halves[0] << 64 | halves[1], version=4))
