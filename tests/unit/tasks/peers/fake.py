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
import anndata, numpy as np
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
cells = anndata.read_h5ad(folder / "slide.h5ad")
rows = np.column_stack([cells.obsm["spatial"], np.asarray(cells.X.sum(axis=1)).ravel()])
np.savez(folder / "result.npz", cell=np.array(cells.obs_names[::-1], dtype=str), embedding=rows[::-1])
"""
PREDICT = """
import sys
from pathlib import Path
import anndata, numpy as np
folder = Path(sys.argv[1])
train, query = (anndata.read_h5ad(folder / f"{name}.h5ad") for name in ("train", "query"))
shares = train.obs["label"].value_counts(normalize=True).sort_index()
np.savez(folder / "result.npz", cell=np.array(query.obs_names, dtype=str), classes=np.array(shares.index, dtype=str),
         probability=np.tile(shares.to_numpy(), (query.n_obs, 1)))
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
