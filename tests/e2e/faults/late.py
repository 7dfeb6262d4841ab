"""Put in place of `mistline/__main__.py`: what a job made is seen late and out of order, as on a network file system.

The job ends at once. Its outputs then come one after the other: sidecars first, folders before what is in them.
"""

import os
import sys
import time
from pathlib import Path

from mistline.cli import main
from mistline.core.provenance import sidecar

HIDDEN = Path("late")
_PAUSE_S = 0.5


def _hide(outputs: list[Path]) -> list[tuple[Path, Path]]:
    """Move files aside; return (where one lies, where it belongs) in the order in which they will be seen."""
    hidden = []
    for path in sorted(outputs, key=lambda path: not path.name.endswith(".meta.json")):
        aside = HIDDEN / f"{os.getpid()}-{len(hidden)}"
        path.rename(aside)
        hidden.append((aside, path))
    return hidden


def _show(hidden: list[tuple[Path, Path]]) -> None:
    for aside, path in hidden:
        time.sleep(_PAUSE_S)
        path.parent.mkdir(parents=True, exist_ok=True)  # Snakemake removes folders that look empty
        if aside.is_dir():
            path.mkdir()
            time.sleep(_PAUSE_S)
            for item in sorted(aside.iterdir(), reverse=True):
                item.rename(path / item.name)
            aside.rmdir()
        else:
            aside.rename(path)


def _end(code: int, before: set[Path], named: list[Path]) -> None:
    made = [path for path in named if path.exists() and path not in before]
    made += [sidecar(path) for path in made if sidecar(path).exists()]
    HIDDEN.mkdir(exist_ok=True)
    hidden = _hide(made)
    if os.fork() == 0:
        os.setsid()
        _show(hidden)
    os._exit(code)


if __name__ == "__main__":
    words = [Path(word) for word in sys.argv if word.startswith("results/")]
    there = {path for path in words if path.exists()}
    try:
        main()
    except SystemExit as end:
        _end(int(end.code or 0), there, words)
    _end(0, there, words)
