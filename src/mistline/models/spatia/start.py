"""Where training starts: z tells cells apart from the first step.

What a transformer of random weights gives to a pooled token is nearly the same for all cells, and a decoder that is
given that learns the usual counts first and nothing else for hundreds of steps. So each side's share of z^c is
brought to mean 0 and variance 1 over some training cells (data-dependent initialisation, as in Salimans and Kingma
2016, arXiv 1602.07868): only the last linear layer of each side is changed, no given weights.
"""

from __future__ import annotations

import torch

from mistline.models.spatia.inputs import Records
from mistline.models.spatia.network import Network

SAMPLE = 512  # cells
_LEAST_STD = 1e-3  # a side that is absent is the same for all cells


def centre(net: Network, cells: Records) -> None:
    """Change where each side's share of z^c begins.

    Args:
        net: untrained.
        cells: a sample of the training cells.
    """
    was_training = net.training
    net.eval()
    with torch.no_grad():
        found = net.encode(cells, use_image=True, use_genes=True)
        sides = ((net.fusion.join_image, found.z_image, net.image), (net.fusion.join_genes, found.z_genes, net.genes))
        for join, share, encoder in sides:
            if encoder is None or len(share) < 2:
                continue
            std, mean = torch.std_mean(share.float(), dim=0)
            scale = 1 / std.clamp(min=_LEAST_STD)
            join.weight.mul_(scale[:, None])
            join.bias.sub_(mean).mul_(scale)
    net.train(was_training)
