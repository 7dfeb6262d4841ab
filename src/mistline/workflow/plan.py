"""What a run would take, stage by stage and in all, from its jobs and from measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mistline.config.root import Config
from mistline.workflow.jobs import Job
from mistline.workflow.memory import ASSUMED_CELLS
from mistline.workflow.rates import Cost, Rates, job_cells, variant
from mistline.workflow.schedule import Nodes, Schedule, simulate

_HOUR = 3600


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What the jobs of a stage take; hours and bytes are of those jobs whose like was measured.

    Args:
        stage: the rule.
        jobs: how many.
        gpu_jobs: those of them that ask for a GPU.
        not_measured: those of them that are like no measured job.
        cpu_hours: hours of all cores, at least and at most.
        longest_hours: the longest job from start to end, at least and at most.
        memory_mb: what the largest job asks for.
        disk_gb: what they write.
        beyond: cells of the largest job over those of the largest measured one.
        over_limit: jobs that take longer at least than their rule asks for.
    """

    stage: str
    jobs: int
    gpu_jobs: int
    not_measured: int
    cpu_hours: tuple[float, float]
    longest_hours: tuple[float, float]
    memory_mb: int
    disk_gb: float
    beyond: float
    over_limit: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run takes.

    Args:
        slides: how many.
        cells: of all of them.
        assumed: slides whose sheet announces no cells.
        stages: what each takes, in the order of the line.
        not_measured: stage and variant of jobs that are like no measured one; they count as nothing.
        jobs: those that are planned.
        least_s: seconds of each job at least; 0 where none like it was measured.
        most_s: at most.
    """

    slides: int
    cells: int
    assumed: int
    stages: tuple[StagePlan, ...]
    not_measured: tuple[str, ...]
    jobs: tuple[Job, ...]
    least_s: tuple[float, ...]
    most_s: tuple[float, ...]

    def schedules(self, nodes: Nodes) -> tuple[Schedule, Schedule]:
        """Return the shortest and the longest run on these nodes.

        Raises:
            ResourceError: a job asks for more than a node has.
        """
        return simulate(self.jobs, self.least_s, nodes), simulate(self.jobs, self.most_s, nodes)


def make_plan(jobs: Sequence[Job], config: Config, rates: Rates, cores: int) -> Plan:
    """Return what jobs of a config take, by these rates, where no job has more cores than these."""
    cells = {slide.slide: slide.cells for slide in config.active_slides}
    sizes = [job_cells(job, cells) for job in jobs]
    kinds = [variant(job, config) for job in jobs]
    costs = [
        rates.cost(job.rule, kind, size, min(job.threads, cores))
        for job, kind, size in zip(jobs, kinds, sizes, strict=True)
    ]
    unknown = {
        f"{job.rule} ({kind})" if kind else job.rule
        for job, kind, cost in zip(jobs, kinds, costs, strict=True)
        if cost is None
    }
    names = dict.fromkeys(job.rule for job in jobs)
    return Plan(
        slides=len(cells),
        cells=sum(found or ASSUMED_CELLS for found in cells.values()),
        assumed=sum(not found for found in cells.values()),
        stages=tuple(
            _stage(name, [(job, cost) for job, cost in zip(jobs, costs, strict=True) if job.rule == name])
            for name in names
        ),
        not_measured=tuple(sorted(unknown)),
        jobs=tuple(jobs),
        least_s=tuple(cost.wall_s[0] if cost else 0.0 for cost in costs),
        most_s=tuple(cost.wall_s[1] if cost else 0.0 for cost in costs),
    )


def _stage(name: str, found: Sequence[tuple[Job, Cost | None]]) -> StagePlan:
    costs = [cost for _, cost in found if cost]
    late = [cost and job.runtime_min and cost.wall_s[0] > 60 * job.runtime_min for job, cost in found]
    return StagePlan(
        stage=name,
        jobs=len(found),
        gpu_jobs=sum(job.gpu > 0 for job, _ in found),
        not_measured=len(found) - len(costs),
        cpu_hours=(sum(cost.cpu_s[0] for cost in costs) / _HOUR, sum(cost.cpu_s[1] for cost in costs) / _HOUR),
        longest_hours=(
            max((cost.wall_s[0] for cost in costs), default=0.0) / _HOUR,
            max((cost.wall_s[1] for cost in costs), default=0.0) / _HOUR,
        ),
        memory_mb=max(job.mem_mb for job, _ in found),
        disk_gb=sum(cost.disk_mb for cost in costs) / 1e3,
        beyond=max((cost.beyond for cost in costs), default=0.0),
        over_limit=sum(map(bool, late)),
    )
