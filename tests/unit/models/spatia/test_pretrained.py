from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.models.contract import Context
from mistline.models.spatia.channels import MEAN, STD
from mistline.models.spatia.image import ImageEncoder
from mistline.models.spatia.image_decoder import ImageDecoder
from mistline.models.spatia.model import Model
from mistline.models.spatia.params import Params
from mistline.models.spatia.pretrained import load
from tests.unit.models.spatia.vit_mae import SIZES, plain_features, plain_pixels, timm_weights, transformers_weights

HEADS = {"num_attention_heads": SIZES.heads, "decoder_num_attention_heads": SIZES.decoder_heads}


def pair(channels=3, sizes=SIZES, seed=7):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageEncoder(sizes, channels).eval(), ImageDecoder(sizes, channels).eval()


def written(folder, weights, notes=HEADS, name="model.safetensors"):
    path = folder / name
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
    else:
        torch.save({"model": weights}, path)
    if notes is not None:
        path.with_name("config.json").write_text(json.dumps(notes), "utf-8")
    return path, hash_file(path)


@pytest.mark.parametrize("layout", ["transformers", "timm"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_features_are_those_of_a_plain_computation(tmp_path, layout, name):
    given = transformers_weights()
    weights = given if layout == "transformers" else timm_weights(given)
    encoder, decoder = pair()
    loaded = load(*written(tmp_path, weights, name=name), encoder, decoder)
    assert (loaded.layout, loaded.decoder) == (layout, True)
    image = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    side = torch.tensor([10.0, 20.0, 40.0])
    with torch.inference_mode():
        tokens = encoder(image, side, "niche")
        side_token = encoder.side((side / 20).log()[:, None])
        torch.testing.assert_close(tokens, plain_features(image, given, side_token), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(decoder(tokens), plain_pixels(tokens, given), rtol=1e-3, atol=1e-4)


def test_a_network_of_timm_itself_fits(tmp_path):
    theirs = VisionTransformer(32, 8, embed_dim=64, depth=4, num_heads=4, num_classes=5).eval()
    path, sha256 = written(tmp_path, theirs.state_dict())
    encoder, _ = pair(1)
    assert load(path, sha256, encoder).layout == "timm"
    image = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    side = torch.tensor([10.0, 30.0])
    light = (image / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.inference_mode():
        tokens = theirs._pos_embed(theirs.patch_embed(light))
        side_token = encoder.side((side / 20).log()[:, None])[:, None]
        expected = theirs.norm(theirs.blocks(torch.cat([tokens[:, :1], side_token, tokens[:, 1:]], dim=1)))
        torch.testing.assert_close(encoder(image, side, "cell"), expected, rtol=1e-3, atol=1e-4)


def test_backbone_is_that_of_the_file_bit_for_bit(tmp_path):
    given = transformers_weights()
    encoder, decoder = pair()
    load(*written(tmp_path, given), encoder, decoder)
    encoders, decoders = encoder.state_dict(), decoder.state_dict()
    assert torch.equal(encoders["patch.weight"], given["vit.embeddings.patch_embeddings.projection.weight"])
    assert torch.equal(encoders["cls_token"], given["vit.embeddings.cls_token"][0, 0])
    assert torch.equal(encoders["positions"], given["vit.embeddings.position_embeddings"][0])
    assert torch.equal(decoders["mask_token"], given["decoder.mask_token"][0, 0])
    assert torch.equal(decoders["pixels.weight"], given["decoder.decoder_pred.weight"])
    own = timm_weights(given)
    for name, value in encoders.items():
        if name.startswith(("blocks.", "norm.")):
            assert torch.equal(value, own[name]), name
    for name, value in decoders.items():
        if name.startswith("blocks."):
            assert torch.equal(value, own[f"decoder_{name}"]), name
    fresh = pair()[0].state_dict()  # what a ViT-MAE has not stays as it was
    for name in ("side.weight", "side.bias", "scale"):
        assert torch.equal(encoders[name], fresh[name])


def test_one_channel_and_named_stains(tmp_path):
    given = transformers_weights()
    path, sha256 = written(tmp_path, given)
    image = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    side = torch.full((2,), 20.0)
    (grey, grey_decoder), (colour, colour_decoder) = pair(1), pair(3)
    assert load(path, sha256, grey, grey_decoder).decoder
    load(path, sha256, colour, colour_decoder)
    tokens = colour(image.expand(-1, 3, -1, -1), side, "cell")
    torch.testing.assert_close(grey(image, side, "cell"), tokens, rtol=1e-3, atol=1e-4)
    mean = colour_decoder(tokens).unflatten(2, (-1, 3)).mean(dim=3)
    torch.testing.assert_close(grey_decoder(tokens), mean, rtol=1e-3, atol=1e-4)
    stains, stain_decoder = pair(4)
    before = stain_decoder.pixels.weight.clone()
    assert load(path, sha256, stains, stain_decoder).decoder
    assert torch.equal(stains.blocks[0].mlp.fc1.weight, colour.blocks[0].mlp.fc1.weight)
    assert torch.equal(stain_decoder.pixels.weight, before)
    # Four equal stains weigh as one.
    torch.testing.assert_close(
        stains(image.expand(-1, 4, -1, -1), side, "cell"), grey(image, side, "cell"), rtol=1e-3, atol=1e-4
    )


def test_encoder_alone_leaves_the_decoder(tmp_path):
    weights = timm_weights(transformers_weights(decoder=False)) | {"head.weight": torch.zeros(2, 64)}
    encoder, decoder = pair()
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    assert not load(*written(tmp_path, weights), encoder, decoder).decoder
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    bare = transformers_weights(decoder=False, prefix="")  # ViTMAEModel
    other, _ = pair()
    load(*written(tmp_path, bare), other)
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in other.state_dict().items())


def change(weights, drop=(), **extra):
    return {name: value for name, value in weights.items() if name not in drop} | extra


BAD = {
    "missing key": (
        lambda: change(
            transformers_weights(), ["vit.encoder.layer.2.attention.attention.key.bias", "vit.layernorm.bias"]
        ),
        HEADS,
        "it lacks encoder.layer.2.attention.attention.key.bias and 1 more",
    ),
    "missing key of the decoder": (
        lambda: change(timm_weights(transformers_weights()), ["decoder_blocks.1.mlp.fc2.bias"]),
        HEADS,
        "it lacks decoder_blocks.1.mlp.fc2.bias;",
    ),
    "other width": (
        lambda: transformers_weights(replace(SIZES, width=128)),
        HEADS,
        "its encoder has embeddings.cls_token of shape .*128.*, and the model's .64",
    ),
    "other patches": (
        lambda: timm_weights(transformers_weights(replace(SIZES, size=64))),
        HEADS,
        "pos_embed of shape .65, 64., and the model's .17, 64.",
    ),
    "other depth": (
        lambda: transformers_weights(replace(SIZES, depth=5)),
        HEADS,
        "its encoder has 5 blocks, and the model's 4",
    ),
    "other decoder": (
        lambda: transformers_weights(replace(SIZES, decoder_depth=3)),
        HEADS,
        "its decoder has 3 blocks, and the model's 2",
    ),
    "other heads": (
        transformers_weights,
        HEADS | {"num_attention_heads": 8},
        "its encoder has 8 heads, and the model's 4",
    ),
    "other heads of the decoder": (
        transformers_weights,
        HEADS | {"decoder_num_attention_heads": 4},
        "its decoder has 4 heads, and the model's 2",
    ),
    "untold heads": (transformers_weights, None, "how many heads its encoder has; put a config.json"),
    "another network": (
        lambda: change(timm_weights(transformers_weights()), **{"blocks.0.ls1.gamma": torch.ones(64)}),
        HEADS,
        "blocks.0.ls1.gamma, which no ViT-MAE has",
    ),
    "no ViT": (lambda: {"conv1.weight": torch.ones(2)}, HEADS, "no ViT-MAE in the layout of transformers or timm"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_do_not_fit_are_refused_in_one_sentence(tmp_path, case):
    make, notes, told = BAD[case]
    encoder, decoder = pair()
    before = [value.clone() for value in (*encoder.state_dict().values(), *decoder.state_dict().values())]
    path, sha256 = written(tmp_path, make(), notes)
    with pytest.raises(InputError, match=told) as caught:
        load(path, sha256, encoder, decoder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    after = (*encoder.state_dict().values(), *decoder.state_dict().values())
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_heads_of_published_widths_and_of_metadata(tmp_path):
    sizes = replace(SIZES, width=192, heads=4, mlp=64, depth=1)
    path, sha256 = written(tmp_path, transformers_weights(sizes, decoder=False), notes=None)
    with pytest.raises(InputError, match="its encoder has 3 heads, and the model's 4"):
        load(path, sha256, *pair(sizes=sizes))
    save_file(transformers_weights(sizes, decoder=False), path, {"num_heads": "4"})
    assert load(path, hash_file(path), *pair(sizes=sizes)).layout == "transformers"


def test_files_that_cannot_be_read_are_refused(tmp_path):
    path, sha256 = written(tmp_path, transformers_weights())
    with pytest.raises(InputError, match=f"its sha256 is {sha256}, not image_weights_sha256"):
        load(path, "0" * 64, *pair())
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "none.safetensors", sha256, *pair())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not readable weights"):
        load(path, hash_file(path), *pair())
    torch.save({"run": os.system}, tmp_path / "code.pt")
    with pytest.raises(InputError, match="is not opened"):
        load(tmp_path / "code.pt", hash_file(tmp_path / "code.pt"), *pair())
    for other in ({"epoch": 3}, torch.zeros(2)):
        torch.save(other, tmp_path / "other.pt")
        with pytest.raises(InputError, match="more than weights"):
            load(tmp_path / "other.pt", hash_file(tmp_path / "other.pt"), *pair())


@pytest.mark.parametrize("notes", ["[1", "7"])
def test_notes_that_cannot_be_read_are_refused(tmp_path, notes):
    path, sha256 = written(tmp_path, transformers_weights())
    (tmp_path / "config.json").write_text(notes, "utf-8")
    with pytest.raises(InputError, match="no readable JSON object"):
        load(path, sha256, *pair())


def test_a_model_keeps_the_backbone_of_its_file(tmp_path, memory_source):
    """After all of the model is made, and after it is stored and restored."""
    path, sha256 = written(tmp_path, transformers_weights())
    params = Params(size="tiny", preset="image_only", image_weights=str(path), image_weights_sha256=sha256)
    model = Model.create(params, memory_source(8), Context(0, "cpu", 1, tmp_path))
    bare, bare_decoder = pair(model.net.image.channels.channels)
    load(path, sha256, bare, bare_decoder)
    again = Model.restore(params, model.arrays(), ())
    for net in (model.net, again.net):
        for module, expected in ((net.image, bare), (net.losses.decoder, bare_decoder)):
            for name, value in expected.state_dict().items():
                if not name.startswith(("side.", "channels.", "pixels.")):
                    assert torch.equal(module.state_dict()[name], value), name
