"""One case: a copy of good files, one of them spoilt, something that reads them, and what came of it.

Cases run in forked children of this process, several one after the other. Each has an alarm, and a child may take
only so much memory; when one is ended by a signal, the cases that it had not begun go on in another.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mistline.cli
from tests.fuzz.formats import STRUCTURED
from tests.fuzz.mutations import change_bytes, swap

REFUSED, UNHARMED, CHANGED, FAILED = "refused", "unharmed", "accepted changed", "failed"
_ALARM_S = 60
_MEMORY = 3 * 2**29  # bytes beside what this process has
_CASES_A_CHILD = 25
_LONGEST_SENTENCE = 5000
_CODES = {3, 4, 5}  # of input, settings, output; being out of memory is no answer to a small file


class WrongError(Exception):
    """What was read although it cannot be right."""


@dataclass(frozen=True)
class Subject:
    """Something that reads a file.

    Args:
        name: shown, and part of every seed.
        base: folder with good files.
        target: the file that is spoilt, relative to it.
        read: reads the files of a folder like `base`, as a command does; may write beside them.
        found: what was read, to be compared with what the good files give; raises `WrongError` where it is wrong.
        guarded: whether a checksum covers the whole file, so that nothing changed may be accepted.
    """

    name: str
    base: Path
    target: str
    read: Callable[[Path], Any]
    found: Callable[[Path, Any], Any]
    guarded: bool = False


@dataclass(frozen=True)
class Verdict:
    """What came of a case."""

    seed: int
    kind: str
    change: str
    told: str


def try_cases(subject: Subject, seeds: Sequence[int], scratch: Path) -> list[Verdict]:
    """Run cases of one subject, the same for the same seeds; seed -1 changes nothing."""
    verdicts: list[Verdict] = []
    waiting = list(seeds)
    while waiting:
        done = _in_child(subject, waiting[:_CASES_A_CHILD], scratch)
        verdicts += done
        waiting = waiting[len(done) :]
    return verdicts


def _in_child(subject: Subject, seeds: Sequence[int], scratch: Path) -> list[Verdict]:
    """Run cases until all are done or one ends the child."""
    scratch.mkdir(parents=True, exist_ok=True)
    results, output = scratch / "verdicts.jsonl", scratch / "output.txt"
    for path in (results, output, scratch / "change.txt"):
        path.write_bytes(b"")
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(subject, seeds, scratch, results, output)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    verdicts = [Verdict(**json.loads(line)) for line in results.read_text().splitlines()]
    if len(verdicts) < len(seeds):
        how = "it hung" if code == -signal.SIGALRM else f"it ended by {signal.Signals(-code).name}" if code < 0 else "?"
        change = (scratch / "change.txt").read_text()
        told = f"{how}\n{output.read_text(errors='replace')[-2000:]}"
        verdicts.append(Verdict(seeds[len(verdicts)], FAILED, change, told))
        shutil.rmtree(scratch / "work", ignore_errors=True)
    return verdicts


def _child(subject: Subject, seeds: Sequence[int], scratch: Path, results: Path, output: Path) -> None:
    """Run the cases and end the process."""
    faulthandler.disable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    written = os.open(output, os.O_RDWR | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, errors="backslashreplace") for number in (1, 2))
    os.fsync = lambda _: None  # type: ignore[assignment]  # nothing here is to outlive the machine
    soft = _size() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (soft, soft))
    with results.open("a", buffering=1) as stream:
        for seed in seeds:
            os.truncate(output, 0)
            signal.alarm(_ALARM_S)
            try:
                verdict = _case(subject, seed, scratch, output)
            except BaseException:  # noqa: BLE001 - a bug of the harness is a failed case, too
                verdict = Verdict(seed, FAILED, "", f"the test itself failed\n{traceback.format_exc()}")
            stream.write(json.dumps(verdict.__dict__) + "\n")
    os._exit(0)


def _size() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _case(subject: Subject, seed: int, scratch: Path, output: Path) -> Verdict:
    work = scratch / "work"
    change = prepare(subject, seed, work)
    (scratch / "change.txt").write_text(change, errors="backslashreplace")
    code = ended(lambda: subject.read(work))
    text = output.read_text(errors="replace")
    kind, told = _judged(subject, work, code, text)
    if kind != FAILED:
        shutil.rmtree(work)
    else:
        kept = scratch / f"failed-{seed}"
        shutil.rmtree(kept, ignore_errors=True)
        work.rename(kept)
    return Verdict(seed, kind, change, told)


def prepare(subject: Subject, seed: int, work: Path) -> str:
    """Make the files of a case; return how the target was changed."""
    chance = random.Random(f"{subject.name} {seed}")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(subject.base, work, symlinks=True, copy_function=os.link)
    target = work / subject.target
    if seed < 0:
        return "nothing"
    structured = STRUCTURED.get(target.suffix)
    if structured is not None and chance.random() < 0.5:
        return structured(target, chance)
    others = sorted(item for item in target.parent.rglob("*") if item.is_file() and item != target)
    return swap(target, others, chance) if others and chance.random() < 0.08 else change_bytes(target, chance)


_RESULT: list[Any] = []


def ended(call: Callable[[], Any]) -> int:
    """Run something as the command line runs a stage; return the exit code."""
    _RESULT.clear()
    sys.argv = ["mistline", "stage"]
    mistline.cli.app = lambda: _RESULT.append(call())  # type: ignore[assignment]
    try:
        mistline.cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException as error:  # noqa: BLE001 - as the interpreter does
        traceback.print_exception(error)
        return 1
    return 0


def _judged(subject: Subject, work: Path, code: int, text: str) -> tuple[str, str]:
    if "Traceback" in text or "Exception ignored" in text:
        return FAILED, text[-4000:]
    if code:
        return _sentence(code, text)
    try:
        found = subject.found(work, _RESULT[0])
    except WrongError as error:
        return FAILED, f"wrong success: {error}"
    told = json.dumps(found, sort_keys=True)
    expected = subject.base.parent / f"{re.sub(r'[^A-Za-z0-9.]+', '-', subject.name)}.expected.json"
    if not expected.exists():  # the first case of a subject: nothing was changed
        expected.write_text(told)
    if told == expected.read_text():
        return UNHARMED, ""
    return (FAILED, "wrong success: a checksum covers what was changed") if subject.guarded else (CHANGED, "")


def _sentence(code: int, text: str) -> tuple[str, str]:
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if code not in _CODES:
        return FAILED, f"exit code {code}\n{text[-3000:]}"
    if len(errors) != 1 or lines[-1] != errors[0] or len(errors[0]) > _LONGEST_SENTENCE:
        return FAILED, f"not one sentence\n{text[-3000:]}"
    return REFUSED, errors[0]


def failures(subject: Subject, verdicts: Sequence[Verdict], scratch: Path) -> str:
    """Return what a person needs of the failed cases."""
    return "\n\n".join(
        f"{subject.name}, seed {item.seed}: {item.change}\n{item.told}\n"
        f"again: python -m tests.fuzz {subject.name!r} {item.seed}; its files: {scratch / f'failed-{item.seed}'}"
        for item in verdicts
        if item.kind == FAILED
    )


def counted(verdicts: Sequence[Verdict]) -> Counter[str]:
    """Return how many cases ended in which way."""
    return Counter(item.kind for item in verdicts)
