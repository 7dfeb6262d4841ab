"""Files of every kind, spoilt in every way: each is refused in a sentence, or read as what it still is."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.cases import FAILED, UNHARMED, Subject, counted, failures, try_cases
from tests.fuzz.subjects import GROUPS

N_CASES, N_NIGHTLY = 3, 80  # of each file and reader


@pytest.mark.timeout(12 * 3600)  # each case has an alarm
@pytest.mark.parametrize("group", GROUPS)
def test_spoilt_files(group: str, nightly: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    subjects = list(GROUPS[group](tmp_path / "good/all"))
    gc.freeze()  # children share what is here, as long as nobody looks at it all
    found: Counter[str] = Counter()
    told = []
    for subject in subjects:
        counts, failed = _tried(subject, N_NIGHTLY if nightly else N_CASES, tmp_path / "cases")
        found += counts
        told += failed
        request.node.user_properties.append(("fuzz", [subject.name, dict(counts)]))
    assert not told, f"{found[FAILED]} of {found.total()} cases\n\n" + "\n\n".join(told)


def _tried(subject: Subject, n: int, scratch: Path) -> tuple[Counter[str], list[str]]:
    """Try the good files once, then `n` spoilt ones; return how they ended, and what is told of failures."""
    sound, *verdicts = try_cases(subject, range(-1, n), scratch)
    assert sound.kind == UNHARMED, f"{subject.name}: {sound.told}"
    told = failures(subject, verdicts, scratch)
    return counted(verdicts), [told] if told else []
