"""Named sizes of the image side; torch-free, so that settings can refer to them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """Sizes of the image encoder and its decoder.

    Args:
        size: side of an image, pixels.
        patch: side of a patch, pixels.
        width: of the encoder's tokens.
        depth: its blocks.
        heads: of its attention.
        mlp: hidden width of its blocks.
        decoder_width: of the decoder's tokens.
        decoder_depth: its blocks.
        decoder_heads: of its attention.
        decoder_mlp: hidden width of its blocks.
    """

    size: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    decoder_mlp: int

    def __post_init__(self) -> None:
        for whole, part, told in (
            (self.size, self.patch, "size cannot be cut into patches"),
            (self.width, self.heads, "width cannot be divided among heads"),
            (self.decoder_width, self.decoder_heads, "decoder_width cannot be divided among decoder_heads"),
            (self.width, 4, "width must be a multiple of 4 for positions"),
            (self.decoder_width, 4, "decoder_width must be a multiple of 4 for positions"),
        ):
            if whole % part:
                raise ValueError(f"{told}: {whole} is no multiple of {part}")

    @property
    def n_patches(self) -> int:
        """Return the patches of an image."""
        return (self.size // self.patch) ** 2


IMAGE_SIZES = {
    "tiny": ImageSizes(32, 8, 64, 4, 4, 256, 32, 2, 2, 128),
    "small": ImageSizes(96, 16, 192, 6, 3, 768, 128, 4, 4, 512),
    "paper": ImageSizes(224, 16, 768, 12, 12, 3072, 512, 8, 16, 2048),  # ViT-MAE base, as in Table 7
}
