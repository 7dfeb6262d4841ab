from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.models.contract import Context, Needs
from mistline.models.vae.model import Model
from mistline.models.vae.network import Network
from mistline.models.vae.params import Params
from mistline.train import loop
from mistline.train.device import cpu_threads

PACKAGE = {"size": "tiny", "image_size": 16, "widths": [8, 8], "train_batch": 16, "warmup_steps": 2}
WIDTHS = (8, 8, 8)


@pytest.fixture(autouse=True)
def _one_thread():
    with cpu_threads(1):
        yield


class Spots:
    """Cells whose images are one round spot: place, size and brightness differ."""

    def __init__(self, n: int = 64, channels: tuple[str, ...] = ("DAPI",), side: int = 16, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.channels, self.n = channels, n
        yx = np.mgrid[:side, :side][:, None]
        centre, size = rng.uniform(5, 11, (2, n, 1, 1)), rng.uniform(2, 5, (n, 1, 1))
        light = rng.uniform(80, 250, (n, 1, 1)) * (np.hypot(*(yx - centre)) < size)
        self.image = torch.from_numpy(light.astype(np.uint8))[:, None].expand(-1, len(channels), -1, -1)

    def count(self, scale: str = "cell") -> int:
        return self.n

    def n_batches(self, needs: Needs, shuffle=None, *, rank=0, world=1) -> int:
        return -(-self.n // needs.batch_size)

    def batches(self, needs: Needs, shuffle=None, *, skip=0, rank=0, world=1):
        rows = np.arange(self.n) if shuffle is None else np.random.default_rng(shuffle).permutation(self.n)
        for low in range(skip * needs.batch_size, self.n, needs.batch_size):
            part = torch.from_numpy(rows[low : low + needs.batch_size])
            yield SimpleNamespace(image=self.image[part], xy_um=torch.zeros(len(part), 2), slide=[], record_id=[])


def _context(folder: Path, seed: int = 0) -> Context:
    return Context(seed, "cpu", 1, folder / "resume")


def _trained(folder: Path, steps: int, source: Spots, **changes) -> tuple[Model, list]:
    params = Params(**{**PACKAGE, "steps": steps, "val_batches": 1, **changes})
    model = Model.create(params, source, _context(folder))
    return model, list(loop.fit(model, source, source, _context(folder)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Model, list]:
    with cpu_threads(1):
        return _trained(tmp_path_factory.mktemp("vae"), 40, Spots())


def test_it_learns(trained):
    model, rows = trained
    untrained = Model.create(model.params, Spots(), _context(Path()))
    with torch.no_grad():
        first = untrained.net.eval()(Spots().image, torch.Generator().manual_seed(0))["l1"]
    assert rows[-1]["val_l1"] < 0.5 * float(first)
    image = Spots(40, seed=1).image
    mean, _ = model.encode(image)
    found = model.decode(mean)
    light, real = found.float().mean((1, 2, 3)), image.float().mean((1, 2, 3))
    assert np.corrcoef(light, real)[0, 1] > 0.6


def test_shapes_and_scale(trained):
    model, _ = trained
    image = Spots().image
    mean, std = model.encode(image)
    assert model.latent_shape == (4, 8, 8) == mean.shape[1:] == std.shape[1:]
    spread = mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))
    assert (mean.mean((0, 2, 3)).abs() < 0.25).all()
    assert ((spread > 0.6) & (spread < 1.6)).all()
    found = model.decode(mean)
    assert (found.shape, found.dtype) == (image.shape, torch.uint8)


def test_an_image_does_not_depend_on_the_others(trained):
    model, _ = trained
    image = Spots(37).image
    whole = model.encode(image)
    for rows in ([36], [5, 3], list(range(20, 37))):
        for of_all, own in zip(whole, model.encode(image[rows]), strict=True):
            assert torch.equal(of_all[rows], own)
        assert torch.equal(model.decode(whole[0])[rows], model.decode(whole[0][rows]))


def test_restored_it_is_the_same(trained):
    model, _ = trained
    again = Model.restore(model.params, model.arrays(), ())
    assert (again.channels, again.latent_shape, again.image_size) == (("DAPI",), (4, 8, 8), 16)
    image = Spots(9).image
    for one, other in zip(model.encode(image), again.encode(image), strict=True):
        assert torch.equal(one, other)
    assert {name: value.tobytes() for name, value in again.arrays().items()} == {
        name: value.tobytes() for name, value in model.arrays().items()
    }
    with pytest.raises(InputError, match="weights of vae: they are of a network of other settings"):
        Model.restore(Params(**{**PACKAGE, "latent_channels": 2}), model.arrays(), ())
    lacking = {name: value for name, value in model.arrays().items() if name != "second"}
    with pytest.raises(InputError, match="second is missing"):
        Model.restore(model.params, lacking, ())


def test_a_stopped_training_ends_with_the_same_bits(tmp_path):
    def course(folder: Path, n_rows: int | None) -> dict[str, np.ndarray]:
        model = Model.create(Params(**PACKAGE, steps=6, save_every=2, validate_every=4), Spots(32), _context(folder))
        rows = loop.fit(model, Spots(32), Spots(32), _context(folder))
        for number, _ in enumerate(rows, 1):
            if number == n_rows:
                rows.close()
        return model.arrays()

    whole = course(tmp_path / "a", None)
    course(tmp_path / "b", 1)  # its last state is that of step 2, its only row that of step 4
    again = course(tmp_path / "b", None)
    assert set(whole) == set(again)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)


