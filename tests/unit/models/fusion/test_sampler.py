from __future__ import annotations

import numpy as np

from mistline.graphs.build import nearest
from mistline.models.fusion.graph import edges_of
from mistline.models.fusion.sampler import Sampler, draw_batches, patch_order


def _graph(n=400, seed=0):
    xy = np.random.default_rng(seed).uniform(0, 20, (n, 2))
    return xy, nearest(xy, 5)


def test_every_seed_once_and_patches_together():
    xy, _ = _graph()
    order = patch_order(xy, np.zeros(400, dtype=np.int64))
    seeds = np.flatnonzero(np.arange(400) % 3)
    batches = list(draw_batches(order, seeds, 128, np.random.default_rng(0)))
    assert np.array_equal(np.sort(np.concatenate(batches)), seeds)
    assert max(map(len, batches)) == 128


def test_all_neighbours_of_all_rings_are_there():
    _, graph = _graph()
    seeds = np.array([7, 300, 12])
    drawn = Sampler([graph, graph], graph).draw(seeds, None, None)
    rings = graph + graph @ graph + graph @ graph @ graph
    assert drawn.nodes[:3].tolist() == seeds.tolist()
    expected = set(np.flatnonzero(np.asarray(rings[seeds].sum(axis=0)).ravel())) | set(seeds.tolist())
    assert set(drawn.nodes.tolist()) == expected
    local = drawn.table[:3].toarray()
    np.testing.assert_array_equal(local, graph[seeds][:, drawn.nodes].toarray())


def test_a_draw_has_at_most_the_fanout_and_only_neighbours():
    _, graph = _graph()
    seeds = np.arange(50)
    drawn = Sampler([graph], None).draw(seeds, 2, np.random.default_rng(0))
    local = drawn.graphs[0]
    assert local[:50].sum(axis=1).max() == 2
    row, column = local.nonzero()
    assert graph[drawn.nodes[row], drawn.nodes[column]].all()
    other = Sampler([graph], None).draw(seeds, 2, np.random.default_rng(1))
    assert set(other.nodes.tolist()) != set(drawn.nodes.tolist())


def test_drawn_neighbours_stand_for_all_on_average():
    _, graph = _graph(60)
    degree = np.diff(graph.indptr).astype(np.int64)
    values = np.random.default_rng(5).normal(size=60)
    whole = np.zeros(60)
    full = edges_of(graph)
    np.add.at(whole, full.index[1].numpy(), full.weight.numpy() * values[full.index[0].numpy()])
    total, rounds = np.zeros(60), 400
    rng = np.random.default_rng(0)
    sampler = Sampler([graph], None)
    for _ in range(rounds):
        drawn = sampler.draw(np.arange(60), 3, rng)
        part = edges_of(drawn.graphs[0], degree[drawn.nodes])
        sent = part.weight.numpy() * values[drawn.nodes[part.index[0].numpy()]]
        np.add.at(total, drawn.nodes[part.index[1].numpy()], sent)
    assert np.abs(total / rounds - whole).max() < 0.12
