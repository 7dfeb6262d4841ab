from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from mistline.models.spatia.image_block import EPS, ImageBlock


def pair(width, heads, hidden):
    """Return ours and timm's, made from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = ImageBlock(width, heads, hidden)
        torch.manual_seed(3)
        norm = partial(nn.LayerNorm, eps=EPS)
        return ours, Block(width, heads, mlp_ratio=hidden / width, qkv_bias=True, norm_layer=norm)


def randomly(module, seed=0):
    """Draw weights that show what any of them does, biases and norms too."""
    draw = torch.Generator().manual_seed(seed)
    for value in module.parameters():
        value.data = torch.randn(value.shape, generator=draw) * 0.2


@pytest.mark.parametrize("sizes", [(64, 4, 256), (32, 2, 96), (24, 1, 24)])
def test_it_computes_what_timms_block_does(sizes):
    ours, theirs = pair(*sizes)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    randomly(theirs)
    ours.load_state_dict(theirs.state_dict())
    results = []
    for module in (ours, theirs):
        tokens = torch.randn(3, 7, sizes[0], generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = module(tokens)
        out.square().sum().backward()
        results.append([out, tokens.grad, *(value.grad for value in module.parameters())])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_one_seed_draws_the_weights_that_timm_draws():
    ours, theirs = pair(32, 4, 128)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_a_job_that_embeds_waits_for_no_timm():
    code = (
        "import sys, mistline.models.spatia.model, mistline.stages.embed;"
        "found = {'timm', 'torchvision', 'torch._dynamo', 'sklearn'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
