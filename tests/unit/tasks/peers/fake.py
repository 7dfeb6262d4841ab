"""An environment and a method that are none: this Python, and a script that a test writes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from mistline.tasks.peers import run
from mistline.tasks.peers.environment import Environment

EMBED = """
import json, sys
from pathlib import Path
import h5py, numpy as np
folder = Path(sys.argv[1])
with h5py.File(folder / "slide.h5ad") as cells:
    ids, places = cells["obs/_index"].asstr()[:], cells["obsm/spatial"][:]
    ends, values = cells["X/indptr"][:], cells["X/data"][:].astype(float)
totals = np.diff(np.concatenate([[0], np.cumsum(values)])[ends])
rows = np.column_stack([places, totals])
np.savez(folder / "result.npz", cell=ids.astype(str)[::-1], embedding=rows[::-1])
"""
PREDICT = """
import sys
from pathlib import Path
import h5py, numpy as np
folder = Path(sys.argv[1])
with h5py.File(folder / "train.h5ad") as train, h5py.File(folder / "query.h5ad") as query:
    classes, codes = train["obs/label/categories"].asstr()[:].astype(str), train["obs/label/codes"][:]
    ids = query["obs/_index"].asstr()[:].astype(str)
shares = np.bincount(codes, minlength=len(classes)) / len(codes)
np.savez(folder / "result.npz", cell=ids, classes=classes, probability=np.tile(shares, (len(ids), 1)))
"""


def environment(root: Path) -> Path:
    """Write an environment whose Python is this one."""
    python = root / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return root / "environment"


def status(path: Path, reason: str | None = None) -> Path:
    """Write what making it would have left."""
    path.write_text(json.dumps(asdict(Environment("fake", "hash", reason))))
    return path


def method(monkeypatch: pytest.MonkeyPatch, root: Path, text: str) -> None:
    """Put a script in the place of every method's."""
    path = root / "script.py"
    path.write_text(text)
    monkeypatch.setattr(run, "script", lambda name: path)
