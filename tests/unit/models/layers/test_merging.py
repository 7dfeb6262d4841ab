"""Section 10's equations written out densely, and the properties that it asks for."""

import math

import numpy as np
import pytest
import torch

from mistline.models.layers.merging import Pairs, TokenMap, choose, importance, join, n_anchors, similarity, token_map

H, W, HEADS, WIDTH = 6, 5, 2, 8
N = H * W


@pytest.fixture(scope="module")
def given() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    names = {"tokens": (2, N, WIDTH), "query": (2, N, WIDTH), "key": (2, N, WIDTH), "matters": (2, N)}
    return {name: torch.rand(shape, generator=draw) - 0.4 for name, shape in names.items()}


def _pairs(given: dict[str, torch.Tensor], ratio: float, kappa=0.2, overlap=4, sides=None) -> Pairs:
    chosen = choose(given["matters"], n_anchors(N, ratio), sides)
    query, key = (
        given[name].take_along_dim(i[:, :, None], 1) for name, i in zip(("query", "key"), chosen, strict=True)
    )
    return join(chosen, similarity(query, key, HEADS), kappa, overlap)


def _made(given: dict[str, torch.Tensor], ratio: float, **options) -> TokenMap:
    return token_map(_pairs(given, ratio, **options))


def _there_and_back(made: TokenMap, tokens: torch.Tensor) -> torch.Tensor:
    return made.unmerge.of(made.merge.of(tokens))


def _by_the_equations(given, image: int, ratio: float, kappa: float, overlap: int):
    """Return merged tokens [M, C] and what un-merging makes of them [N, C], token by token."""
    x, q, k, matters = (given[name][image].numpy() for name in ("tokens", "query", "key", "matters"))
    n_kept = math.ceil((1 - ratio) * N)
    anchors = sorted(np.argsort(-matters)[:n_kept])
    weight = np.zeros((n_kept, N))
    for j in set(range(N)) - set(anchors):
        cosine = []
        for i in anchors:
            parts = zip(np.split(q[i], HEADS), np.split(k[j], HEADS), strict=True)
            cosine.append(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in parts]))
        best = np.argsort(-np.array(cosine))[:overlap]
        for i in best:
            weight[i, j] = cosine[i] if cosine[i] >= kappa else 0
        if not weight[:, j].any():
            weight[best[0], j] = max(cosine[best[0]], 1e-3)
    merged = (x[anchors] + weight @ x) / (1 + weight.sum(1, keepdims=True))
    back = np.stack(
        [merged[anchors.index(j)] if j in anchors else weight[:, j] @ merged / weight[:, j].sum() for j in range(N)]
    )
    return merged, back


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
@pytest.mark.parametrize(("kappa", "overlap"), [(0.2, 4), (0.5, 1), (-0.2, 30), (0.99, 4)])
def test_merging_is_what_the_equations_say(given, ratio, kappa, overlap):
    made = _made(given, ratio, kappa=kappa, overlap=overlap)
    merged, back = made.merge.of(given["tokens"]), _there_and_back(made, given["tokens"])
    for image in range(2):
        expected = _by_the_equations(given, image, ratio, max(kappa, 1e-3), overlap)
        assert merged[image].numpy() == pytest.approx(expected[0], abs=1e-5)
        assert back[image].numpy() == pytest.approx(expected[1], abs=1e-5)


def test_nothing_merged_is_the_identity(given):
    assert torch.equal(_there_and_back(_made(given, 0.0), given["tokens"]), given["tokens"])


@pytest.mark.parametrize("sides", [None, (H, W)])
def test_constants_are_kept_and_rows_sum_to_one(given, sides):
    made = _made(given, 0.6, sides=sides)
    assert _there_and_back(made, torch.full((2, N, 3), 2.5)).numpy() == pytest.approx(2.5, abs=1e-5)
    n_kept = n_anchors(N, 0.6)
    matrix = made.unmerge.of(torch.eye(n_kept).expand(2, -1, -1).contiguous())
    assert matrix.shape == (2, N, n_kept)
    assert (matrix >= 0).all()
    assert matrix.sum(2).numpy() == pytest.approx(1, abs=1e-5)
    assert (matrix.max(1).values == 1).all(), "an anchor takes its own token back"


def test_order_of_tokens_does_not_matter(given):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    moved = {name: values[:, order] for name, values in given.items()}
    expected = _there_and_back(_made(given, 0.5), given["tokens"])[:, order]
    assert _there_and_back(_made(moved, 0.5), moved["tokens"]).numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_token_like_no_anchor_joins_its_best_one(given):
    pairs = _pairs(given, 0.5, kappa=1.0)
    assert ((pairs.weight > 0).sum(2) == 1).all()
    opposite = {
        **given,
        "key": -given["query"][:, :1].expand(-1, N, -1),
        "query": given["query"][:, :1].expand(-1, N, -1),
    }
    assert _pairs(opposite, 0.5).weight[:, :, 0].numpy() == pytest.approx(1e-3)


def test_no_token_joins_more_anchors_than_allowed(given):
    assert _pairs(given, 0.5, kappa=-1.0, overlap=3).weight.shape[2] == 3
    assert _pairs(given, 0.9, kappa=-1.0, overlap=30).weight.shape[2] == 3, "there are only three"


def test_anchors_are_the_most_important_tokens(given):
    anchor, other = choose(given["matters"], 7)
    for image in range(2):
        assert anchor[image].tolist() == sorted(given["matters"][image].argsort(descending=True)[:7].tolist())
        assert sorted([*anchor[image].tolist(), *other[image].tolist()]) == list(range(N))


def test_every_square_has_an_anchor_where_there_is_room(given):
    n_squares = 9  # of 6 x 5 tokens
    square = (torch.arange(N) // W // 2) * 3 + torch.arange(N) % W // 2
    matters = given["matters"].clone()
    matters[:, square < 4] += 10  # where plain choice would look alone
    for n_kept in (n_squares, 15):
        anchor = choose(matters, n_kept, (H, W))[0]
        assert all(len(square[row].unique()) == n_squares for row in anchor)
    assert len(square[choose(matters, n_squares)[0][0]].unique()) < n_squares
    few = choose(matters, 4, (H, W))[0]
    assert all(sorted(square[row].tolist()) == [0, 1, 2, 3] for row in few), "too few anchors: the best squares"


def test_importance_is_the_pooled_change_of_the_prediction():
    conditional, unconditional = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    conditional[0, 0, 0, 0], unconditional[0, 1, 3, 3] = -8.0, 16.0
    assert importance(conditional, unconditional, (2, 2)).tolist() == [[1.0, 0.0, 0.0, 2.0]]


def test_both_halves_of_a_batch_share_a_map(given):
    pairs = _pairs(given, 0.5)
    both = token_map(pairs, repeats=2)
    tokens = torch.cat([given["tokens"], given["tokens"] + 1])
    merged = both.merge.of(tokens)
    once = token_map(pairs)
    assert torch.equal(merged[:2], once.merge.of(tokens[:2]))
    assert torch.equal(both.unmerge.of(merged)[2:], _there_and_back(once, tokens[2:]))


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 10), (0.5, 5), (0.25, 8), (0.75, 3), (0.9, 1)])
def test_what_is_left_is_rounded_up(ratio, kept):
    assert n_anchors(10, ratio) == kept
