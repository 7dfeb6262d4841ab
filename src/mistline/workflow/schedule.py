"""A run simulated on nodes: list scheduling of the jobs by the length of what waits for them."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from mistline.core.errors import ResourceError
from mistline.workflow.jobs import Job


@dataclass(frozen=True, slots=True)
class Nodes:
    """Machines that are all the same.

    Args:
        n: how many.
        cores: of each.
        memory_mb: megabytes of each.
        gpus: of each; with none anywhere, jobs that ask for a GPU run without.
    """

    n: int
    cores: int
    memory_mb: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """When everything would be done.

    Args:
        seconds: from the first job's start to the last one's end.
        busy: share of all cores' time that jobs held.
        critical_s: seconds of the longest chain of jobs, which no number of nodes makes shorter.
        critical: that chain, as indices of jobs.
    """

    seconds: float
    busy: float
    critical_s: float
    critical: tuple[int, ...]


def simulate(jobs: Sequence[Job], seconds: Sequence[float], nodes: Nodes) -> Schedule:
    """Run jobs on nodes, on paper: whenever something ends, what the most waits for begins first.

    Args:
        jobs: each after those it depends on.
        seconds: how long each takes.
        nodes: what they run on.

    Raises:
        ResourceError: a job asks for more than a node has.
    """
    _check_fits(jobs, nodes)
    parents = _parents(jobs)
    children: list[list[int]] = [[] for _ in jobs]
    for index, found in enumerate(parents):
        for parent in found:
            children[parent].append(index)
    tails = [0.0] * len(jobs)
    for index in reversed(range(len(jobs))):
        tails[index] = seconds[index] + max((tails[child] for child in children[index]), default=0.0)
    end_s = _run(jobs, seconds, nodes, tails, parents, children)
    held = sum(min(job.threads, nodes.cores) * taken for job, taken in zip(jobs, seconds, strict=True))
    chain = _longest(tails, parents, children)
    return Schedule(end_s, held / (end_s * nodes.n * nodes.cores) if end_s else 0.0, max(tails, default=0.0), chain)


def _check_fits(jobs: Sequence[Job], nodes: Nodes) -> None:
    for job in jobs:
        if job.mem_mb > nodes.memory_mb:
            what = f"asks for {job.mem_mb:,} MB, and a node has {nodes.memory_mb:,}"
            raise ResourceError(job.outputs[0], what, "plan with more --memory")
        if nodes.gpus and job.gpu > nodes.gpus:
            raise ResourceError(
                job.outputs[0], f"asks for {job.gpu} GPUs, and a node has {nodes.gpus}", "plan with more --gpus"
            )


def _parents(jobs: Sequence[Job]) -> list[set[int]]:
    """Return the jobs whose files a job reads; files that are there already have none."""
    makers = {path: index for index, job in enumerate(jobs) for path in job.outputs}
    return [{makers[path] for path in job.inputs if path in makers} for job in jobs]


def _longest(tails: Sequence[float], parents: Sequence[set[int]], children: Sequence[list[int]]) -> tuple[int, ...]:
    """Return the longest chain, from its first job on."""
    chain: list[int] = []
    nexts = [index for index, found in enumerate(parents) if not found]
    while nexts:
        chain.append(max(nexts, key=lambda index: tails[index]))
        nexts = children[chain[-1]]
    return tuple(chain)


def _run(
    jobs: Sequence[Job],
    seconds: Sequence[float],
    nodes: Nodes,
    tails: Sequence[float],
    parents: Sequence[set[int]],
    children: Sequence[list[int]],
) -> float:
    """Return when the last job ends."""
    free = [[nodes.cores, nodes.memory_mb, nodes.gpus] for _ in range(nodes.n)]
    needs = [_need(job, nodes) for job in jobs]
    waits = [len(found) for found in parents]
    ready = sorted((index for index, count in enumerate(waits) if not count), key=lambda index: -tails[index])
    running: list[tuple[float, int, int]] = []
    now = 0.0
    while ready or running:
        ready = _begin(ready, needs, free, running, now, seconds)
        now, node, index = heapq.heappop(running)
        free[node] = [has + gives for has, gives in zip(free[node], needs[index], strict=True)]
        for child in children[index]:
            waits[child] -= 1
            if not waits[child]:
                bisect.insort(ready, child, key=lambda item: -tails[item])
    return now


def _need(job: Job, nodes: Nodes) -> tuple[int, int, int]:
    """Cores, megabytes and GPUs of a job; Snakemake lowers threads to the cores there are."""
    return min(job.threads, nodes.cores), job.mem_mb, job.gpu if nodes.gpus else 0


def _begin(
    ready: Sequence[int],
    needs: Sequence[tuple[int, int, int]],
    free: list[list[int]],
    running: list[tuple[float, int, int]],
    now: float,
    seconds: Sequence[float],
) -> list[int]:
    """Start what fits, in order, each on the first node that has room; return what still waits."""
    left: list[int] = []
    refused: set[tuple[int, int, int]] = set()
    open_nodes = [node for node, has in enumerate(free) if has[0]]
    for position, index in enumerate(ready):
        if not open_nodes:
            return [*left, *ready[position:]]
        need = needs[index]
        node = None if need in refused else next((node for node in open_nodes if _has_room(free[node], need)), None)
        if node is None:
            refused.add(need)
            left.append(index)
            continue
        free[node] = [there - asked for there, asked in zip(free[node], need, strict=True)]
        heapq.heappush(running, (now + seconds[index], node, index))
        if not free[node][0]:
            open_nodes.remove(node)
    return left


def _has_room(free: Sequence[int], need: tuple[int, int, int]) -> bool:
    return free[0] >= need[0] and free[1] >= need[1] and free[2] >= need[2]
