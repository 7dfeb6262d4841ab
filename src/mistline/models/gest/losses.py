"""The hierarchical loss (specs/gest.md section 8, equations 8 to 10). `R` asked places, `K` meta-cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def level_log_probabilities(log_p: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Return [R, G] log-probabilities of the groups of one level, by log-sum-exp; -inf for a group without members.

    Args:
        log_p: [R, K] log-probabilities of the meta-cells.
        group: int64 [K] group of each.
        n_groups: G.
    """
    largest = log_p.new_full((len(log_p), n_groups), -torch.inf)
    largest = largest.scatter_reduce(1, group.expand(len(log_p), -1), log_p.detach(), "amax")
    summed = log_p.new_zeros(largest.shape).index_add(1, group, (log_p - largest[:, group]).exp())
    return largest + summed.log()


def level_losses(logits: Tensor, wanted: Tensor, levels: Tensor, groups: Sequence[int]) -> list[Tensor]:
    """Return for each level, the finest first, [R] minus the log-probability of what is wanted.

    Args:
        logits: [R, K].
        wanted: int64 [R] meta-cells.
        levels: int64 [K, n] group of each at n coarser levels.
        groups: n numbers of groups.
    """
    log_p = logits.float().log_softmax(dim=1)
    found = [-log_p.gather(1, wanted[:, None])[:, 0]]
    for number, n_groups in enumerate(groups):
        group = levels[:, number]
        of_level = level_log_probabilities(log_p, group, n_groups)
        found.append(-of_level.gather(1, group[wanted][:, None])[:, 0])
    return found
