from __future__ import annotations

import os
from pathlib import Path

import pytest

from mistline.core.errors import InputError
from mistline.core.hashing import hash_file
from mistline.tasks.peers import environment
from mistline.tasks.peers.environment import interpreter, last_line, make, read


@pytest.fixture
def lock(tmp_path) -> Path:
    path = tmp_path / "m.lock"
    path.write_text("")
    return path


@pytest.fixture
def offline(monkeypatch):
    """Make uv look at nothing but an empty folder."""
    monkeypatch.setenv("UV_OFFLINE", "1")


def test_an_environment_is_a_python_of_its_own(lock, tmp_path, offline, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "src")
    found = make("m", lock, tmp_path / "an envirönment")
    if found.reason and "uv is not there" in found.reason:
        pytest.skip(found.reason)
    assert found.reason is None
    assert (found.method, found.lock_sha256, found.packages) == ("m", hash_file(lock), {})
    assert interpreter(tmp_path / "an envirönment").exists()


def test_what_cannot_be_installed_is_a_reason_and_leaves_nothing(lock, tmp_path, offline):
    lock.write_text("no-such-package-of-mistline==1.0 --hash=sha256:" + "0" * 64 + "\n")
    found = make("m", lock, tmp_path / "e")
    assert found.reason is not None
    assert found.reason.startswith("cannot be installed: ")
    assert os.listdir(tmp_path / "e") == []


def test_a_registry_that_does_not_answer_is_the_reason_and_is_not_named(lock, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    lock.write_text("no-such-package-of-mistline==1.0 --hash=sha256:" + "0" * 64 + "\n")
    reason = make("m", lock, tmp_path / "e").reason
    assert reason is not None
    assert reason.startswith("cannot be installed: ")
    assert "127.0.0.1" not in reason
    assert "//" not in reason


def test_without_uv_the_reason_says_so(lock, tmp_path, monkeypatch):
    monkeypatch.setattr(environment.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make("m", lock, tmp_path / "e").reason == "cannot be installed: uv is not there to install it with"


def test_a_missing_lock_is_an_error(tmp_path):
    with pytest.raises(InputError, match="make peers-lock"):
        make("m", tmp_path / "no.lock", tmp_path / "e")


def test_a_status_that_is_none_is_an_error(tmp_path):
    (tmp_path / "s.json").write_text('{"other": 1}')
    with pytest.raises(InputError, match="not the state of an environment"):
        read(tmp_path / "s.json")


def test_the_last_line_is_short_and_without_paths(tmp_path):
    assert last_line("a\nb \n\n") == "b"
    assert last_line("") == "no message"
    assert last_line(f"in {tmp_path}/x and {tmp_path}", tmp_path) == f"in x and {tmp_path.name}"
    assert len(last_line("x" * 1000)) == 300
