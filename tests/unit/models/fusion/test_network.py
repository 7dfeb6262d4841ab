from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from mistline.graphs.build import nearest
from mistline.models.fusion.encoders import GeneEncoder, normalise_rows
from mistline.models.fusion.graph import Places, adjacencies, edges_of, table_of
from mistline.models.fusion.layers import GraphEncoder
from mistline.models.fusion.mixing import CrossAttention, NeighbourAttention
from mistline.models.fusion.network import Inputs, Network, Sizes
from mistline.models.fusion.params import Neighbours, Params

PUBLISHED = {
    "expr_only": 808_055,
    "gat_only": 402_567,
    "gcn_only": 402_055,
    "concat": 842_999,
    "gated": 908_279,
    "cross_attention": 1_107_063,
    "multimodal": 1_423_095,
}


def graph_with_a_loner(n: int = 30, seed: int = 0) -> sparse.csr_matrix:
    joined = nearest(np.random.default_rng(seed).uniform(0, 100, (n, 2)), 4).tolil()
    joined[3], joined[:, 3] = False, False
    return sparse.csr_matrix(joined)


def dense(joined: sparse.csr_matrix) -> torch.Tensor:
    return torch.from_numpy(joined.toarray())


@pytest.mark.parametrize(("preset", "n"), PUBLISHED.items())
def test_parameters_are_those_published(preset, n):
    params = Params(preset=preset, frozen_image="resnet" if preset == "multimodal" else None)
    network = Network(params, Sizes(3000, 0, 2048, 7))
    assert sum(weight.numel() for weight in network.parameters()) == n


@pytest.mark.parametrize(("width", "n"), [(512, 66_688), (768, 99_968)])
def test_projections_are_those_published(width, n):
    network = Network(Params(preset="frozen_only", frozen="other"), Sizes(0, width, 0, 7))
    assert sum(weight.numel() for weight in network.parameters()) - 903 == n


def test_folded_encoder_is_norm_then_layers():
    torch.manual_seed(0)
    encoder = GeneEncoder(20, 16, 8, 0.1).eval()
    nn.init.normal_(encoder.norm.weight)
    nn.init.normal_(encoder.norm.bias)
    rows = torch.randn(9, 20) * 5
    plain = encoder.second(nn.functional.gelu(encoder.first(encoder.norm(rows))))
    torch.testing.assert_close(encoder(normalise_rows(rows)), plain, atol=1e-5, rtol=1e-5)


def test_gcn_layer_is_the_normalised_adjacency():
    torch.manual_seed(0)
    joined = graph_with_a_loner()
    layer = GraphEncoder("gcn", 12, 8, 4, 1, 0.0).eval()
    closed = dense(joined).float() + torch.eye(30)
    scale = closed.sum(1) ** -0.5
    features = torch.randn(30, 12)
    convolution = layer.convolutions[0]
    mixed = (scale[:, None] * closed * scale) @ (features @ convolution.lin.weight.T) + convolution.bias
    expected = nn.functional.elu(layer.norms[0](mixed))
    torch.testing.assert_close(layer(features, [edges_of(joined)]), expected, atol=1e-5, rtol=1e-5)


def test_gat_layer_is_softmax_over_closed_neighbours():
    torch.manual_seed(0)
    joined = graph_with_a_loner()
    layer = GraphEncoder("gat", 12, 8, 2, 1, 0.0).eval()
    convolution = layer.convolutions[0]
    features = torch.randn(30, 12)
    heads = (features @ convolution.lin.weight.T).view(30, 2, 4)
    sender, receiver = (heads * convolution.att_src).sum(-1), (heads * convolution.att_dst).sum(-1)
    score = nn.functional.leaky_relu(receiver[:, None] + sender[None], 0.2)  # [receiver, sender, head]
    closed = dense(joined) | torch.eye(30, dtype=torch.bool)
    share = score.masked_fill(~closed[..., None], float("-inf")).softmax(1)
    mixed = torch.einsum("rsh,shd->rhd", share, heads).reshape(30, 8) + convolution.bias
    expected = nn.functional.elu(layer.norms[0](mixed))
    torch.testing.assert_close(layer(features, [edges_of(joined)]), expected, atol=1e-5, rtol=1e-5)


def test_attention_is_torchs_over_the_table():
    torch.manual_seed(0)
    joined = graph_with_a_loner()
    table = table_of(joined, None, with_self=False)
    ours, theirs = NeighbourAttention(16, 4, 0.0, False), nn.MultiheadAttention(16, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours.load_state_dict(theirs.state_dict())
    query, memory = torch.randn(30, 16), torch.randn(30, 16)
    near = memory[table.index]
    expected, _ = theirs(query[:, None], near, near, key_padding_mask=table.absent)
    torch.testing.assert_close(ours(query, memory, table), expected[:, 0], atol=1e-5, rtol=1e-5)


def test_an_isolated_cell_asks_itself_and_others_do_not():
    table = table_of(graph_with_a_loner(), None, with_self=False)
    assert table.itself.sum(1).tolist() == [int(i == 3) for i in range(30)]
    everyone = table_of(graph_with_a_loner(), None, with_self=True)
    assert everyone.itself.sum(1).tolist() == [1] * 30


def test_bias_starts_at_nothing_and_then_counts():
    torch.manual_seed(0)
    xy = np.random.default_rng(0).uniform(0, 5, (30, 2))
    table = table_of(graph_with_a_loner(), xy, with_self=True)
    attention = CrossAttention(16, 4, 1, 0.0, True).eval()
    own, near = torch.randn(30, 16), torch.randn(30, 16)
    before = attention(own, near, table)
    plain = CrossAttention(16, 4, 1, 0.0, False).eval()
    plain.load_state_dict(attention.state_dict(), strict=False)
    torch.testing.assert_close(plain(own, near, table), before)
    nn.init.normal_(attention.attentions[0].place.weight)
    assert (attention(own, near, table) - before).abs().max() > 1e-3


def test_no_gradient_passes_between_two_cells_that_are_not_joined():
    params = Params(preset="cross_attention", official=False, width=16, hidden=16, graph_layers=1)
    network = Network(params, Sizes(5, 0, 0, 3)).eval()
    line = sparse.diags([True, True], [1, -1], shape=(9, 9), format="csr", dtype=bool)
    rows = torch.randn(9, 5, requires_grad=True)
    xy = np.column_stack([np.arange(9.0), np.zeros(9)])
    graph = _graph(line, xy)
    network(Inputs(genes=rows, graph=graph))[0].sum().backward()
    assert (rows.grad.abs().sum(1) > 0).tolist() == [True] * 3 + [False] * 6  # attention, then one layer


def _graph(joined, xy):
    from mistline.models.fusion.graph import Graph

    return Graph((edges_of(joined),), table_of(joined, xy, with_self=True))


def test_slides_are_never_joined():
    rng = np.random.default_rng(0)
    places = [Places(name, rng.uniform(0, 100, (n, 2)), None) for name, n in (("a", 20), ("b", 30))]
    joined = adjacencies(places, Neighbours(k=(3, 5)))
    assert len(joined) == 2
    for graph, k in zip(joined, (3, 5), strict=True):
        assert not graph[:20, 20:].nnz
        assert (graph != graph.T).nnz == 0
        np.testing.assert_array_equal(graph[20:, 20:].toarray(), nearest(places[1].xy_um, k).toarray())
