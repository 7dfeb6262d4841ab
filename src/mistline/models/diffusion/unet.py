"""The denoiser: diffusers' U-Net, whose self-attention sees the latents and cross-attention the condition's tokens."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from mistline.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class UnetSizes:
    """What a U-Net is made of.

    Args:
        channels: of each level, from the latents' side down; every level halves the side and has attention.
        layers: residual blocks, each with a transformer block, of a level's way down (one more on its way up).
        heads: of every attention; a wasteful number makes attention slow, and merging it look good.
        groups: of the group norms.
    """

    channels: tuple[int, ...]
    layers: int
    heads: int
    groups: int = 32


# The channels and heads that specs/performance.md measured (43.2 M parameters at a token width of 256), so that our
# speeds stand beside those figures; the spec's own guess, (128, 256, 320), has 53 M.
PAPER = UnetSizes(channels=(96, 192, 320), layers=2, heads=8)
SMALL = UnetSizes(channels=(64, 128, 192), layers=1, heads=8)
TINY = UnetSizes(channels=(32, 64), layers=1, heads=2, groups=8)
SIZES = {"paper": PAPER, "small": SMALL, "tiny": TINY}


def build(sizes: UnetSizes, latent_channels: int, token_width: int, n_tokens: int = 4) -> UNet2DConditionModel:
    """Return a U-Net with new weights, which takes latents [B, c, h, w], steps [B] and tokens [B, T, D].

    The tokens come in twice: cross-attention reads them, and all of them in a row, [B, T * D], are projected and added
    to the embedding of the step, which every residual block is given. What holds for a whole image, such as how large
    and how bright a nucleus is, is learned in a fraction of the steps that way.

    Args:
        sizes: of the network.
        latent_channels: c, of what goes in and what comes out.
        token_width: D.
        n_tokens: T.

    Raises:
        ConfigError: the groups or the heads do not divide a level's channels.
    """
    for channels in sizes.channels:
        for name, n in (("heads", sizes.heads), ("groups", sizes.groups)):
            if channels % n:
                raise ConfigError(name, f"{n} do not divide a level's {channels} channels", "choose a divisor of them")
    n_levels = len(sizes.channels)
    return UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * n_levels,
        up_block_types=("CrossAttnUpBlock2D",) * n_levels,
        block_out_channels=sizes.channels,
        layers_per_block=sizes.layers,
        norm_num_groups=sizes.groups,
        attention_head_dim=sizes.heads,  # diffusers means the number of heads by it
        cross_attention_dim=token_width,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=n_tokens * token_width,
    )
