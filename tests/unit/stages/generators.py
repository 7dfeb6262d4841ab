"""A sealed dataset in name only, encoded cells of two slides, and an autoencoder: what stages of generators read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mistline.models.vae.model import Model as Autoencoder
from mistline.models.vae.params import Params as AutoencoderParams
from mistline.store.latents import Encoded, LatentOrigin, LatentWriter
from mistline.store.manifest import write_manifest
from mistline.train.checkpoint import Identity, ModelFiles, save
from mistline.train.run import Trained
from tests.unit.models.diffusion.synthetic import ALL, SHAPE, Cells

SIDE = 8
SPLITS = {"s1": {"train": 40, "val": 8, "test": 3}, "s2": {"train": 0, "val": 0, "test": 9}}
NAMES = {
    "config": "config.json",
    "weights": "weights.safetensors",
    "genes": "genes.txt",
    "metrics": "metrics.jsonl",
    "card": "card.md",
}


@dataclass(frozen=True)
class Encodings:
    """Where everything lies."""

    root: Path
    version: str
    condition_sha256: str = "c" * 64

    @property
    def manifest(self) -> Path:
        return self.root / "dataset" / "manifest.json"

    @property
    def autoencoder(self) -> Path:
        return self.root / "models" / "vae" / "config.json"

    @property
    def latents(self) -> list[Path]:
        return [self.root / "latents" / slide for slide in SPLITS]

    def origin(self, **changes) -> LatentOrigin:
        told = {"seed": 0, "autoencoder_sha256": sha256(self.autoencoder), "condition_sha256": self.condition_sha256}
        return LatentOrigin(**{**told, "dataset_version": self.version, "image_size": SIDE, "present": ALL, **changes})


def sha256(config: Path) -> str:
    from mistline.train.checkpoint import load

    return load(config).weights_sha256


def files(folder: Path) -> dict[str, Path]:
    return {option: folder / name for option, name in NAMES.items()}


def build(root: Path) -> Encodings:
    """Write it all."""
    slides = [{"slide": name, "donor": f"d{name}", "tissue": "breast", "disease": "none"} for name in SPLITS]
    version = write_manifest(root / "dataset" / "manifest.json", {"slides": slides})
    write_autoencoder(root / "models" / "vae", version, seed=0)
    found = Encodings(root, version)
    write_latents(root / "latents", found.origin())
    return found


def write_autoencoder(folder: Path, version: str, seed: int) -> None:
    """Write an autoencoder that learnt nothing."""
    params = AutoencoderParams(size="tiny", image_size=SIDE, widths=(4, 4), norm_groups=2, latent_channels=SHAPE[0])
    config = {
        "in_channels": 1,
        "out_channels": 1,
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "block_out_channels": [4, 4],
        "layers_per_block": params.layers,
        "latent_channels": SHAPE[0],
        "norm_num_groups": 2,
        "sample_size": SIDE,
        "mid_block_add_attention": params.attention,
    }
    torch.manual_seed(seed)
    model = Autoencoder(params, ("DAPI",), config)
    identity = Identity("vae", "vae", params.model_dump(mode="json"), 0, version)
    save(ModelFiles(**files(folder)), identity, Trained(model, ()), {})


def write_latents(folder: Path, origin: LatentOrigin) -> None:
    """Write encoded cells whose latents follow their tokens."""
    for number, (slide, splits) in enumerate(SPLITS.items()):
        n = sum(splits.values())
        cells = Cells(n=n, seed=number)
        table = pd.DataFrame({"slide": slide, "donor": f"d{slide}", "cell_id": [f"{slide}-{i}" for i in range(n)]})
        table["row"], table["split"] = np.arange(n), np.repeat(list(splits), list(splits.values()))
        table[["x_um", "y_um", "side_um"]] = 1.0
        std = np.full_like(cells.mean.numpy(), 0.01)
        with LatentWriter(folder / slide, origin, n) as writer:
            writer.put(table, Encoded(cells.mean.numpy(), std, cells.tokens.numpy()))
