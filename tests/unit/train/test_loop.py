from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mistline.core.errors import ConfigError, InputError, ResourceError
from mistline.core.seeds import derive
from mistline.models.contract import Needs, Recipe
from mistline.train import loop, state
from mistline.train.source import DatasetSource
from mistline.train.state import FILE
from tests.unit.data.conftest import build
from tests.unit.train import tiny
from tests.unit.train.tiny import Alone, Tiny, context, fitted, recipe


@pytest.fixture
def source(memory_source):
    return memory_source(n=128)


def same(one, other) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_the_loss_falls_and_rows_say_what_they_should(source, tmp_path):
    _, rows = fitted(source, tmp_path, recipe=recipe(steps=200, row_every=20, validate_every=100))
    assert [row["step"] for row in rows] == list(range(20, 201, 20))
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    assert set(rows[0]) == {"step", "epoch", "lr", "loss", "size", "grad_norm"}
    assert [row["step"] for row in rows if "val_loss" in row] == [100, 200]
    assert rows[-1]["val_loss"] < rows[-1]["loss"]  # no noise of dropout


def test_the_same_seed_gives_the_same_weights_and_another_others(source, tmp_path):
    one, again, other = (fitted(source, tmp_path / str(i), seed=seed)[0] for i, seed in enumerate((1, 1, 2)))
    assert same(one, again)
    assert not same(one, other)


def test_epochs_are_whole(source, tmp_path):
    _, rows = fitted(source, tmp_path, recipe=Recipe(tiny.NEEDS, epochs=3, accumulate=5, row_every=1))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]  # 24 batches of 3 epochs, the last step has 4
    assert [row["epoch"] for row in rows] == [0, 1, 1, 2, 2]


def test_learning_rates_are_those_of_the_groups_times_the_schedule(source, tmp_path):
    model = Tiny(recipe=recipe(steps=12, row_every=1))
    seen = [row["lr"] for row in loop.fit(model, source, Alone(), context(tmp_path))]
    expected = [0.0025, 0.005, 0.0075, 0.01, *(0.01 * (1 + np.cos(np.pi * i / 8)) / 2 for i in range(8))]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_accumulated_batches_equal_a_bigger_one(source, tmp_path):
    needs = replace(tiny.NEEDS, batch_size=16)
    settings = {"steps": 16, "row_every": 1}
    parts = fitted(source, tmp_path / "a", noise=0.0, recipe=recipe(needs=needs, accumulate=4, **settings))
    whole = fitted(source, tmp_path / "b", noise=0.0, recipe=recipe(needs=replace(needs, batch_size=64), **settings))
    for name, value in whole[0].items():
        np.testing.assert_allclose(parts[0][name], value, atol=1e-5)
    np.testing.assert_allclose([row["loss"] for row in parts[1]], [row["loss"] for row in whole[1]], rtol=1e-4)


def test_unequal_batches_weigh_by_their_records(memory_source, tmp_path):
    source = memory_source(n=72)  # 4 batches of 16 and one of 8 make one of 72
    parts = fitted(source, tmp_path / "a", noise=0.0, recipe=recipe(steps=6, accumulate=5))
    needs = replace(tiny.NEEDS, batch_size=72)
    whole = fitted(source, tmp_path / "b", noise=0.0, recipe=recipe(needs=needs, steps=6))
    for name, value in whole[0].items():
        np.testing.assert_allclose(parts[0][name], value, atol=1e-5)


def test_the_gradient_is_clipped(source, tmp_path):
    model = Tiny(recipe=recipe(steps=3, clip=0.05, row_every=1))
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        grads = [value.grad for group in self.param_groups for value in group["params"] if value.grad is not None]
        norms.append(float(torch.cat([grad.flatten() for grad in grads]).norm()))
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        rows = list(loop.fit(model, source, Alone(), context(tmp_path)))
    assert all(row["grad_norm"] > 0.05 for row in rows)
    np.testing.assert_allclose(norms, 0.05, rtol=1e-3)


def test_bfloat16_is_for_gpus_only(source, tmp_path):
    assert not loop.precision(tiny.RECIPE, "cpu")._enabled
    model = Tiny(recipe=recipe(steps=2))
    list(loop.fit(model, source, source, context(tmp_path)))
    assert model.net.dtypes == {torch.float32}
    with pytest.MonkeyPatch.context() as patch:  # a machine without a GPU would disable it with a warning
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        on_gpu = loop.precision(tiny.RECIPE, "cuda")
        assert (on_gpu._enabled, on_gpu.fast_dtype) == (True, torch.bfloat16)
        assert not loop.precision(recipe(precision="fp32"), "cuda")._enabled


def test_a_killed_training_ends_with_the_same_weights(source, tmp_path):
    expected, rows = fitted(source, tmp_path / "whole")
    for call in (3, 8, 17, 23):  # before the first state, and after 7, 14 and 21 steps
        folder = tmp_path / str(call)
        assert tiny.killed_at(call, source, folder) == -9
        assert tiny.killed_at(2, source, folder) == -9  # and again soon after
        weights, again = fitted(source, folder)
        assert same(weights, expected)
        assert again == rows


