"""Starting a published method's script in its own environment."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mistline.core.errors import InputError, ResourceError
from mistline.core.files import remove, writing
from mistline.core.hashing import hash_json
from mistline.tasks.peers.environment import interpreter, last_line
from mistline.tasks.peers.exchange import NotRunError, Result, read_result

logger = logging.getLogger("mistline.tasks")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_FROM_OUTSIDE = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
_POLL = 0.1  # seconds between two looks at the memory of a run
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a method.

    Args:
        method: its script is `run_<method>.py`.
        environment: folder of its environment.
        options: the method's settings.
        seed: of its draws.
        threads: CPU threads.
        max_minutes: after which it is ended.
    """

    method: str
    environment: Path
    options: Mapping[str, Any]
    seed: int
    threads: int
    max_minutes: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run took.

    Args:
        seconds: of the clock, the start of its Python and its imports included.
        peak_mb: of its own process: the most memory that was seen; 0 where the system does not tell.
    """

    seconds: float
    peak_mb: float


def script(method: str) -> Path:
    """Return a method's script."""
    return Path(__file__).with_name(f"run_{method}.py")


def modules(method: str) -> tuple[str, ...]:
    """Return what `code_digest` must look at beside the stage: it is started, not imported."""
    return (f"mistline.tasks.peers.run_{method}",)


def identity(code: str, lock_sha256: str, settings: Mapping[str, Any], seed: int) -> str:
    """Return the hash that stands for a trained method, as that of the weights does for a model."""
    return hash_json({"code": code, "lock": lock_sha256, "settings": dict(settings), "seed": seed})


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Yield an empty folder beside an output; it is gone afterwards, and so is what a killed run left in it."""
    folder = beside.with_name(f".{beside.name}.peer")
    remove(folder)
    with writing(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def run_method(job: Job, folder: Path) -> Result:
    """Run a method on the files in a folder.

    Args:
        job: what to run.
        folder: holds the h5ad files of its input; job.json, output.txt and result.npz are written there.

    Raises:
        InputError: its environment is not there any more.
        ResourceError: it was ended from outside, which says nothing of the method.
        NotRunError: it failed, took too long or left no result.
    """
    return run_measured(job, folder)[0]


def run_measured(job: Job, folder: Path) -> tuple[Result, Spent]:
    """Run a method as `run_method` does, and return what it took as well."""
    started = time.perf_counter()
    python = interpreter(job.environment.absolute())
    if not python.exists():
        raise InputError(job.environment, "the environment is not there any more", "run peer-environment again")
    about = {"options": dict(job.options), "seed": job.seed, "threads": job.threads}
    (folder / "job.json").write_text(json.dumps(about, sort_keys=True), encoding="utf-8")
    # -I: neither the folder of the script nor this package's are on its path.
    command = [str(python), "-I", str(script(job.method)), str(folder.absolute())]
    around = {name: os.environ[name] for name in _KEPT if name in os.environ}
    around |= dict.fromkeys(_THREADS, str(job.threads)) | {
        "MPLBACKEND": "Agg",
        "NUMBA_CACHE_DIR": str(folder.absolute()),
    }
    output = folder / "output.txt"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=around, cwd=folder, start_new_session=True
        )
        code, peak_mb = _wait(process, job.max_minutes)
    spent = Spent(round(time.perf_counter() - started, 3), round(peak_mb, 1))
    said = output.read_text(encoding="utf-8", errors="replace")
    if code != 0:
        logger.warning("%s ended with %s\n%s", job.method, code, said[-4000:])
        if code is None:
            raise NotRunError(f"took more than {job.max_minutes:g} minutes")
        if code in _FROM_OUTSIDE:
            raise ResourceError(job.method, f"was ended by {signal.Signals(-code).name}", "run it again")
        if code < 0:
            raise NotRunError(f"was ended by {signal.Signals(-code).name}; it may need more memory")
        raise NotRunError(last_line(said, folder.absolute(), job.environment.absolute()))
    return read_result(folder / "result.npz"), spent


def _wait(process: subprocess.Popen[bytes], minutes: float) -> tuple[int | None, float]:
    """Return the exit code, None where the time is up, and peak MB; an interrupted run leaves no process behind."""
    before = signal.signal(signal.SIGTERM, _leave)  # the usual way would end this process at once, and not that one
    until, peak = time.monotonic() + 60 * minutes, 0.0
    try:
        while time.monotonic() < until:
            peak = max(peak, _peak_mb(process.pid))
            with suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=_POLL), peak
        return None, peak
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _peak_mb(pid: int) -> float:
    """Return the most memory a process has had so far; 0 where it has none any more, or nothing tells.

    What the system tells of ended children begins with the memory of the process that started them.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
