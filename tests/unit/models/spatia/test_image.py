from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mistline.models.spatia.channels import MEAN, STD, Channels, centred
from mistline.models.spatia.image import N_FIRST, SCALES, ImageEncoder
from mistline.models.spatia.image_decoder import FULL_WEIGHT, ImageDecoder, pixel_loss, targets
from mistline.models.spatia.image_sizes import IMAGE_SIZES
from mistline.models.spatia.patches import complement, draw_keep, patchify, positions, take, unpatchify

TINY = IMAGE_SIZES["tiny"]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, channels=1, seed=0, size=TINY.size):
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=draw(seed))


def pair(channels=1, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageEncoder(TINY, channels).eval(), ImageDecoder(TINY, channels).eval()


def count(module, but=()):
    return sum(value.numel() for name, value in module.state_dict().items() if not name.startswith(tuple(but)))


def vit_mae_counts(sizes):
    """Return what ViT-MAE of these sizes has, by hand: encoder, decoder."""

    def blocks(depth, width, mlp):
        norms, attention = 2 * 2 * width, 4 * (width * width + width)
        return depth * (norms + attention + width * mlp + mlp + mlp * width + width)

    pixels = 3 * sizes.patch**2
    width, inner, n_places = sizes.width, sizes.decoder_width, sizes.n_patches + 1
    encoder = width + n_places * width + pixels * width + width + blocks(sizes.depth, width, sizes.mlp) + 2 * width
    decoder = width * inner + inner + inner + n_places * inner + blocks(sizes.decoder_depth, inner, sizes.decoder_mlp)
    return encoder, decoder + 2 * inner + inner * pixels + pixels


@pytest.mark.parametrize(("channels", "patch"), [(1, 8), (3, 4), (5, 16)])
def test_patches_are_the_image_in_reading_order(channels, patch):
    image = images(2, channels)
    patches = patchify(image, patch)
    assert torch.equal(unpatchify(patches, patch), image)
    side = TINY.size // patch
    for number in (0, 1, side, side * side - 1):
        row, column = divmod(number, side)
        cut = image[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        assert torch.equal(patches[:, number], cut.permute(0, 2, 3, 1).flatten(1))


def test_masks_reproduce_and_are_of_every_image_by_itself():
    keep = draw_keep(50, 16, 0.75, draw(1))
    assert keep.shape == (50, 4)
    assert torch.equal(keep, draw_keep(50, 16, 0.75, draw(1)))
    assert not torch.equal(keep, draw_keep(50, 16, 0.75, draw(2)))
    assert (keep.diff(dim=1) > 0).all()
    assert len(set(map(tuple, keep.tolist()))) > 40
    assert torch.bincount(keep.flatten(), minlength=16).min() > 0
    hidden = complement(keep, 16)
    both = torch.cat([keep, hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(16).expand(50, -1))
    assert (hidden.diff(dim=1) > 0).all()


def test_no_mask_draws_nothing():
    generator = draw()
    before = generator.get_state()
    assert draw_keep(3, 16, 0, generator) is None
    assert torch.equal(generator.get_state(), before)


def test_paper_keeps_49_of_196():
    assert draw_keep(2, IMAGE_SIZES["paper"].n_patches, 0.75, draw()).shape == (2, 49)
    assert draw_keep(1, 4, 0.99, draw()).shape == (1, 1)


def test_positions_are_sines_and_cosines_of_column_then_row():
    found = positions(3, 8).numpy()
    assert found.shape == (10, 8)
    assert not found[0].any()
    row, column = 1, 2
    expected = []
    for place in (column, row):
        angle = place / 10000.0 ** (np.arange(2) / 2)
        expected += [*np.sin(angle), *np.cos(angle)]
    np.testing.assert_allclose(found[1 + 3 * row + column], expected, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("light", [False, True])
def test_kernel_folds_mixing_and_scaling(channels, light):
    """Against mixing, scaling and convolving the image one after the other."""
    given = images(3, channels)
    stains = Channels(channels).double()
    if channels == 4:
        torch.nn.init.normal_(stains.mix, generator=draw())
    weight, bias = torch.randn(6, 3, 8, 8, generator=draw()), torch.randn(6, generator=draw())
    mix = {1: torch.ones(3, 1), 3: torch.eye(3), 4: stains.mix.detach().float() if channels == 4 else None}[channels]
    colours = torch.einsum("kc,bcyx->bkyx", mix, given / 255)
    scaled = (colours - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    expected = functional.conv2d(scaled, weight, bias, stride=8).flatten(2).transpose(1, 2)
    patches = centred(patchify(given / 255 if light else given, 8)).double()
    found = functional.linear(patches, *stains.kernel(weight.double(), bias.double()))
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-4)


def test_encoder_sees_all_and_draws_nothing_without_keep():
    encoder, _ = pair()
    image, side = images(5), torch.full((5,), 20.0)
    state = torch.get_rng_state()
    tokens = encoder(image, side, "cell")
    assert tokens.shape == (5, N_FIRST + TINY.n_patches, TINY.width)
    assert torch.equal(tokens, encoder.train()(image, side, "cell"))
    assert torch.equal(state, torch.get_rng_state())
    all_of_them = torch.arange(TINY.n_patches).expand(5, -1)
    torch.testing.assert_close(encoder(image, side, "cell", all_of_them), tokens)
    torch.testing.assert_close(encoder(image / 255, side, "cell"), tokens, rtol=1e-4, atol=1e-5)


def test_hidden_patches_do_not_matter():
    encoder, _ = pair()
    image, side = images(2), torch.full((2,), 20.0)
    keep = draw_keep(2, 16, 0.75, draw())
    other = patchify(images(2, seed=9), 8).scatter(
        1, keep[:, :, None].expand(-1, -1, 64), take(patchify(image, 8), keep)
    )
    found = encoder(image, side, "cell", keep)
    assert found.shape == (2, N_FIRST + 4, TINY.width)
    assert torch.equal(found, encoder(unpatchify(other, 8), side, "cell", keep))


def test_side_and_scale_are_read():
    encoder, _ = pair()
    image = images(2)
    same = encoder(image, torch.tensor([10.0, 10.0]), "cell")
    other = encoder(image, torch.tensor([10.0, 40.0]), "cell")
    assert torch.equal(same[0], other[0])
    assert not torch.allclose(same[1], other[1])
    # An untrained scale changes nothing, so that weights from elsewhere start as they were.
    assert torch.equal(same, encoder(image, torch.tensor([10.0, 10.0]), "tissue"))
    torch.nn.init.normal_(encoder.scale, generator=draw())
    found = [encoder(image, torch.tensor([10.0, 10.0]), scale) for scale in SCALES]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[1], found[2])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 24, 24)])
