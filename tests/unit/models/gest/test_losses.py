from __future__ import annotations

import torch

from mistline.models.gest.losses import level_log_probabilities, level_losses

GROUP = torch.tensor([0, 1, 0, 3, 1, 3])  # group 2 has no member


def test_groups_of_a_level_sum_to_one_however_unlikely_they_are():
    logits = torch.tensor([[0.0, 1, 2, 3, 4, 5], [0.0, 0, 0, 900, 0, 0]])
    found = level_log_probabilities(logits.log_softmax(1), GROUP, 4)
    torch.testing.assert_close(found.logsumexp(1), torch.zeros(2))
    p = logits[0].softmax(0)
    torch.testing.assert_close(found[0].exp(), torch.tensor([p[0] + p[2], p[1] + p[4], 0.0, p[3] + p[5]]))
    torch.testing.assert_close(found[1, :2], torch.full((2,), -900 + torch.tensor(2.0).log()))


def test_each_level_is_the_group_s_cross_entropy_with_finite_gradients():
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    wanted = torch.tensor([0, 1, 3, 5, 2])
    fine, coarse = level_losses(logits, wanted, GROUP[:, None], (4,))
    torch.testing.assert_close(fine, torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
    p = logits.softmax(1)
    summed = torch.stack([p[i, GROUP[w] == GROUP].sum() for i, w in enumerate(wanted)])
    torch.testing.assert_close(coarse, -summed.log())
    (fine.sum() + coarse.sum()).backward()
    assert torch.isfinite(logits.grad).all()
