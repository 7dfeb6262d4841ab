"""A small sealed dataset with a generator that was never trained, and the latents and conditions it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.models.contract import Context
from mistline.stages import encode_cells
from mistline.store.manifest import read_manifest
from mistline.train.checkpoint import Identity, ModelFiles, save
from mistline.train.latents import LatentSource
from mistline.train.run import Trained
from mistline.train.source import open_source
from tests.unit.data.conftest import Slide, build, gene_names

SLIDES = [
    Slide("s1", "d1", n=80, height=3, width=4),
    Slide("s2", "d2", n=80, height=3, width=4, genes=gene_names(28, 2)),
]
SIZE = 16


@dataclass(frozen=True)
class Line:
    """Where everything lies."""

    root: Path

    def config(self, name: str) -> Path:
        return self.root / "models" / name / "config.json"

    def latents(self, slide: str) -> Path:
        return self.root / "latents" / slide

    @property
    def options(self) -> dict[str, Any]:
        """Options that the stages share."""
        return {
            "manifest": self.root / "dataset" / "manifest.json",
            "generator": self.config("cells"),
            "autoencoder": self.config("vae"),
            "latents": [self.latents("s1"), self.latents("s2")],
        }


def build_line(root: Path) -> Line:
    """Make the dataset, three untrained models, and the latents of both slides."""
    # Imported here: torch and diffusers are slow to import, and only some tests of this room need them.
    from mistline.models.diffusion.model import Model as Diffusion
    from mistline.models.diffusion.params import Params as DiffusionParams
    from mistline.models.spatia.model import Model as Spatia
    from mistline.models.spatia.params import Params as SpatiaParams
    from mistline.models.vae.model import Model as Vae
    from mistline.models.vae.params import Params as VaeParams

    line = Line(build(root, SLIDES))
    source = open_source(line.options["manifest"], "train")
    context = Context(0, "cpu", 1, root / "resume")
    small = {"gene_layers": 1, "image_layers": 1, "decoder_layers": 1}
    _saved(line, "spatia", Spatia, SpatiaParams(size="tiny", **small), (source, context))
    _saved(line, "vae", Vae, VaeParams(size="tiny", image_size=SIZE), (source, context))
    for slide in SLIDES:
        encode_cells.run(
            manifest=line.options["manifest"],
            slide=slide.name,
            autoencoder=line.config("vae"),
            condition=line.config("spatia"),
            latents=line.latents(slide.name),
        )
    latents = LatentSource({slide.name: line.latents(slide.name) for slide in SLIDES}, "train")
    params = DiffusionParams(size="tiny", condition="spatia", autoencoder="vae")
    _saved(line, "cells", Diffusion, params, (latents, context), "diffusion")
    return line


def _saved(line: Line, name: str, kind: Any, params: Any, given: tuple[Any, Context], registered: str = "") -> None:
    model = kind.create(params, *given)
    folder = line.config(name).parent
    names = ("config.json", "weights.safetensors", "genes.txt", "metrics.jsonl", "card.md")
    version = read_manifest(line.options["manifest"]).version
    identity = Identity(name, registered or name, params.model_dump(mode="json"), 0, version)
    save(ModelFiles(*(folder / own for own in names)), identity, Trained(model, []), {})
