"""The denoiser's sizes."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock

from mistline.core.errors import ConfigError
from mistline.models.diffusion.unet import SIZES, UnetSizes, build


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    """Every size, without memory for its weights."""
    with torch.device("meta"):
        return {size: build(sizes, 4, 256) for size, sizes in SIZES.items()}


def test_sizes_of_the_networks(networks):
    millions = {size: sum(value.numel() for value in network.parameters()) / 1e6 for size, network in networks.items()}
    assert 36 <= millions["paper"] <= 44
    assert 3 * millions["tiny"] < millions["small"] < millions["paper"] / 3


def test_the_paper_has_eight_heads_and_attention_on_every_level(networks):
    attentions = [part.attn1 for part in networks["paper"].modules() if isinstance(part, BasicTransformerBlock)]
    assert {attention.heads for attention in attentions} == {8}
    assert {attention.query_dim for attention in attentions} == {96, 192, 320}


def test_tiny_takes_small_latents():
    tokens = torch.randn(2, 4, 16)
    with torch.no_grad():
        drawn = build(SIZES["tiny"], 3, 16)(
            torch.randn(2, 3, 6, 6), torch.tensor([1, 9]), tokens, class_labels=tokens.flatten(1)
        ).sample
    assert drawn.shape == (2, 3, 6, 6)


@pytest.mark.parametrize(("heads", "groups"), [(5, 32), (8, 24)])
def test_what_does_not_divide_the_channels_is_refused(heads, groups):
    with pytest.raises(ConfigError, match="do not divide a level's 32 channels"):
        build(UnetSizes((32, 64), 1, heads, groups), 4, 16)
