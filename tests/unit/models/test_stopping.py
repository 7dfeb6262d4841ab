from __future__ import annotations

from types import SimpleNamespace

import torch

from mistline.models.stopping import stopped


def trained(losses, patience):
    net = torch.nn.Linear(1, 1, bias=False)
    settings = SimpleNamespace(steps=20, learning_rate=0.1, weight_decay=0.0, validate_every=1, patience=patience)
    seen, told = [], iter(losses)

    def validated():
        seen.append(net.weight.item())
        return next(told)

    rows = list(stopped(net, settings, lambda: net.weight.sum(), validated))
    return net.weight.item(), seen, rows


def test_the_weights_of_the_lowest_loss_are_kept_and_waiting_ends():
    weight, seen, rows = trained([3.0, 1.0, 2.0, 2.5, 9.0], patience=2)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert weight == seen[1] != seen[3]
