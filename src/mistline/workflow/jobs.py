"""The jobs of a config as Snakemake itself sees them: a dry run in this process, heard through its log events."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistline.core.errors import ConfigError

SNAKEFILE = Path(__file__).resolve().parents[3] / "Snakefile"
_MANY = 2**20  # cores of the dry run: a job is shown with the threads that its rule asks for


@dataclass(frozen=True, slots=True)
class Job:
    """A job that remains to be done.

    Args:
        rule: its rule.
        wildcards: name -> value.
        inputs: files it reads.
        outputs: files and folders it writes.
        logs: where it writes what it says.
        benchmark: where Snakemake writes what it took; none of rules that only gather.
        threads: cores it asks for.
        mem_mb: megabytes it asks for.
        gpu: GPUs it asks for.
        runtime_min: minutes it asks for; 0 where it names none.
        command: the command line.
    """

    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    logs: tuple[str, ...]
    benchmark: str | None
    threads: int
    mem_mb: int
    gpu: int
    runtime_min: int
    command: str


def planned_jobs(config: Path, target: str, folder: Path, *, everything: bool = False) -> list[Job]:
    """Return the jobs of a target, each after those it depends on; nothing is run.

    Args:
        config: the user's config.yaml.
        target: a target of the Snakefile, or a file.
        folder: the working directory, whose results count as made.
        everything: count what is made already, too.

    Raises:
        ConfigError: Snakemake refuses the config or the target, or there is no Snakefile.
    """
    if not SNAKEFILE.is_file():
        raise ConfigError(str(SNAKEFILE), "no such file", "run this from a checkout of the repository")
    from snakemake.api import SnakemakeApi  # takes a second to import
    from snakemake.settings import types

    with _heard() as heard, SnakemakeApi(types.OutputSettings(dryrun=True, quiet={types.Quietness.ALL})) as api:
        config_settings = types.ConfigSettings(configfiles=[config.resolve()])
        try:
            workflow = api.workflow(
                types.ResourceSettings(cores=_MANY), config_settings, snakefile=SNAKEFILE, workdir=folder
            )
            dag = workflow.dag(types.DAGSettings(targets={target}, forceall=everything))
            dag.execute_workflow("dryrun", execution_settings=types.ExecutionSettings(lock=False))
        except Exception as error:  # whatever it stops at: a rule's function, too
            raise ConfigError(str(config), " ".join(str(error).split()), "correct the config") from error
    return [_job(record) for record in heard if record.benchmark]


class _Listener(logging.Handler):
    """Keeps the records that tell of a job."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "rule_name") and hasattr(record, "shellcmd"):
            self.records.append(record)


@contextmanager
def _heard() -> Iterator[Sequence[Any]]:
    """Listen to Snakemake, and keep what it prints away from ours."""
    logger, listener = logging.getLogger("snakemake"), _Listener()
    logger.addHandler(listener)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield listener.records
    finally:
        logger.removeHandler(listener)


def _job(record: Any) -> Job:
    resources = record.resources
    return Job(
        rule=record.rule_name,
        wildcards=dict(record.wildcards),
        inputs=tuple(record.input),
        outputs=tuple(record.output),
        logs=tuple(record.log),
        benchmark=record.benchmark,
        threads=record.threads,
        mem_mb=resources.get("mem_mb", 0),
        gpu=resources.get("gpu", 0),
        runtime_min=resources.get("runtime", 0),
        command=record.shellcmd,
    )
