"""Writing h5ad files so that a full disk is one sentence, and looking at HDF5 files before they are trusted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from mistline.core.errors import InputError
from mistline.core.files import atomic_path

if TYPE_CHECKING:
    import anndata

_FREE_BYTES = 2**26  # so much may be asked for without a reason
_MOST = 256  # times what is stored: counts compress to a tenth, never to this
_DEEPEST = 16
_AS_WRITTEN = "use the file as it was written; copy it again"


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


def require_sound(path: Path, item: h5py.Group | h5py.Dataset, depth: int = 0) -> None:
    """Refuse what leads out of an HDF5 file, or would fill memory with what is not in it.

    Args:
        path: the file.
        item: a dataset, or a group with all that lies below.
        depth: of the item; groups may contain themselves.

    Raises:
        InputError: there is a link, a dataset whose values lie in another file, or one that claims to hold far more
            than the file can.
    """
    if isinstance(item, h5py.Dataset):
        _require_stored(path, item)
        return
    if depth > _DEEPEST:
        raise InputError(path, f"{item.name} contains itself", _AS_WRITTEN)
    for name in item:
        if not isinstance(item.get(name, getlink=True), h5py.HardLink):
            raise InputError(path, f"{item.name}/{name} is a link, not a table", _AS_WRITTEN)
        require_sound(path, item[name], depth + 1)


def _require_stored(path: Path, data: h5py.Dataset) -> None:
    if data.is_virtual or data.external:
        raise InputError(path, f"the values of {data.name} lie in another file", _AS_WRITTEN)
    n_bytes, stored = int(data.nbytes), data.id.get_storage_size()
    if n_bytes > _FREE_BYTES and n_bytes > _MOST * stored:
        what = f"{data.name} claims to hold {n_bytes / 1e9:.3g} GB and the file stores {stored} bytes of it"
        raise InputError(path, what, _AS_WRITTEN)
