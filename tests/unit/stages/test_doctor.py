from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError

import pytest
import typer

from mistline.stages import doctor
from tests.conftest import REPOSITORY


def test_a_healthy_machine(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 0)
    monkeypatch.setattr(doctor, "MIN_MEMORY_GB", 0)
    doctor.run()
    told = capsys.readouterr().out
    for name in ("python", "numpy", "cores", "memory", "gpu", "free disk", "file locks", "sbatch", "chromium"):
        assert re.search(rf"^(ok|absent) +{name} ", told, re.MULTILINE), name
    assert told.endswith("Everything required is here.\n")


def test_a_missing_package_fails_with_its_remedy(capsys, monkeypatch):
    real = doctor.version

    def version(name):
        if name == "lmdb":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    with pytest.raises(typer.Exit) as caught:
        doctor.run()
    assert caught.value.exit_code == 1
    assert re.search(r"^missing +lmdb +not installed +-> run `make`", capsys.readouterr().out, re.MULTILINE)


def test_a_full_disk_and_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 10**9)
    findings = {finding.name: finding for finding in doctor.examine(tmp_path)}
    assert findings["free disk"].state == "missing"
    assert findings["results folder"].state == "ok"
    gone = doctor._writable("results folder", tmp_path / "nowhere", "change")
    assert (gone.state, gone.remedy) == ("missing", "change")


def test_what_is_optional_does_not_fail(monkeypatch):
    monkeypatch.setenv("PATH", "")
    findings = {finding.name: finding for finding in (doctor._gpu(), doctor._program("sbatch", ("sbatch",), "slurm"))}
    assert {finding.state for finding in findings.values()} == {"absent"}
    assert "CPU" in findings["gpu"].remedy


def test_packages_are_those_of_the_project():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert sorted(re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]) == sorted(doctor.PACKAGES)


def test_imports_nothing_heavy():
    code = "import mistline.stages.doctor, sys; sys.exit(bool({'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
