from __future__ import annotations

import errno
import pickle
import re
from pathlib import Path

import pytest

from mistline.core.errors import (
    ConfigError,
    InputError,
    MistlineError,
    OutputError,
    ResourceError,
    parsing,
    system_error,
)


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


@pytest.mark.parametrize(
    ("number", "writing", "kind", "sentence"),
    [
        (errno.ENOSPC, True, OutputError, "out/a: the disk is full; free space"),
        (errno.EDQUOT, False, OutputError, "out/a: the disk is full; free space"),
        (errno.EACCES, True, OutputError, "out/a: no permission to write here; choose a folder"),
        (errno.EROFS, True, OutputError, "out/a: no permission to write here; choose a folder"),
        (errno.EACCES, False, InputError, "out/a: no permission to read it; get read access"),
        (errno.EIO, False, InputError, "out/a: the disk or network file system failed .*; run again"),
        (errno.ESTALE, True, OutputError, "out/a: the disk or network file system failed .*; run again"),
        (errno.ENAMETOOLONG, True, OutputError, "out/a: the name is too long; choose a shorter"),
        (errno.EMFILE, False, ResourceError, "out/a: too many open files; raise the limit"),
        (errno.ENOTDIR, True, OutputError, "out/a: not a directory; remove what is there"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(number, writing, kind, sentence):
    found = system_error(OSError(number, "..."), "out/a", writing=writing)
    assert type(found) is kind
    assert re.match(sentence, str(found))


def test_an_input_that_fails_while_an_output_is_made_is_named_itself():
    error = PermissionError(errno.EACCES, "...", "bundle/cells.parquet")
    assert str(system_error(error, "out/a", writing=True)).startswith("bundle/cells.parquet: no permission to read it;")


def test_what_the_system_did_not_refuse_stays_what_it_is():
    assert system_error(FileNotFoundError(errno.ENOENT, "..."), "a") is None
    assert system_error(OSError("no number"), "a") is None


def test_a_value_of_a_file_stays_on_one_line_and_short() -> None:
    error = InputError("a\nb", "x\x1b[31m" + "y" * 10_000, "look\r")
    assert str(error).startswith(r"a\nb: x\x1b[31myyy")
    assert str(error).endswith(r"yyy; look\r.")
    assert len(str(error)) < 2000


@pytest.mark.parametrize("error", [KeyError("a"), RecursionError(), RuntimeError("bad heap"), MemoryError(), OSError()])
def test_whatever_a_parser_raises_is_one_sentence(error: Exception, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (
        pytest.raises(InputError, match=r"a: damaged \(.+\); copy it again\."),
        parsing(tmp_path / "a", "damaged", "copy it again"),
    ):
        raise error


def test_what_is_told_already_and_what_is_not_there_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ConfigError("a", "b", "c"), FileNotFoundError()):
        with pytest.raises(type(error)) as caught, parsing(tmp_path / "a", "damaged", "copy it again"):
            raise error
        assert caught.value is error
