from __future__ import annotations

import torch
from torch import nn

from mistline.models.diffusion.average import Average


def _net() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_average_follows_its_formula():
    net = _net()
    average = Average(net, 0.5)
    kept = net.weight.detach().clone()
    for n in range(12):
        net.weight.data += 1
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        kept = decay * kept + (1 - decay) * net.weight.detach()
    torch.testing.assert_close(average.get_buffer("weight"), kept)


def test_it_computes_only_while_applied():
    net = _net()
    average = Average(net, 0.9)
    x, before = torch.ones(1, 3), net(torch.ones(1, 3))
    net.weight.data += 1
    with average.applied():
        torch.testing.assert_close(net(x), before)
    torch.testing.assert_close(net(x), before + 3)
    average.reset()
    with average.applied():
        torch.testing.assert_close(net(x), before + 3)
