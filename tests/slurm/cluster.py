"""A run of Snakemake on the cluster, and what SLURM says about its jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import REPOSITORY

LONGEST_S = 1200  # a run that takes longer hangs
LONGEST_NIGHTLY_S = 4 * 3600
FIELDS = "JobID:20|,Partition:40|,State:30|,MinMemory:20|,NumCPUs:10|,tres-per-job:80|,Comment:250"


@dataclass(frozen=True)
class Job:
    """One job, as squeue last showed it."""

    number: int
    partition: str
    state: str
    memory_mb: float
    cpus: int
    gpus: str
    rule: str


def read_jobs(text: str) -> list[Job]:
    """Read squeue's lines in the order of FIELDS."""
    jobs = []
    for line in filter(str.strip, text.splitlines()):
        number, partition, state, memory, cpus, gpus, comment = (word.strip() for word in line.split("|"))
        rule = comment.removeprefix("rule_").split("_wildcards_")[0]
        jobs.append(Job(int(number), partition, state, megabytes(memory), int(cpus), gpus, rule))
    return jobs


def megabytes(text: str) -> float:
    """Turn SLURM's 1500M or 2G into megabytes."""
    number, unit = re.fullmatch(r"([\d.]+)([MG]?)", text).groups()
    return float(number) * (1024 if unit == "G" else 1)


def ask(*command: str) -> str:
    """Return what a SLURM command prints."""
    return subprocess.run(command, text=True, capture_output=True, check=True, timeout=60).stdout


@dataclass
class Run:
    """`snakemake` with these words, started in the repository's root as a user starts it."""

    words: tuple[str, ...]
    log: Path
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] = field(init=False)
    jobs: dict[int, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "SLURM_"))}
        environment |= self.variables
        command = [sys.executable, "-m", "snakemake", *self.words]
        with open(self.log, "wb") as stream:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def name(self) -> str:
        """The name all jobs of this run have in the queue; empty before the first is sent."""
        found = re.search(r"SLURM run ID: (\S+)", self.output)
        return found[1] if found else ""

    def look(self) -> None:
        """Ask the queue about this run's jobs; what it has forgotten is kept as last seen."""
        if self.name:
            text = ask("squeue", "--noheader", "--states=all", f"--name={self.name}", f"--Format={FIELDS}")
            self.jobs |= {job.number: job for job in read_jobs(text)}

    def of(self, rule: str) -> list[Job]:
        """Return a rule's jobs, oldest first."""
        return [job for number, job in sorted(self.jobs.items()) if job.rule == rule]

    def finish(self, within_s: float = LONGEST_S) -> int:
        """Wait for the end and return the exit status."""
        self.watch(lambda: self.process.poll() is not None, within_s)
        self.look()
        return self.process.returncode

    def running(self, rule: str) -> Job:
        """Wait until a job of this rule runs, and return it."""
        self.watch(lambda: any(job.state == "RUNNING" for job in self.of(rule)), LONGEST_S)
        return next(job for job in self.of(rule) if job.state == "RUNNING")

    def watch(self, is_so: Callable[[], bool], within_s: float) -> None:
        """Look at the queue until something is so.

        Raises:
            AssertionError: it is not so in time, or the run ended without it.
        """
        deadline = time.monotonic() + within_s
        while not is_so():
            assert time.monotonic() < deadline, f"not within {within_s} s\n{self.output}"
            ended = self.process.poll() is not None
            self.look()
            assert not ended or is_so(), self.output
            time.sleep(1)

    def close(self) -> None:
        """End what a failed test left: Snakemake, and its jobs in the queue."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.name:
            subprocess.run(["scancel", f"--name={self.name}"], timeout=60)
