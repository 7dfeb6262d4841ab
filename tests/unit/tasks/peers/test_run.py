from __future__ import annotations

import json
import os
import time

import pytest

from mistline.core.errors import InputError, ResourceError
from mistline.tasks.peers.exchange import NotRunError
from mistline.tasks.peers.run import Job, identity, run_measured, run_method, scratch
from tests.unit.tasks.peers import fake

RESULT = """
import json, os, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
seen = {"options": job["options"], "seed": job["seed"], "threads": os.environ["OMP_NUM_THREADS"], "path": sys.path,
        "secret": os.environ.get("MISTLINE_SECRET"), "pythonpath": os.environ.get("PYTHONPATH")}
(folder.parent / "seen.json").write_text(json.dumps(seen))
np.savez(folder / "result.npz", a=np.arange(3))
"""


@pytest.fixture
def job(tmp_path):
    return Job("fake", fake.environment(tmp_path), {"C": 1.0}, 7, 2, 5.0)


def folder(tmp_path):
    found = tmp_path / "a földer"
    found.mkdir()
    return found


def test_a_script_gets_its_job_and_nothing_of_ours(job, tmp_path, monkeypatch):
    monkeypatch.setenv("MISTLINE_SECRET", "x")
    monkeypatch.setenv("PYTHONPATH", "src")
    fake.method(monkeypatch, tmp_path, RESULT)
    assert run_method(job, folder(tmp_path))["a"].tolist() == [0, 1, 2]
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert (seen["options"], seen["seed"], seen["threads"]) == ({"C": 1.0}, 7, "2")
    assert seen["secret"] is None
    assert seen["pythonpath"] is None
    assert str(tmp_path) not in seen["path"]


def test_what_a_run_took_is_its_own_and_not_ours(job, tmp_path, monkeypatch):
    ours = bytearray(600 * 2**20)
    fake.method(monkeypatch, tmp_path, "import time\nheld = b'x' * (200 * 2**20)\ntime.sleep(0.5)\n" + RESULT)
    _, spent = run_measured(job, folder(tmp_path))
    del ours
    assert 0.5 < spent.seconds < 30
    assert 200 < spent.peak_mb < 500


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raise ValueError('too few cells.')", "^ValueError: too few cells$"),
        ("import sys; sys.exit('no\\nlonger')", "^longer$"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL; it may need more memory"),
        ("pass", "^it left no result$"),
        ("import sys; open(sys.argv[1] + '/x/y')", r"No such file or directory: 'x/y'"),
    ],
)
def test_what_fails_is_a_reason_without_the_paths_of_this_machine(job, tmp_path, monkeypatch, text, sentence):
    fake.method(monkeypatch, tmp_path, text)
    with pytest.raises(NotRunError, match=sentence) as caught:
        run_method(job, folder(tmp_path))
    assert str(tmp_path) not in str(caught.value)


def test_what_takes_too_long_is_ended_with_its_children(tmp_path, monkeypatch):
    text = "import os, sys, time\nif not os.fork(): open(sys.argv[1] + '/../child', 'w').write(str(os.getpid()))\n"
    fake.method(monkeypatch, tmp_path, text + "time.sleep(60)")
    with pytest.raises(NotRunError, match=r"took more than 0.05 minutes"):
        run_method(Job("fake", fake.environment(tmp_path), {}, 0, 1, 0.05), folder(tmp_path))
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        state = _state(child)
        if state in (None, "Z"):
            return
        time.sleep(0.1)
    pytest.fail(f"the child is still there, in state {state}")


def test_a_run_that_is_ended_from_outside_says_nothing_of_the_method(job, tmp_path, monkeypatch):
    fake.method(monkeypatch, tmp_path, "import os; os.kill(os.getpid(), 15)")
    with pytest.raises(ResourceError, match="was ended by SIGTERM; run it again"):
        run_method(job, folder(tmp_path))


def test_when_we_are_ended_so_is_the_method(job, tmp_path, monkeypatch):
    text = "import os, sys, time\nopen(sys.argv[1] + '/../child', 'w').write(str(os.getpid()))\n"
    fake.method(monkeypatch, tmp_path, text + f"os.kill({os.getpid()}, 15)\ntime.sleep(60)")
    with pytest.raises(SystemExit):
        run_method(job, folder(tmp_path))
    assert _state(int((tmp_path / "child").read_text())) is None


def _state(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def test_an_environment_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(InputError, match="not there any more; run peer-environment again"):
        run_method(Job("fake", tmp_path / "gone", {}, 0, 1, 1.0), folder(tmp_path))


def test_scratch_is_empty_and_gone_afterwards(tmp_path):
    final = tmp_path / "a.parquet"
    left = tmp_path / ".a.parquet.peer"
    left.mkdir()
    (left / "train.h5ad").write_text("of a killed run")
    with pytest.raises(KeyboardInterrupt), scratch(final) as found:
        assert os.listdir(found) == []
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_identity_depends_on_everything_that_changes_a_result():
    found = {identity(*values) for values in (
        ("c", "l", {"a": 1}, 0), ("d", "l", {"a": 1}, 0), ("c", "m", {"a": 1}, 0), ("c", "l", {"a": 2}, 0),
        ("c", "l", {"a": 1}, 1),
    )}  # fmt: skip
    assert len(found) == 5
