from __future__ import annotations

import pickle

import pytest

from mistline.core.errors import ConfigError, InputError, MistlineError, OutputError, ResourceError


def test_one_sentence() -> None:
    assert (
        str(InputError("a.parquet", "truncated.", "download it again.")) == "a.parquet: truncated; download it again."
    )


@pytest.mark.parametrize("kind", [InputError, ConfigError, OutputError, ResourceError])
def test_classes_have_their_own_exit_code_and_cross_process_borders(kind: type[MistlineError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a", "b", "c")))
    assert (type(error), str(error)) == (kind, "a: b; c.")
    codes = [item.exit_code for item in (MistlineError, InputError, ConfigError, OutputError, ResourceError)]
    assert len(set(codes)) == len(codes)
    assert not {0, 2} & set(codes)  # 0 is success, 2 a wrong command line