def _published(folder: Path, seed: int = 0, **changes) -> dict:
    """Write an AutoencoderKL of three channels as diffusers does; returns the settings that name it."""
    config = {
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": WIDTHS,
        "norm_num_groups": 4,
        **changes,
    }
    torch.manual_seed(seed)
    coder = AutoencoderKL(**config)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(coder.state_dict(), folder / "model.safetensors")
    told = {"_class_name": "AutoencoderKL", "_diffusers_version": "0.4.2", **config}
    (folder / "config.json").write_text(json.dumps(told))
    return _named(folder)


def _named(folder: Path) -> dict:
    path = folder / "model.safetensors"
    told = {"weights": str(path), "weights_sha256": hash_file(path), "weights_config": str(folder / "config.json")}
    return {"size": "tiny", "image_size": 16, "train_batch": 16, **told}


def test_a_published_one_keeps_its_weights_and_measures_the_scale(tmp_path):
    given = _published(tmp_path / "given")
    model, rows = _trained(tmp_path, 5, Spots(), **given)
    assert [row["step"] for row in rows] == [0]
    assert rows[0]["val_l1"] > 0
    for name, value in load_file(given["weights"]).items():
        assert torch.equal(model.net.coder.state_dict()[name], value)
    assert model.latent_shape == (4, 4, 4)
    image = Spots().image
    mean, std = model.encode(image)
    spread = mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))
    torch.testing.assert_close(spread, torch.ones(4), atol=0.02, rtol=0)
    coder = model.net.coder
    with torch.no_grad():
        raw = coder.encode((image.float() / 127.5 - 1).expand(-1, 3, -1, -1)).latent_dist.mean
        grey = ((coder.decode(raw).sample.mean(1, keepdim=True) + 1) * 127.5).round().clamp(0, 255)
    found = model.decode(mean)
    assert found.shape == image.shape
    assert (found.float() - grey).abs().max() <= 1
    again = Model.restore(model.params, model.arrays(), ())
    assert torch.equal(again.decode(mean), found)


def test_old_names_of_attention_are_understood(tmp_path):
    given = _published(tmp_path)
    weights = load_file(given["weights"])
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in weights.items():
        for new, before in old.items():
            name = name.replace(f".attentions.0.{new}.", f".attentions.0.{before}.")
        renamed[name] = value
    assert set(renamed) != set(weights)
    save_file(renamed, given["weights"])
    model = Model.create(Params(**_named(tmp_path)), Spots(), _context(tmp_path))
    for name, value in weights.items():
        assert torch.equal(model.net.coder.state_dict()[name], value)


def test_a_published_one_that_does_not_fit_is_refused(tmp_path):
    given = _published(tmp_path / "given")

    def create(channels: tuple[str, ...] = ("DAPI",), **changes) -> None:
        Model.create(Params(**{**given, **changes}), Spots(channels=channels), _context(tmp_path))

    with pytest.raises(InputError, match=r"model.safetensors: its sha256 is \w+, not weights_sha256"):
        create(weights_sha256="0" * 64)
    with pytest.raises(InputError, match=r"gone.json: no such file"):
        create(weights_config=str(tmp_path / "gone.json"))
    remedy = "; give the config.json and weights of the same AutoencoderKL"
    for name, changes, what in (
        ("wider", {"latent_channels": 3}, "has in another shape decoder.conv_in.weight and"),
        ("longer", {"layers_per_block": 2}, r"lacks .* and \d+ more"),
    ):
        other = _published(tmp_path / name, **changes)
        with pytest.raises(InputError, match=f"model.safetensors: it {what}.*{remedy}"):
            create(weights_config=other["weights_config"])
    with pytest.raises(InputError, match=r"it takes 3 channels, and the images have 2 \(DAPI, other\)"):
        create(channels=("DAPI", "other"))
    with pytest.raises(InputError, match="divides the side of an image by 4, and image_size 18 is no multiple"):
        create(image_size=18)
    for text, what in (
        ('{"_class_name": "UNet2DModel"}', "does not describe an AutoencoderKL"),
        ("{", "not valid JSON"),
    ):
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(InputError, match=what):
            create(weights_config=str(tmp_path / "wrong.json"))
    with pytest.raises(InputError, match="they have no images"):
        create(channels=())


def test_settings():
    tiny, paper = Params(size="tiny"), Params()
    assert (tiny.down, tiny.image_size, paper.down, paper.image_size, paper.latent_channels) == (4, 32, 8, 256, 4)
    assert (tiny.serves(), tiny.reads(), tiny.files()) == (frozenset({"latents"}), frozenset({"image"}), ())
    given = {"weights": "a.safetensors", "weights_sha256": "0" * 64, "weights_config": "c.json"}
    assert Params(**given).files() == ("a.safetensors", "c.json")
    for wrong in ({"image_size": 30}, {"weights": "a"}, {"norm_groups": 5}):
        with pytest.raises(ValidationError):
            Params(**{"size": "tiny", **wrong})


def test_moments_are_of_the_cells_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 keeps the weights: its moments are those of every process's share."""
    own, other, log_variance = torch.zeros(2, 4, 2, 2), torch.full((2, 4, 2, 2), 2.0), torch.zeros(2, 4, 2, 2)
    alone, team = (Network({"latent_channels": 4, "norm_num_groups": 32}, 1, 1e-6) for _ in range(2))
    alone.notice(torch.cat([own, other]), torch.cat([log_variance] * 2), 0.0)

    def add_the_other(moments: torch.Tensor) -> None:
        moments += torch.stack([other.mean((0, 2, 3)), (other.square() + log_variance.exp()).mean((0, 2, 3))])

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", add_the_other)
    team.notice(own, log_variance, 0.0)
    torch.testing.assert_close(team.first, alone.first)
    torch.testing.assert_close(team.second, alone.second)