def test_other_images_are_refused(shape):
    with pytest.raises(ValueError, match="given to an encoder"):
        pair()[0](torch.zeros(2, *shape), torch.ones(2), "cell")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixel_loss_by_hand(channels):
    encoder, decoder = pair(channels)
    image = images(2, channels)
    keep = draw_keep(2, 16, 0.75, draw())
    tokens = encoder(image, torch.full((2,), 20.0), "cell", keep)
    found = decoder(tokens, keep).detach().numpy()  # [2, 16, 64 C]
    light = image.numpy() / 255.0
    if channels == 3:
        light = (light - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    errors = []
    for i in range(2):
        for number in sorted(set(range(16)) - set(keep[i].tolist())):
            row, column = divmod(number, 4)
            patch = light[i, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].transpose(1, 2, 0).ravel()
            target = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
            errors.append(((found[i, number] - target) ** 2).mean())
    assert pixel_loss(decoder, tokens, image, keep).item() == pytest.approx(np.mean(errors), rel=1e-4)


def test_decoder_gives_the_patches_asked_for():
    encoder, decoder = pair()
    keep = draw_keep(2, 16, 0.75, draw())
    tokens = encoder(images(2), torch.full((2,), 20.0), "cell", keep)
    asked = complement(keep, 16).flip(1)
    every = decoder(tokens, keep)
    assert every.shape == (2, 16, 64)
    torch.testing.assert_close(decoder(tokens, keep, asked), take(every, asked))


def test_loss_of_all_patches_is_a_tenth():
    encoder, decoder = pair()
    image = images(2)
    tokens = encoder(image, torch.full((2,), 20.0), "cell")
    expected = (decoder(tokens) - targets(patchify(image, 8), 1)).square().mean()
    torch.testing.assert_close(pixel_loss(decoder, tokens, image, None), FULL_WEIGHT * expected)


def test_black_patches_give_no_nan():
    encoder, decoder = pair()
    image = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    keep = draw_keep(2, 16, 0.75, draw())
    loss = pixel_loss(decoder, encoder(image, torch.full((2,), 20.0), "cell", keep), image, keep)
    loss.backward()
    assert loss.isfinite()
    assert all(value.grad is None or value.grad.isfinite().all() for value in encoder.parameters())


def test_every_weight_learns_and_a_few_images_are_learnt():
    encoder, decoder = pair(4)
    ramp = torch.arange(32).float()[None, :] * torch.linspace(-1, 1, 8)[:, None]
    image = (ramp[:, None, None, :] * 3 + 128).expand(8, 4, 32, 32).to(torch.uint8)
    side = torch.linspace(10, 30, 8)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=2e-3)
    losses = []
    for step in range(60):
        keep = draw_keep(8, 16, 0.75, draw(step))
        loss = pixel_loss(decoder, encoder(image, side, "niche", keep), image, keep)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    named = [*encoder.named_parameters(), *decoder.named_parameters()]
    assert all(value.grad is not None and value.grad.any() for _, value in named)
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("name", IMAGE_SIZES)
def test_weights_are_as_many_as_those_of_vit_mae(name):
    sizes = IMAGE_SIZES[name]
    with torch.device("meta"):
        encoder, decoder = ImageEncoder(sizes, 3), ImageDecoder(sizes, 3)
    found = count(encoder, but=("side.", "scale")), count(decoder)
    assert found == vit_mae_counts(sizes)
    if name == "paper":
        assert found[0] == 85_798_656  # what is published of ViT-MAE base, its fixed positions among them
        assert sum(found) == 111_907_840
    own = 2 * sizes.width + len(SCALES) * sizes.width
    assert count(encoder) - found[0] == own


