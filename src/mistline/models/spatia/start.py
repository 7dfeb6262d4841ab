"""Where training starts: z tells cells apart from the first step.

What a transformer of random weights gives to a pooled token is nearly the same for all cells, and a decoder that is
given that learns the usual counts first and nothing else for hundreds of steps. So each side's share of z^c, and the
mean of a niche's cells, are brought to mean 0 and variance 1 over some training records (data-dependent
initialisation, as in Salimans and Kingma 2016, arXiv 1602.07868). Only the last layer of each is changed, and no
weight that was given.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mistline.models.spatia.context import members
from mistline.models.spatia.inputs import Inputs
from mistline.models.spatia.network import Network

BATCHES, CELLS = 8, 32  # of the sample: from several places, as a batch holds neighbours
_LEAST_STD = 1e-3  # of what is the same for all records
# A larger factor also enlarges what training then moves in all cells alike. Seen on one toy cohort without this limit:
# the mean of z_img ended some 17 times as large as its scatter, and z^c varied by 3 % of its norm. Other changes were
# made at the same time, and what the limit does by itself was not measured.
_MOST_GAIN = 4.0


def centre(net: Network, sample: Sequence[Inputs]) -> None:
    """Change where z^c and the niches' means begin.

    Args:
        net: untrained.
        sample: training cells, with the niches around them if the model reads any.
    """
    was_training = net.training
    net.eval()
    with torch.no_grad():
        found = [net.encode(given.cells, use_image=True, use_genes=True) for given in sample]
        image, genes = (torch.cat([getattr(of, name) for of in found]) for name in ("z_image", "z_genes"))
        sides = ((net.fusion.join_image, image, net.image), (net.fusion.join_genes, genes, net.genes))
        for join, share, encoder in sides:
            if encoder is not None:
                join.weight.mul_(_standardise(join.bias, share)[:, None])
        if net.around is not None:
            norm = net.around.niche.norm
            norm.weight.mul_(_standardise(norm.bias, torch.cat([_niches(net, given) for given in sample])))
    net.train(was_training)


def _niches(net: Network, given: Inputs) -> Tensor:
    """Return [T, D] means of the cells of each niche of a batch."""
    layout = given.layout
    if net.around is None or layout is None:
        raise RuntimeError("the model has no niche level")
    cells = net.encode(given.cells, use_image=True, use_genes=True).z
    index, mask = members(layout.niche, layout.niche.unique(), None, net.around.most_cells)
    mean: Tensor = net.around.niche.mean(cells, layout.offset_um, index, mask)
    return mean


def _standardise(bias: Tensor, values: Tensor) -> Tensor:
    """Return [D] what a last layer's weights are multiplied by, and change its bias: mean 0, nearer to variance 1.

    Args:
        bias: [D] of the layer.
        values: [n, D] that it gave.
    """
    if len(values) < 2:
        return torch.ones_like(bias)
    std, mean = torch.std_mean(values.float(), dim=0)
    scale = (1 / std.clamp(min=_LEAST_STD)).clamp(max=_MOST_GAIN)
    bias.sub_(mean).mul_(scale)
    return scale
