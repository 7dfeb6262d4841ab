"""A U-Net on merged tokens: what it changes, what it leaves, and that nothing of it stays behind."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from mistline.config.generation import Merge
from mistline.core.errors import InputError
from mistline.models.diffusion import merged
from mistline.models.diffusion.merged import bipartite, merging
from mistline.models.diffusion.unet import SIZES, build
from mistline.models.layers.merging import token_map
from mistline.train.device import cpu_threads

SIDE = 8


@pytest.fixture(autouse=True)
def _one_thread():
    """Several threads may add up in another order each time, and bits are compared here."""
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return build(SIZES["tiny"], 3, 16).eval()


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images with and without condition."""
    draw = torch.Generator().manual_seed(0)
    latents, tokens = torch.randn(2, 3, SIDE, SIDE, generator=draw), torch.randn(4, 4, 16, generator=draw)
    return latents.repeat(2, 1, 1, 1), tokens


def _step(unet, batch) -> torch.Tensor:
    with torch.no_grad():
        return unet(batch[0], 10, encoder_hidden_states=batch[1], class_labels=batch[1].flatten(1)).sample


def _merge(**options) -> Merge:
    return Merge(**{"way": "cfg", "ratio": 0.5, "smallest": 16, **options})


def _prediction(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="module")
def plain(unet, batch) -> torch.Tensor:
    return _step(unet, batch)


def _is_untouched(unet: UNet2DConditionModel) -> bool:
    parts = list(unet.modules())
    left = [part for part in parts if {"forward", "_tome_info"} & set(vars(part)) or part._forward_pre_hooks]
    return not left and not any(type(part).__name__ == "ToMeBlock" for part in parts)


@pytest.mark.parametrize("way", ["none", "cfg", "tomesd"])
def test_no_token_merged_is_the_same_bit_for_bit(unet, batch, plain, way):
    with merging(unet, _merge(way=way, ratio=0.0)) as handle:
        handle.observe(*_prediction(0))
        assert torch.equal(_step(unet, batch), plain)


@pytest.mark.parametrize("way", ["cfg", "tomesd"])
def test_merging_changes_a_step_a_little_and_leaves_no_trace(unet, batch, plain, way):
    with merging(unet, _merge(way=way)) as handle:
        handle.observe(*_prediction(0))
        drawn = _step(unet, batch)
        assert not _is_untouched(unet)
    assert 0 < (drawn - plain).square().mean() < 0.1 * plain.square().mean()
    assert _is_untouched(unet)
    assert torch.equal(_step(unet, batch), plain)


def test_nothing_stays_behind_a_failure(unet):
    for way in ("cfg", "tomesd"):
        with pytest.raises(ZeroDivisionError), merging(unet, _merge(way=way)):
            raise ZeroDivisionError
    assert _is_untouched(unet)


def _widths(unet, step) -> list[tuple[str, int, int]]:
    """Return for every branch of a step's transformer blocks its channels and the tokens that it saw."""
    seen: list[tuple[str, int, int]] = []
    hooks = []
    for block in (part for part in unet.modules() if isinstance(part, BasicTransformerBlock)):
        for name, first in (("self", block.attn1.to_v), ("cross", block.attn2.to_q), ("forward", block.ff.net[0])):
            hooks.append(
                first.register_forward_pre_hook(lambda _, x, name=name: seen.append((name, *x[0].shape[:0:-1])))
            )
    step()
    for hook in hooks:
        hook.remove()
    return seen


def test_every_branch_from_the_smallest_level_on_is_merged_after_the_first_step(unet, batch):
    for smallest, top, bottom in ((16, 32, 8), (17, 32, 16), (65, 64, 16)):
        with merging(unet, _merge(smallest=smallest)) as handle:
            for first, second in ((64, 16), (top, bottom)):  # nothing is observed yet; then the first step is
                wanted = {
                    (name, *level) for name in ("self", "cross", "forward") for level in ((32, first), (64, second))
                }
                assert set(_widths(unet, lambda: _step(unet, batch))) == wanted
                handle.observe(*_prediction(0))


def test_both_halves_share_the_conditional_half_s_map(unet, batch):
    latents, tokens = batch
    alike = (latents, tokens[:2].repeat(2, 1, 1))
    other = (torch.cat([latents[:2], latents[:2] + 1]), tokens)
    for given in (alike, other):
        with merging(unet, _merge()) as handle:
            handle.observe(*_prediction(0))
            both = _step(unet, given)
        with merging(unet, _merge()) as handle:
            handle.observe(*_prediction(0))
            half = _step(unet, (given[0][:2], given[1][:2]))
        assert both[:2].numpy() == pytest.approx(half.numpy(), abs=1e-5)
        assert torch.allclose(both[2:], half, atol=1e-5) == (given is alike)


def test_a_map_is_made_once_a_step_and_kept_for_as_many_as_asked(unet, batch, monkeypatch):
    made = []
    monkeypatch.setattr(merged, "token_map", lambda *given: made.append(1) or token_map(*given))
    for refresh, n_maps in ((1, [2, 4, 6]), (2, [2, 2, 4])):
        made.clear()
        counts = []
        with merging(unet, _merge(refresh=refresh)) as handle:
            for seed in range(3):
                handle.observe(*_prediction(seed))
                _step(unet, batch)
                counts.append(len(made))
        assert counts == n_maps, "one for each of two levels"


def test_more_tokens_merged_is_less_exact(unet, batch, plain):
    errors = []
    for ratio in (0.1, 0.5, 0.9):
        with merging(unet, _merge(ratio=ratio)) as handle:
            handle.observe(*_prediction(0))
            errors.append(float((_step(unet, batch) - plain).square().mean()))
    assert errors == sorted(errors)


def test_tomesd_draws_the_same_each_time(unet, batch):
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with bipartite(unet, 0.5, reduction=2, whole=True):
            drawn.append(_step(unet, batch))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("way", ["cfg", "tomesd"])
def test_a_network_without_transformer_blocks_is_refused(way):
    bare = UNet2DConditionModel(
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        block_out_channels=(32,),
        layers_per_block=1,
        cross_attention_dim=8,
    )
    with pytest.raises(InputError, match="no transformer blocks"), merging(bare, _merge(way=way)):
        pass


@pytest.mark.parametrize(("outer", "inner"), [("cfg", "tomesd"), ("tomesd", "cfg"), ("cfg", "cfg")])
def test_merging_twice_is_refused(unet, outer, inner):
    with (
        merging(unet, _merge(way=outer)),
        pytest.raises(InputError, match="merged already"),
        merging(unet, _merge(way=inner)),
    ):
        pass
    assert _is_untouched(unet)


def test_another_batch_needs_another_merging(unet, batch):
    with merging(unet, _merge()) as handle:
        handle.observe(*_prediction(0))
        with pytest.raises(InputError, match="3 images after a step of 2"):
            _step(unet, (batch[0][:3], batch[1][:3]))
