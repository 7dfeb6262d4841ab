"""Published image encoders, one row each: what they are, how an image is shown to them, where their weights are.

No torch is imported here. Nothing is downloaded: `how` says by hand where a file comes from, and the settings name
that file and its sha256. Sizes, options and normalisation are those of the authors' own loading code (specification,
section 12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Option = bool | int | float | str
Layout = Literal["timm", "clip", "dinov2", "swin_stem", "conch"]
Colours = tuple[float, float, float]

IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
IMAGENET_STD: Colours = (0.229, 0.224, 0.225)
CLIP_MEAN: Colours = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colours = (0.26862954, 0.26130258, 0.27577711)
_OPTIMUS: tuple[Colours, Colours] = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_HIBOU: tuple[Colours, Colours] = ((0.7068, 0.5755, 0.7220), (0.1950, 0.2316, 0.1816))


@dataclass(frozen=True, slots=True)
class Encoder:
    """An image encoder.

    Args:
        architecture: as timm calls it, or `conch`, which is built here around timm's vision transformer.
        size: side of the image that is encoded, pixels.
        options: of the architecture.
        layout: how the weights' names are to be read: `timm` for those of the network itself.
        projection: features of a last linear layer that belongs to the encoder; 0 for none.
        read_size: side that images are resized to before their centre is cut out; 0 for `size`.
        mean: of red, green and blue in 0..1.
        std: of red, green and blue.
        width: features it gives; 0 where the network decides.
        file: where the weights are, `hub:file` or in words; empty for none.
        terms: what must be accepted first; empty for nothing.
        random: whether it may be used without weights, as a control.
    """

    architecture: str
    size: int = 224
    options: Mapping[str, Option] = field(default_factory=dict)
    layout: Layout = "timm"
    projection: int = 0
    read_size: int = 0
    mean: Colours = IMAGENET_MEAN
    std: Colours = IMAGENET_STD
    width: int = 0
    file: str = ""
    terms: str = ""
    random: bool = False

    @property
    def read_px(self) -> int:
        """Side in pixels that images are read at."""
        return self.read_size or self.size

    @property
    def how(self) -> str:
        """Say how its weights are had; empty where it has none of its own."""
        if not self.file:
            return ""
        first = f"accept the terms of {self.terms} with your own account, " if self.terms else ""
        return f"{first}fetch {self.file} by hand, and set weights to that file and weights_sha256 to its sha256"


def _hub(name: str, file: str = "pytorch_model.bin") -> str:
    return f"{file} of huggingface.co/{name}"


def _dinov2(width: int, depth: int, heads: int, mlp_ratio: float, **further: Option) -> dict[str, Option]:
    """Return options of timm's DINOv2 giants (packed SwiGLU, layer scale) at another size."""
    sizes: dict[str, Option] = {"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": mlp_ratio}
    return {"img_size": 224, **sizes, **further}


_REGISTERS = "vit_giant_patch14_reg4_dinov2"

PRESETS: Mapping[str, Encoder] = {
    "resnet50": Encoder("resnet50", width=2048, random=True, file=_hub("timm/resnet50.a1_in1k", "model.safetensors")),
    "vit_b16": Encoder(
        "vit_base_patch16_224",
        width=768,
        random=True,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        file=_hub("timm/vit_base_patch16_224.augreg_in21k", "model.safetensors"),
    ),
    "clip": Encoder(
        "vit_base_patch32_clip_quickgelu_224",
        layout="clip",
        projection=512,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        width=512,
        file=_hub("openai/clip-vit-base-patch32"),
    ),
    "plip": Encoder(
        "vit_base_patch32_clip_quickgelu_224",
        layout="clip",
        projection=512,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        width=512,
        file=_hub("vinid/plip"),
    ),
    "ctranspath": Encoder(
        "swin_tiny_patch4_window7_224",
        layout="swin_stem",
        width=768,
        file="ctranspath.pth, linked in the README of github.com/Xiyue-Wang/TransPath,",
    ),
    "conch": Encoder(
        "conch",
        size=448,
        options={"embed_dim": 768, "depth": 12, "num_heads": 12, "pooled_dim": 512, "pooled_heads": 8},
        layout="conch",
        mean=CLIP_MEAN,
        std=CLIP_STD,
        width=512,
        file=_hub("MahmoodLab/conch"),
        terms="huggingface.co/MahmoodLab/conch",
    ),
    "uni": Encoder(
        "vit_large_patch16_224",
        options={"init_values": 1e-5},
        width=1024,
        file=_hub("MahmoodLab/UNI"),
        terms="huggingface.co/MahmoodLab/UNI",
    ),
    "uni2_h": Encoder(
        _REGISTERS,
        options=_dinov2(1536, 24, 24, 2.66667 * 2, reg_tokens=8),
        width=1536,
        file=_hub("MahmoodLab/UNI2-h"),
        terms="huggingface.co/MahmoodLab/UNI2-h",
    ),
    "gigapath": Encoder(
        "vit_giant_patch14_dinov2",
        options=_dinov2(1536, 40, 24, 5.33334, patch_size=16),
        read_size=256,
        width=1536,
        file=_hub("prov-gigapath/prov-gigapath"),
        terms="huggingface.co/prov-gigapath/prov-gigapath",
    ),
    "h_optimus_0": Encoder(
        _REGISTERS,
        options={"img_size": 224},
        mean=_OPTIMUS[0],
        std=_OPTIMUS[1],
        width=1536,
        file=_hub("bioptimus/H-optimus-0"),
        terms="huggingface.co/bioptimus/H-optimus-0",
    ),
    "hibou_b": Encoder(
        _REGISTERS,
        options=_dinov2(768, 12, 12, 5.33334),
        layout="dinov2",
        mean=_HIBOU[0],
        std=_HIBOU[1],
        width=768,
        file=_hub("histai/hibou-b", "model.safetensors"),
        terms="huggingface.co/histai/hibou-b",
    ),
    "hibou_l": Encoder(
        _REGISTERS,
        options=_dinov2(1024, 24, 16, 5.34375),
        layout="dinov2",
        mean=_HIBOU[0],
        std=_HIBOU[1],
        width=1024,
        file=_hub("histai/hibou-L", "model.safetensors"),
        terms="huggingface.co/histai/hibou-L",
    ),
}
