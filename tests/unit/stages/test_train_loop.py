"""The stage `train` with a model that the training loop trains."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mistline.core.errors import ResourceError
from mistline.stages import train
from mistline.train import job as jobs
from mistline.train.distributed import Place
from mistline.train.spawn import spawn
from tests.unit.data.conftest import build
from tests.unit.stages.test_train import NAMES, _train
from tests.unit.train import tiny

PACKAGE = "tests.unit.train.registered"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("train") / "results")


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> None:
    monkeypatch.setattr(train, "find", lambda *_: PACKAGE)
    monkeypatch.setattr(train, "folder_modules", lambda _: ())


@pytest.fixture
def stopped(monkeypatch):
    """Make the next training be told to stop in its 9th step."""
    from tests.unit.train.registered.model import Model

    create = Model.create

    def once(*args):
        model = create(*args)
        model.net.at[9] = partial(tiny.end, signal.SIGTERM)
        monkeypatch.setattr(Model, "create", create)
        return model

    return lambda: monkeypatch.setattr(Model, "create", once)


def _fit(results: Path, out: Path, **changes) -> dict[str, Path]:
    return _train(results, out, "tiny", **{"params": "{}", **changes})


def test_a_stopped_training_goes_on_and_writes_the_same_bytes(results, tmp_path, stopped):
    whole = _fit(results, tmp_path / "a")
    assert [json.loads(row)["step"] for row in whole["metrics"].read_text().splitlines()] == [5, 10, 15, 20]
    stopped()
    with pytest.raises(ResourceError, match="training step 9: stopped by SIGTERM, its state is saved"):
        _fit(results, tmp_path / "b")
    assert [path.parent.parent.name for path in (tmp_path / "b").rglob("*.safetensors")] == ["resume"]
    again = _fit(results, tmp_path / "b")
    for option in NAMES:
        assert again[option].read_bytes() == whole[option].read_bytes()
    assert not (tmp_path / "b" / "resume").exists()


def test_other_settings_do_not_take_up_the_state(results, tmp_path, stopped):
    stopped()
    with pytest.raises(ResourceError, match="stopped by SIGTERM"):
        _fit(results, tmp_path)
    files = _fit(results, tmp_path, params='{"rate": 0.02}')
    assert json.loads(files["metrics"].read_text().splitlines()[-1])["step"] == 20
    assert not (tmp_path / "resume").exists()  # nor is the unfinished one kept


def test_of_two_processes_one_writes(results, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(jobs, "work", lambda job, place: given.append(job))
    files = _fit(results, tmp_path)
    monkeypatch.undo()
    assert not files["config"].exists()
    spawn(2, partial(jobs.work, given[0]), device="cpu")
    assert all(path.is_file() for path in files.values())
    assert json.loads(files["metrics"].read_text().splitlines()[-1])["step"] == 20
    assert not (tmp_path / "resume").exists()


def test_granted_gpus_start_a_process_each(results, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(train, "pick_device", lambda devices: "cuda" if devices else "cpu")
    monkeypatch.setattr(jobs, "gpu_count", lambda: 3)
    monkeypatch.setattr(jobs, "spawn", lambda world, work: begun.append((world, work)))
    _fit(results, tmp_path, devices=2, threads=9)
    ((world, work),) = begun
    (job,) = work.args
    assert (world, job.threads, job.of(Place(1, 2, 1))) == (2, 4, "cuda:1")
    _fit(results, tmp_path, devices=8)
    assert begun[1][0] == 3  # more were granted than torch sees
    assert replace(job, device="cpu").of(Place(1, 2, 1)) == "cpu"
