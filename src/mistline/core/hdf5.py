"""Writing h5ad files so that a full disk is one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistline.core.files import atomic_path

if TYPE_CHECKING:
    import anndata


def write_h5ad(path: Path, data: anndata.AnnData, **options: Any) -> None:
    """Write an h5ad atomically.

    Args:
        path: the file.
        data: what to write.
        options: of `anndata.AnnData.write_h5ad`.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as part, hdf5_errors():
        data.write_h5ad(part, **options)


@contextmanager
def hdf5_errors() -> Iterator[None]:
    """Raise the system's error that HDF5 met, whatever class HDF5 made of it, and keep HDF5 itself quiet.

    On a full disk every object that cannot be closed writes a traceback of its own to stderr, beside the error that
    is raised anyway.

    Raises:
        OSError: with the system's number.
    """
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda *_: None
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"errno = (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
    finally:
        sys.excepthook, sys.unraisablehook = hooks
