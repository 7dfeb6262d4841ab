from __future__ import annotations

import errno
import sys

import pytest

from mistline.core.hdf5 import hdf5_errors


def test_what_hdf5_calls_a_runtime_error_is_the_system_s_own() -> None:
    hooks = sys.excepthook, sys.unraisablehook
    with pytest.raises(OSError, match="No space left") as caught, hdf5_errors():
        raise RuntimeError("Can't decrement id ref count (file write failed: errno = 28, error message = '...')")
    assert caught.value.errno == errno.ENOSPC
    assert (sys.excepthook, sys.unraisablehook) == hooks


def test_another_runtime_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="a bug"), hdf5_errors():
        raise RuntimeError("a bug")
