"""Published encoders: their own loading code on tiny weights, and what is said where the weights are not there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from mistline.config.base import validate
from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.models.contract import Context
from mistline.models.encoder import network, towers
from mistline.models.encoder.model import Model
from mistline.models.encoder.params import Params
from mistline.models.encoder.presets import PRESETS
from mistline.train.run import train
from mistline.workflow.registry import resolve_models
from tests.conftest import REPOSITORY
from tests.unit.models.encoder import published

README = REPOSITORY / "src/mistline/models/encoder/README.md"
MILLIONS = {  # parameters of the published networks: their papers and model cards
    "clip": 87.8,
    "conch": 87.6,
    "ctranspath": 27.5,
    "gigapath": 1134.95,
    "h_optimus_0": 1134.77,
    "hibou_b": 85.7,
    "hibou_l": 303.7,
    "plip": 87.8,
    "resnet50": 23.5,
    "uni": 303.35,
    "uni2_h": 681.39,
    "vit_b16": 85.8,
}
SMALL = {"embed_dim": published.WIDTH, "depth": 2, "num_heads": published.HEADS}


def shrink(monkeypatch, preset, **changes):
    """Put a tiny encoder in the place of a published one; its names, layout and normalisation stay."""
    options = {**PRESETS[preset].options, **changes.pop("options", {})}
    monkeypatch.setitem(PRESETS, preset, replace(PRESETS[preset], options=options, **changes))


def saved(path, weights):
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous().clone() for name, value in weights.items()}, path)
    else:
        torch.save(weights, path)
    return {"weights": str(path), "weights_sha256": hash_file(path)}


def features(params, image):
    parts = network.inputs(image, params)
    return torch.cat([network.create(params, 0)(part) for part in parts], dim=1), parts[0]


def picture(side, channels=3):
    torch.manual_seed(8)
    return torch.randint(0, 256, (4, channels, side, side), dtype=torch.uint8)


def test_the_table_loads_no_torch():
    code = "import sys, mistline.models.encoder.params; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_networks_have_the_published_sizes(preset):
    encoder = PRESETS[preset]
    with torch.device("meta"):
        net = towers.built(encoder).eval()
    found = net(torch.zeros(1, 3, encoder.size, encoder.size, device="meta"))
    assert found.shape == (1, encoder.width)
    assert sum(array.numel() for array in net.parameters()) / 1e6 == pytest.approx(MILLIONS[preset], rel=2e-3)
    assert f"| `{preset}` |" in README.read_text()


@pytest.mark.parametrize("preset", ["clip", "plip"])
def test_clip_gives_what_its_own_code_gives(monkeypatch, tmp_path, preset):
    shrink(monkeypatch, preset, size=32, projection=10, width=10, options=SMALL | {"patch_size": 16, "img_size": 32})
    weights = published.clip()
    given = saved(tmp_path / "model.safetensors", weights)
    found, seen = features(Params(preset=preset, **given), picture(32))
    torch.testing.assert_close(found, published.clip_features(weights, seen), atol=1e-5, rtol=1e-4)
    assert found.shape == (4, 10)


@pytest.mark.parametrize("names", ["transformers", "authors"])
def test_hibou_gives_what_its_own_code_gives(monkeypatch, tmp_path, names):
    small = SMALL | {"img_size": 28, "mlp_ratio": 128 / published.WIDTH + 1e-4}
    shrink(monkeypatch, "hibou_b", size=28, width=published.WIDTH, options=small)
    weights = published.hibou()
    stored = weights if names == "transformers" else published.hibou_of_its_authors(weights)
    given = saved(tmp_path / "model.safetensors", stored)
    found, seen = features(Params(preset="hibou_b", **given), picture(28))
    torch.testing.assert_close(found, published.hibou_features(weights, seen), atol=1e-5, rtol=1e-4)


def test_conch_is_what_one_query_sees_before_the_projection(monkeypatch, tmp_path):
    small = SMALL | {"pooled_dim": 16, "pooled_heads": 2}
    shrink(monkeypatch, "conch", size=32, width=16, options=small)
    torch.manual_seed(1)
    made = towers.built(PRESETS["conch"]).eval()
    names = (("trunk.", "visual.trunk."), ("pool.", "visual.attn_pool_contrast."), ("norm.", "visual.ln_contrast."))
    weights = {
        next(theirs + name.removeprefix(mine) for mine, theirs in names if name.startswith(mine)): value
        for name, value in made.state_dict().items()
    }
    other = {"visual.proj_contrast": torch.ones(16, 16), "text.cls_emb": torch.ones(8), "logit_scale": torch.ones(())}
    given = saved(tmp_path / "pytorch_model.bin", weights | other)
    found, seen = features(Params(preset="conch", **given), picture(32))
    expected = published.conch_pooled(weights, made.trunk.forward_features(seen), 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_ctranspath_reads_what_older_timm_wrote(monkeypatch, tmp_path):
    small = {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "img_size": 56}
    shrink(monkeypatch, "ctranspath", size=56, width=32, options=small)
    torch.manual_seed(1)
    made = towers.built(PRESETS["ctranspath"]).eval()
    old = {name.replace("layers.1.downsample", "layers.0.downsample"): v for name, v in made.state_dict().items()}
    old |= {
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49),
        "layers.0.blocks.0.attn_mask": torch.ones(1),
    }
    given = saved(tmp_path / "ctranspath.pth", {"model": old})
    found, seen = features(Params(preset="ctranspath", **given), picture(56))
    torch.testing.assert_close(found, made(seen))
    assert found.shape == (4, 32)


@pytest.mark.parametrize("preset", ["uni", "uni2_h", "gigapath", "h_optimus_0", "vit_b16"])
def test_networks_of_timm_take_their_weights_as_they_are(monkeypatch, tmp_path, preset):
    patch = {"uni": 16, "vit_b16": 16}.get(preset, 14)
    options = SMALL | {"img_size": 32 if patch == 16 else 28, "patch_size": patch}
    size = options["img_size"]
    shrink(monkeypatch, preset, size=size, read_size=PRESETS[preset].read_size and 40, options=options, width=24)
    torch.manual_seed(2)
    made = timm.create_model(PRESETS[preset].architecture, pretrained=False, num_classes=5, **PRESETS[preset].options)
    given = saved(tmp_path / "pytorch_model.bin", made.state_dict())
    params = Params(preset=preset, **given)
    image = picture(params.encoder.read_px)
    found, seen = features(params, image)
    assert seen.shape == (4, 3, size, size)
    made.reset_classifier(0)
    torch.testing.assert_close(found, made.eval()(seen))
    mean, std = (np.array(values)[:, None, None] for values in (params.encoder.mean, params.encoder.std))
    edge = (image.shape[-1] - size) // 2
    cut = image[0, :, edge : edge + size, edge : edge + size].numpy() / 255
    np.testing.assert_allclose(seen[0], (cut - mean) / std, atol=1e-5)


def test_an_encoder_is_read_at_its_own_size_and_embeds_every_cell(monkeypatch, memory_source, tmp_path):
    shrink(monkeypatch, "gigapath", size=28, read_size=32, width=24, options=SMALL | {"img_size": 28, "patch_size": 14})
    torch.manual_seed(2)
    made = timm.create_model(
        PRESETS["gigapath"].architecture, pretrained=False, num_classes=0, **PRESETS["gigapath"].options
    )
    params = Params(preset="gigapath", **saved(tmp_path / "w.safetensors", made.state_dict()))
    source, where = memory_source(9), Context(0, "cpu", 1, tmp_path)
    trained = train("mistline.models.encoder", params, source, source, where)
    again = Model.restore(Params(**params.model_dump(mode="json")), trained.model.arrays(), ())
    (block,) = again.embed(source, where)
    assert block.z.shape == (9, 24)
    assert np.isfinite(block.z).all()


@pytest.mark.parametrize(
    ("preset", "small"), [("resnet50", {"layers": (1, 1, 1, 1)}), ("vit_b16", SMALL | {"img_size": 32})]
)
def test_controls_need_no_weights(monkeypatch, preset, small):
    shrink(monkeypatch, preset, size=32, options=small)
    params = Params(preset=preset)
    assert params.files() == ()
    one, same, other = (network.create(params, seed).state_dict() for seed in (0, 0, 1))
    name = next(name for name, value in one.items() if value.ndim > 1)
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize("preset", sorted(name for name, encoder in PRESETS.items() if not encoder.random))
def test_without_weights_a_dry_run_says_where_they_are(preset, tmp_path):
    def resolve(**params):
        resolve_models({"x": SimpleNamespace(model="encoder", params={"preset": preset} | params)})

    with pytest.raises(ConfigError, match=r"models\.x\.params: the preset .* needs weights") as refused:
        resolve()
    assert PRESETS[preset].file in str(refused.value)
    assert not PRESETS[preset].terms or "accept the terms of" in str(refused.value)
    with pytest.raises(ConfigError, match="no such file") as refused:
        resolve(weights=str(tmp_path / "none.bin"), weights_sha256="0" * 64)
    assert PRESETS[preset].file in str(refused.value)


def test_weights_of_another_encoder_or_hash_are_refused(monkeypatch, tmp_path):
    shrink(monkeypatch, "uni", size=32, options=SMALL | {"img_size": 32})
    given = saved(tmp_path / "w.safetensors", published.clip())
    with pytest.raises(InputError, match=r"it lacks .* give the preset"):
        network.create(Params(preset="uni", **given), 0)
    with pytest.raises(InputError, match="its sha256 is"):
        network.create(Params(preset="uni", **given | {"weights_sha256": "0" * 64}), 0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"preset": "uni2h"}, "did you mean uni2_h"),
        ({"preset": "resnet50", "image_size": 96}, "image_size is decided by the preset resnet50"),
        ({"preset": "resnet50", "options": {"img_size": 32}}, "options is decided by the preset resnet50"),
        ({"preset": "resnet50", "weights": "w.pt"}, "weights and weights_sha256 belong together"),
    ],
)
def test_settings_that_contradict_a_preset(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        validate(Params, values, "models.x.params")