def test_named_sizes_are_those_of_the_paper():
    paper = IMAGE_SIZES["paper"]
    assert (paper.depth, paper.width, paper.mlp, paper.heads) == (12, 768, 3072, 12)
    assert (paper.decoder_depth, paper.decoder_width, paper.decoder_mlp, paper.decoder_heads) == (8, 512, 2048, 16)
    assert paper.n_patches == 196
    assert (TINY.size, TINY.width, TINY.depth) == (32, 64, 4)


@pytest.mark.parametrize(
    ("change", "told"), [({"patch": 7}, "size"), ({"heads": 5}, "heads"), ({"decoder_heads": 3}, "decoder_heads")]
)
def test_sizes_that_do_not_fit_are_refused(change, told):
    with pytest.raises(ValueError, match=told):
        replace(TINY, **change)


@pytest.mark.parametrize("mlp", [100, 128, 200, 256, 511])
def test_blocks_have_the_hidden_width_asked_for(mlp):
    assert ImageEncoder(replace(TINY, width=48, mlp=mlp), 1).blocks[0].mlp.fc1.out_features == mlp


def test_a_quarter_of_the_patches_costs_about_a_quarter():
    """By floating-point operations; the benchmark `spatia` measures seconds."""
    encoder = ImageEncoder(replace(TINY, size=112), 1)  # 196 patches, as in the paper
    image, side = images(2, size=112), torch.full((2,), 20.0)
    cost = []
    for kept in (None, draw_keep(2, 196, 0.75, draw())):
        with FlopCounterMode(display=False) as counter:
            encoder(image, side, "cell", kept)
        cost.append(counter.get_total_flops())
    assert 0.15 < cost[1] / cost[0] < 0.27


def test_bfloat16_stays_near():
    encoder, _ = pair()
    image, side = images(4), torch.full((4,), 20.0)
    exact = encoder(image, side, "cell")
    with torch.autocast("cpu", torch.bfloat16):
        near = encoder(image, side, "cell")
    assert (near - exact).norm() < 0.02 * exact.norm()
