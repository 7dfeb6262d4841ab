from __future__ import annotations

import socket
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from mistline.core.errors import ConfigError, InputError
from mistline.core.hashing import hash_file
from mistline.models.contract import Context
from mistline.models.encoder import network
from mistline.models.encoder.model import Model
from mistline.models.encoder.params import Params
from mistline.train.run import train
from mistline.workflow.registry import resolve_models

SMALL = {"name": "test_resnet", "image_size": 32}  # 0.5 M weights


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def context(tmp_path, seed=0):
    return Context(seed, "cpu", 1, tmp_path)


def embedded(model, source, where):
    return np.concatenate([block.z for block in model.embed(source, where)])


def made(memory_source, tmp_path, seed=0, **params):
    source = memory_source(70)
    return train("mistline.models.encoder", Params(**SMALL | params), source, source, context(tmp_path, seed)).model


def test_every_cell_once_in_order_whatever_is_read_at_once(memory_source, tmp_path):
    source, where = memory_source(70), context(tmp_path)
    model = made(memory_source, tmp_path)
    rows = {}
    for batch_size in (1, 7, 64, 100):
        other = Model.restore(Params(**SMALL, batch_size=batch_size), model.arrays(), ())
        blocks = list(other.embed(source, where))
        assert [name for block in blocks for name in block.cell_id] == [f"cell-{i}" for i in range(70)]
        rows[batch_size] = np.concatenate([block.z for block in blocks])
    assert rows[1].dtype == np.float32
    assert np.isfinite(rows[1]).all()
    for found in rows.values():
        np.testing.assert_array_equal(found, rows[1])
    np.testing.assert_array_equal(embedded(model, source, where), rows[1])


def test_a_cell_does_not_depend_on_the_others(memory_source, tmp_path):
    source, few, where = memory_source(70), memory_source(70), context(tmp_path)
    few.kind, few.image, few.side_um = few.kind[:5], few.image[:5], few.side_um[:5]
    model = made(memory_source, tmp_path)
    np.testing.assert_array_equal(embedded(model, few, where), embedded(model, source, where)[:5])


def test_random_weights_follow_the_seed_and_the_course_says_so(memory_source, tmp_path):
    one, same, other = (made(memory_source, tmp_path, seed).arrays() for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not all(np.array_equal(one[name], other[name]) for name in one)
    before = torch.get_rng_state()
    (row,) = made(memory_source, tmp_path).fit(memory_source(9), memory_source(9), context(tmp_path))
    assert row["weights"] == "random initialisation"
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_a_file_are_used_without_their_classifier(memory_source, tmp_path, suffix):
    torch.manual_seed(5)
    whole = timm.create_model("test_resnet", pretrained=False, num_classes=3)
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": whole.state_dict()}, path)
    else:
        save_file(whole.state_dict(), path)
    params = {"weights": str(path), "weights_sha256": hash_file(path)}
    model = made(memory_source, tmp_path, **params)
    assert "fc.weight" not in model.arrays()
    image = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8)
    expected = whole.eval().forward_head(
        whole.forward_features(network.inputs(image, model.params)[0]), pre_logits=True
    )
    np.testing.assert_allclose(model._features(image, "cpu"), expected.detach(), atol=1e-5)
    path.unlink()  # the model keeps its own copy
    Model.restore(model.params, model.arrays(), ())
    with pytest.raises(ConfigError, match=r"models.e.params: .*no such file"):
        resolve_models({"e": SimpleNamespace(model="encoder", params=SMALL | params)})


def test_files_that_are_not_its_weights_are_refused(memory_source, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)

    def fails(match, sha256=None, **params):
        chosen = {"weights": str(path), "weights_sha256": sha256 or hash_file(path)} | params
        with pytest.raises(InputError, match=match):
            made(memory_source, tmp_path, **chosen)

    fails("its sha256 is", sha256="0" * 64)
    fails("it lacks", name="resnet18")
    save_file({"conv1.weight": torch.zeros(2)}, path)
    fails("it lacks")
    path.write_bytes(b"no weights at all")
    fails("not readable weights")
    path = tmp_path / "w.pt"
    torch.save({"state_dict": {}, "run": SimpleNamespace()}, path)
    fails("more than weights")


@pytest.mark.parametrize(
    ("channels", "n", "parts"), [("auto", 1, 1), ("auto", 3, 1), ("auto", 4, 4), ("each", 3, 3), ("mean", 4, 1)]
)
def test_channels(channels, n, parts):
    params = Params(channels=channels, mean=(0.5, 0.25, 0.0), std=(1.0, 0.5, 2.0))
    image = torch.randint(0, 256, (2, n, 8, 8), dtype=torch.uint8)
    found = network.inputs(image, params)
    assert len(found) == parts
    assert all(part.shape == (2, 3, 8, 8) for part in found)
    light = image.numpy() / 255
    first = light.mean(axis=1) if channels == "mean" else light[:, 0]
    np.testing.assert_allclose(found[0][:, 0], first - 0.5, atol=1e-6)
    if (channels, n) == ("auto", 3):
        np.testing.assert_allclose(found[0][:, 2], light[:, 2] / 2, atol=1e-6)


def test_a_tile_is_encoded_once_and_given_to_its_cells(memory_source, tmp_path):
    tiles, asked = memory_source(3), []

    class Gridded:
        def batches(self, needs, shuffle=None):
            asked.append(needs.scale)
            if needs.scale == "niche":
                yield from tiles.batches(needs)
            else:
                for names in (["cell-2", "cell-0"], ["cell-2"]):
                    yield SimpleNamespace(record_id=[f"c{name}" for name in names], tiles={"niche": names})

    model = made(memory_source, tmp_path, scale="niche")
    found = embedded(model, Gridded(), context(tmp_path))
    plain = embedded(Model.restore(Params(**SMALL), model.arrays(), ()), tiles, context(tmp_path))
    np.testing.assert_array_equal(found, plain[[2, 0, 2]])
    assert asked == ["niche", "cell"]


@pytest.mark.parametrize(
    "values", [{"name": "hf-hub:some/model"}, {"name": "a/b"}, {"options": {"pretrained": True}}, {"weights": "w.pt"}]
)
def test_settings_that_would_fetch_or_guess_are_refused(values):
    with pytest.raises(ValidationError):
        Params(**values)


def test_a_network_that_is_unknown_or_takes_another_size(memory_source, tmp_path):
    with pytest.raises(ConfigError, match="did you mean resnet18"):
        made(memory_source, tmp_path, name="resnet_18")
    with pytest.raises(ConfigError, match="takes no images of 32 px"):
        made(memory_source, tmp_path, name="vit_tiny_patch16_224")
    assert made(memory_source, tmp_path, name="vit_tiny_patch16_224", options={"img_size": 32}).arrays()
    with pytest.raises(ConfigError, match="options"):
        made(memory_source, tmp_path, options={"depht": 3})