def test_a_process_killed_while_it_saves_leaves_the_state_before(source, tmp_path, monkeypatch):
    expected, rows = fitted(source, tmp_path / "whole")
    write = state.save_file
    saved = []

    def half(tensors, path, metadata):
        write(tensors, path, metadata)
        saved.append(path)
        if len(saved) == 2:
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(state, "save_file", half)
    assert tiny.killed_at(99, source, tmp_path / "killed") == -9
    monkeypatch.setattr(state, "save_file", write)
    assert fitted(source, tmp_path / "killed")[1] == rows
    assert same(fitted(source, tmp_path / "killed")[0], expected)


def test_a_finished_training_is_not_done_again(source, tmp_path):
    expected, rows = fitted(source, tmp_path)
    reads = source.reads
    weights, again = fitted(source, tmp_path)
    assert same(weights, expected)
    assert (again, source.reads) == (rows, reads)


def test_sigterm_saves_and_stops_after_the_step(source, tmp_path):
    expected, _ = fitted(source, tmp_path / "whole")
    model = Tiny()
    model.net.at[10] = partial(tiny.end, signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ResourceError, match=r"training step 10: stopped by SIGTERM, its state is saved; run the same"):
        list(loop.fit(model, source, source, context(tmp_path / "told")))
    assert signal.getsignal(signal.SIGTERM) is before
    again = Tiny()
    list(loop.fit(again, source, source, context(tmp_path / "told")))
    assert again.net.calls == 24 - 10
    assert same(again.weights(), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_records_before_the_weights_change(source, tmp_path, value):
    model = Tiny()
    changed = []
    model.net.at[4] = lambda loss: changed.append(model.weights()) or loss * value
    with pytest.raises(ResourceError) as caught:
        list(loop.fit(model, source, source, context(tmp_path)))
    text = str(caught.value)
    batches = list(source.batches(tiny.NEEDS, derive(1, "epoch", 0)))
    shown = ", ".join(f"s/{name}" for name in batches[3].record_id[:5])
    assert text.startswith(f"training step 4: loss is {value}, not finite, with the records {shown} and 11 more; look")
    assert same(model.weights(), changed[0])


def test_a_gradient_that_is_not_finite_stops_too(source, tmp_path):
    model = Tiny()
    model.net.at[2] = lambda loss: loss + (loss - loss.detach()).sqrt()  # its slope at 0 is infinite
    with pytest.raises(ResourceError, match=r"training step 2: gradient is (inf|nan), not finite, with the records s/"):
        list(loop.fit(model, source, source, context(tmp_path)))


def test_patience_stops_and_gives_the_best_weights(source, tmp_path):
    spoilt = recipe(steps=200, validate_every=5, row_every=5, patience=2, warmup_steps=0)
    model = Tiny(rate=0.01, recipe=spoilt)
    kept = {}
    for row in loop.fit(model, source, source, context(tmp_path)):
        if row["step"] == 30:
            kept = model.weights()
        if row["step"] >= 30:  # from here on it only gets worse
            with torch.no_grad():
                for value in model.net.parameters():
                    value.mul_(3)
    assert row["step"] == 40
    assert same(model.weights(), kept)


def test_without_validation_records_it_trains_to_the_end(source, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="mistline.train"):
        _, rows = fitted(source, tmp_path, val=Alone(), recipe=recipe(patience=1))
    assert rows[-1]["step"] == 24
    assert not any("val_loss" in row for row in rows)


def test_too_few_records_are_refused(memory_source, tmp_path):
    with pytest.raises(ConfigError, match="0 training records make no batch of 1 each; use more records"):
        fitted(memory_source(n=0), tmp_path)


def test_the_state_of_another_training_is_refused(source, tmp_path):
    model = Tiny(recipe=recipe(steps=10))
    for row in loop.fit(model, source, source, context(tmp_path)):
        if row["step"] == 10:
            break
    path = tmp_path / FILE
    assert path.is_file()
    with pytest.raises(ResourceError, match=r"the unfinished training there has other number of steps \(10, now 24\)"):
        fitted(source, tmp_path)
    with pytest.raises(ResourceError, match="has other weights; run with the same settings"):
        fitted(source, tmp_path, n_genes=21, recipe=recipe(steps=10))
    path.write_bytes(b"no state")
    with pytest.raises(InputError, match=r"not a readable state of a training .*; remove it"):
        fitted(source, tmp_path)


def test_grouped_batches_of_a_dataset_go_on_bit_for_bit(tmp_path):
    manifest = build(tmp_path / "results") / "dataset" / "manifest.json"
    parts = [DatasetSource(manifest, split=split) for split in ("train", "val")]
    needs = Needs(genes="dense", batch_size=40, group="region", context=(("niche", 8),))
    settings = recipe(needs=needs, steps=20, save_every=6)

    def model() -> Tiny:
        return Tiny(n_genes=len(parts[0].genes), recipe=settings)

    whole = model()
    rows = list(loop.fit(whole, *parts, context(tmp_path / "a")))
    stopped = model()

    def fail(loss):
        raise RuntimeError("stop")

    stopped.net.at[16] = fail
    with pytest.raises(RuntimeError, match="stop"):
        list(loop.fit(stopped, *parts, context(tmp_path / "b")))
    again = model()
    assert list(loop.fit(again, *parts, context(tmp_path / "b"))) == rows
    assert again.net.calls == 20 - 12
    assert same(again.weights(), whole.weights())
