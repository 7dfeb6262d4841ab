from __future__ import annotations

import ast
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from mistline.core.errors import ConfigError, InputError, ResourceError
from mistline.train.distributed import Place, Team, found
from mistline.train.spawn import spawn
from tests.unit.conftest import MemorySource
from tests.unit.train import tiny


def test_the_place_is_torchrun_s_or_srun_s():
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "SLURM_STEP_NUM_TASKS": "1"}
    assert found(torchrun) == Place(3, 4, 1)
    srun = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "2", "SLURM_STEP_NUM_NODES": "1"}
    assert found(srun) == Place(2, 4, 2)
    assert found({}) == found({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == Place()  # a batch script, no srun
    assert found({**srun, "SLURM_STEP_NUM_NODES": "2", "MASTER_ADDR": "n1"}) == Place(2, 4, 2)
    with pytest.raises(ConfigError, match="MASTER_ADDR is not set; export MASTER_ADDR=NAME"):
        found({**srun, "SLURM_STEP_NUM_NODES": "2"})


def test_alone_every_sum_is_one_s_own():
    assert Team().sum([1.0, 2.0]) == [1.0, 2.0]
    assert Team().gather("a") == ["a"]


SETTINGS = {
    "even": {"noise": 0.0, "recipe": tiny.recipe(steps=12, patience=5)},
    "whole": {"recipe": tiny.recipe(steps=12)},
    "told": {"recipe": tiny.recipe(steps=12)},
}


def _train(folder, source, name, place) -> None:
    tiny.train_in_a_team(folder / name, source, SETTINGS[name], place)


def _train_and_stop_one(folder, source, place) -> None:
    for name in ("even", "whole"):
        _train(folder, source, name, place)
    model = tiny.Tiny(**SETTINGS["told"])
    if place.rank == 1:
        model.net.at[9] = partial(tiny.end, signal.SIGTERM)
    for _ in tiny.loop.fit(model, source, source, tiny.context(folder / "told" / "state")):
        pass


@pytest.fixture(scope="module")
def teams(tmp_path_factory):
    """Trained by two processes, the last of three until it was told to stop: processes take longest to start."""
    folder = tmp_path_factory.mktemp("teams")
    for name in SETTINGS:
        (folder / name).mkdir()
    with pytest.raises(ResourceError, match=r"training step 9: stopped by .*, its state is saved"):
        spawn(2, partial(_train_and_stop_one, folder, MemorySource(n=128)), device="cpu")
    return folder


def test_two_processes_give_the_weights_of_one_with_double_batches(teams, memory_source, tmp_path):
    settings = dict(SETTINGS["even"])
    settings["recipe"] = replace(settings["recipe"], needs=replace(tiny.NEEDS, batch_size=32))
    weights, rows = tiny.fitted(memory_source(n=128), tmp_path, **settings)
    parts = [np.load(teams / f"even/{rank}.npz") for rank in range(2)]
    for name, value in weights.items():
        assert np.array_equal(parts[0][name], parts[1][name])
        np.testing.assert_allclose(parts[0][name], value, atol=1e-5)  # sums of float32 in another order
    told = [ast.literal_eval((teams / f"even/{rank}.txt").read_text()) for rank in range(2)]
    assert told[0] == told[1]
    for row, expected in zip(told[0], rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


def test_a_team_told_to_stop_saves_and_goes_on_with_the_same_draws(teams, memory_source):
    source = memory_source(n=128)
    spawn(2, partial(_train, teams, source, "told"), device="cpu")
    whole, told = (np.load(teams / name / "0.npz") for name in ("whole", "told"))
    assert all(np.array_equal(whole[name], told[name]) for name in whole)
    with pytest.raises(ResourceError, match=r"other number of devices \(2, now 1\)"):
        tiny.fitted(source, teams / "told" / "state", **SETTINGS["told"])


def _fail(place: Place) -> None:
    if place.rank == 1:
        raise InputError("here", "broken", "mend it")
    time.sleep(3600)


def _vanish(place: Place) -> None:
    os._exit(3 if place.rank else 0)


def test_one_process_s_error_ends_all(monkeypatch):
    monkeypatch.setattr("mistline.train.spawn._GRACE_S", 0.5)
    with pytest.raises(InputError, match="here: broken; mend it"):
        spawn(2, _fail, device="cpu")
    with pytest.raises(ResourceError, match="process 1 of 2 ended with exit code 3"):
        spawn(2, _vanish, device="cpu")


def _wait_for_signal(folder, place: Place) -> None:
    heard = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: heard.set())
    (folder / f"{place.rank}.ready").touch()
    assert heard.wait(600)
    (folder / f"{place.rank}.heard").touch()


def test_signals_are_passed_on(tmp_path):
    def tell() -> None:
        while len(list(tmp_path.glob("*.ready"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=tell)
    thread.start()
    spawn(2, partial(_wait_for_signal, tmp_path), device="cpu")
    thread.join()
    assert len(list(tmp_path.glob("*.heard"))) == 2
